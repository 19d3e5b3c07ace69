package container

import (
	"context"
	"errors"

	"slipway/container/rootfs"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// openRunning opens the root that the main process of a run sees.
func (*Manager) openRunning(ctx context.Context, _ *container, r *run) (*rootfs.Root, func() error, error) {
	root, err := rootfs.OpenProcess(int(r.task.Pid()))
	if err != nil {
		return nil, nil, err
	}
	// Asked after that: had it ended before, its number might be that of a process
	// of the host by now.
	if r.hasEnded(ctx) {
		return nil, nil, errors.Join(errRunEnded, root.Close())
	}
	return root, func() error { return nil }, nil
}

// openStopped mounts the root of a container that does not run, with its volumes.
func (m *Manager) openStopped(ctx context.Context, c *container) (*rootfs.Root, func() error, error) {
	path, err := m.layers.mount(ctx, c.id)
	if err != nil {
		return nil, nil, err
	}
	view, drop, err := m.mountView(ctx, c, path)
	if err != nil {
		return nil, nil, errors.Join(err, m.layers.release(c.id))
	}
	release := func() error { return errors.Join(drop(), m.layers.release(c.id)) }
	root, err := rootfs.Open(view)
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	return root, release, nil
}

// ownerOf finds the numbers of a user in the container's own files.
func ownerOf(root *rootfs.Root, user string) (*rootfs.Owner, error) {
	found, err := root.LookupUser(user, nil)
	if err != nil {
		return nil, err
	}
	return &rootfs.Owner{UID: found.UID, GID: found.GID}, nil
}

// changes lists what a container changed in its image's files.
func (m *Manager) changes(ctx context.Context, c *container, exclude []string) ([]mobycontainer.FilesystemChange, error) {
	upper, lowers, err := m.layers.dirs(ctx, c.id)
	if err != nil {
		return nil, err
	}
	return rootfs.Changes(ctx, upper, lowers, exclude)
}
