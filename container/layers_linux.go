package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// path is where the root of container id is mounted when it is.
func (l *layers) path(id string) string {
	return filepath.Join(l.mounts, id)
}

func (l *layers) mountRoot(ctx context.Context, id string) (string, error) {
	path := l.path(id)
	if mounted, err := isMountPoint(path); err != nil || mounted {
		return path, err
	}
	mounts, err := l.snapshotter().Mounts(ctx, id)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	return path, mount.All(mounts, path)
}

func (l *layers) unmount(id string) error {
	path := l.path(id)
	// Detached, also when somebody looks into it at this moment.
	if err := mount.UnmountAll(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting the root of container %s: %w", id, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// dirs returns the writable layer's directory and those under it, top first.
func (l *layers) dirs(ctx context.Context, id string) (upper string, lowers []string, err error) {
	mounts, err := l.snapshotter().Mounts(ctx, id)
	if err != nil {
		return "", nil, err
	}
	m := mounts[len(mounts)-1]
	if m.Type == "bind" { // an image without layers
		return m.Source, nil, nil
	}
	for _, option := range m.Options {
		if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
			upper = dir
		}
		if list, ok := strings.CutPrefix(option, "lowerdir="); ok {
			lowers = strings.Split(list, ":")
		}
	}
	if upper == "" {
		return "", nil, fmt.Errorf("the layer of container %s has no directory of its own: %w", id, errdefs.ErrInternal)
	}
	return upper, lowers, nil
}

func isMountPoint(path string) (bool, error) {
	mounted, err := mountinfo.Mounted(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}
