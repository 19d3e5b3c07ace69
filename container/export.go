package container

import (
	"context"
	"errors"
	"fmt"
	"io"

	"slipway/container/rootfs"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
)

// Export writes the container's root as a tar archive, in which volumes and other
// mounts are empty, as in Docker. The container may run meanwhile, stop, or start.
func (m *Manager) Export(ctx context.Context, ref string, w io.Writer) (err error) {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	v, err := m.openOwn(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	if err := v.root.Export(v.ctx, w); err != nil {
		return fmt.Errorf("Error exporting container %s: %w", c.id, err) //nolint:staticcheck // Docker's words
	}
	m.publish(c, mobyevents.ActionExport, nil)
	return nil
}

// openOwn gives access to the container's own files, without what is mounted
// there while it runs.
func (m *Manager) openOwn(ctx context.Context, c *container) (*view, error) {
	unlock, err := m.share(ctx, c, "export")
	if err != nil {
		return nil, err
	}
	defer unlock()
	switch c.status() {
	case mobycontainer.StateDead:
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("You cannot export container %s which is Dead", c.id))
	case mobycontainer.StateRemoving:
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("You cannot export container %s which is being removed", c.id))
	default:
	}
	path, err := m.layers.mount(ctx, c.id)
	if err != nil {
		return nil, err
	}
	release := func() error { return m.layers.release(c.id) }
	root, err := rootfs.Open(path)
	if err != nil {
		return nil, errors.Join(err, release())
	}
	return newView(ctx, c.files, root, release), nil
}
