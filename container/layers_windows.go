package container

import (
	"context"
	"errors"
	"fmt"

	"slipway/layerstore/dirs"

	"github.com/containerd/errdefs"
)

// path is the directory of a root that is mounted.
func (l *layers) path(id string) string { return l.ref(id).path }

// mountRoot finds the root, which is the snapshot's own directory: nothing is mounted.
func (l *layers) mountRoot(ctx context.Context, id string) (string, error) { return l.dir(ctx, id) }

func (*layers) unmount(string) error { return nil }

// dir is the directory of a snapshot.
func (l *layers) dir(ctx context.Context, key string) (string, error) {
	mounts, err := l.snapshotter().Mounts(ctx, key)
	if err != nil {
		return "", err
	}
	return dirs.Tree(mounts)
}

// dirs returns the directory of the container's files. There are none under it: it holds a whole tree.
func (l *layers) dirs(ctx context.Context, id string) (upper string, lowers []string, err error) {
	upper, err = l.dir(ctx, id)
	return upper, nil, err
}

// parent returns the directory of the snapshot that a container was made on. It stays as it is until release.
func (l *layers) parent(ctx context.Context, id, chain string) (dir string, release func() error, err error) {
	suffix, err := newID()
	if err != nil {
		return "", nil, err
	}
	key := id + "-diff-" + suffix[:12]
	mounts, err := l.snapshotter().View(ctx, key, chain)
	if err != nil {
		return "", nil, err
	}
	release = func() error {
		if err := l.snapshotter().Remove(context.WithoutCancel(ctx), key); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing a view: %w", err)
		}
		return nil
	}
	if dir, err = dirs.Tree(mounts); err != nil {
		return "", nil, errors.Join(err, release())
	}
	return dir, release, nil
}
