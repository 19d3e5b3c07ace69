package container

import (
	"context"
	"errors"

	"slipway/container/rootfs"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// openRunning opens the same directory as if the container did not run: it is what its processes see.
func (m *Manager) openRunning(ctx context.Context, c *container, _ *run) (*rootfs.Root, func() error, error) {
	return m.openStopped(ctx, c)
}

// openStopped opens the container's directory, with its volumes at their places.
func (m *Manager) openStopped(ctx context.Context, c *container) (*rootfs.Root, func() error, error) {
	path, err := m.layers.mount(ctx, c.id)
	if err != nil {
		return nil, nil, err
	}
	suffix, err := newID()
	if err != nil {
		return nil, nil, errors.Join(err, m.layers.release(c.id))
	}
	user := c.id[:12] + "-" + suffix[:12]
	var used []Mount
	release := func() error {
		var errs []error
		for _, p := range used {
			errs = append(errs, m.cfg.Volumes.Unmount(context.WithoutCancel(ctx), user, p))
		}
		return errors.Join(append(errs, m.layers.release(c.id))...)
	}
	var mounts []rootfs.Mount
	for _, p := range c.record.Load().Mounts {
		source, err := m.cfg.Volumes.Mount(ctx, user, p)
		if err != nil {
			return nil, nil, errors.Join(err, release())
		}
		used = append(used, p)
		mounts = append(mounts, rootfs.Mount{Path: p.Destination, Source: source, ReadOnly: !p.RW})
	}
	root, err := rootfs.Open(path, mounts...)
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	return root, release, nil
}

// ownerOf returns none: Windows' owners have no numbers.
func ownerOf(*rootfs.Root, string) (*rootfs.Owner, error) { return nil, nil }

// givenDirs are the folders that the shim makes in every container, for its environment to point to.
var givenDirs = []string{`C:\Users\ContainerUser\AppData\Roaming`, `C:\Users\ContainerUser\AppData\Local\Temp`}

// changes lists what a container changed in its image's files.
func (m *Manager) changes(ctx context.Context, c *container, exclude []string) ([]mobycontainer.FilesystemChange, error) {
	upper, err := m.layers.dir(ctx, c.id)
	if err != nil {
		return nil, err
	}
	info, err := m.layers.snapshotter().Stat(ctx, c.id)
	if err != nil {
		return nil, err
	}
	lower := ""
	if info.Parent != "" {
		// A view has no directory of its own, it is the parent's.
		var release func() error
		if lower, release, err = m.layers.parent(ctx, c.id, info.Parent); err != nil {
			return nil, err
		}
		defer func() { m.logged(ctx, c, "removing the view of the parent failed", release()) }()
	}
	return rootfs.Changes(ctx, lower, upper, exclude, givenDirs)
}
