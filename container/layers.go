package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"slipway/internal/failpoint"
	"slipway/internal/span"
	"slipway/layerstore"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// gcRoot is containerd's label for what its garbage collector must keep.
const gcRoot = "containerd.io/gc.root"

// layers keeps the containers' writable layers: one containerd snapshot for
// each, whose key is the container's id, mounted while something needs its files.
// It is safe for concurrent use.
type layers struct {
	client *containerd.Client
	mounts string // directory of mount points

	mu   sync.Mutex
	refs map[string]int // users of a mounted root, by id
	busy map[string]*sync.Mutex
}

func (l *layers) snapshotter() snapshots.Snapshotter {
	return l.client.SnapshotService(layerstore.Snapshotter)
}

// prepare makes the writable layer of container id on top of the chain. It lasts
// through a loss of power.
func (l *layers) prepare(ctx context.Context, id, chain string) error {
	defer span.Start(ctx, "prepare snapshot")()
	mounts, err := l.snapshotter().Prepare(ctx, id, chain, snapshots.WithLabels(map[string]string{
		gcRoot: time.Now().UTC().Format(time.RFC3339),
	}))
	if err == nil {
		if err = layerstore.SyncSnapshot(mounts); err != nil {
			err = errors.Join(err, l.remove(ctx, id))
		}
	}
	failpoint.Hit("container.layer.prepared")
	return err
}

// remove deletes the writable layer. It is no error if there is none.
func (l *layers) remove(ctx context.Context, id string) error {
	defer span.Start(ctx, "remove snapshot")()
	failpoint.Hit("container.layer.remove")
	if err := l.snapshotter().Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// path is where the root of container id is mounted when it is.
func (l *layers) path(id string) string {
	return filepath.Join(l.mounts, id)
}

// lockOf serialises mounting and unmounting of one root, so that two users of
// one container do not both mount it, while other containers do not wait.
func (l *layers) lockOf(id string) *sync.Mutex {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs == nil {
		l.refs, l.busy = map[string]int{}, map[string]*sync.Mutex{}
	}
	if l.busy[id] == nil {
		l.busy[id] = new(sync.Mutex)
	}
	return l.busy[id]
}

// mount makes the root of container id available at the returned path until
// release is called as often as mount. A root that a daemon before this one
// mounted is adopted.
func (l *layers) mount(ctx context.Context, id string) (path string, err error) {
	defer span.Start(ctx, "mount root")()
	lock := l.lockOf(id)
	lock.Lock()
	defer lock.Unlock()
	path = l.path(id)
	if l.count(id, 0) == 0 {
		if err := l.mountRoot(ctx, id, path); err != nil {
			return "", fmt.Errorf("mounting the root of container %s: %w", id, err)
		}
	}
	l.count(id, 1)
	return path, nil
}

func (l *layers) mountRoot(ctx context.Context, id, path string) error {
	if mounted, err := isMountPoint(path); err != nil || mounted {
		return err
	}
	mounts, err := l.snapshotter().Mounts(ctx, id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return mount.All(mounts, path)
}

// release ends one use of the root, and unmounts it after the last.
func (l *layers) release(id string) error {
	lock := l.lockOf(id)
	lock.Lock()
	defer lock.Unlock()
	if l.count(id, -1) > 0 {
		return nil
	}
	return l.unmount(id)
}

// forget unmounts the root whoever uses it, for a container that is removed.
func (l *layers) forget(id string) error {
	lock := l.lockOf(id)
	lock.Lock()
	defer lock.Unlock()
	err := l.unmount(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.refs, id)
	delete(l.busy, id)
	return err
}

func (l *layers) unmount(id string) error {
	path := l.path(id)
	if err := mount.UnmountAll(path, detach); err != nil {
		return fmt.Errorf("unmounting the root of container %s: %w", id, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// count adds to the number of users of a mounted root and returns it.
func (l *layers) count(id string, delta int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refs[id] = max(l.refs[id]+delta, 0)
	return l.refs[id]
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

func joinDirs(dirs []string) string { return strings.Join(dirs, ":") }
