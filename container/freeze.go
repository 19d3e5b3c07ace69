package container

import (
	"context"
	"errors"
	"fmt"

	"slipway/internal/span"
	"slipway/shim"

	"github.com/containerd/errdefs"
)

// standStill freezes all processes of a run for a moment, and returns what lets
// them go on, also when the client has gone away. Clients do not see the
// container as paused. If it fails, nothing stays frozen. It returns errRunEnded
// if there is nothing to freeze any more.
func (m *Manager) standStill(ctx context.Context, r *run) (goOn func() error, err error) {
	defer span.Start(ctx, "freeze")()
	defer func() {
		if err != nil && r.ending(context.WithoutCancel(ctx)) {
			err = errRunEnded
		}
	}()
	f, err := m.freezer(ctx, r)
	if errdefs.IsNotFound(err) || errdefs.IsNotImplemented(err) {
		return func() error { return m.thaw(ctx, r) }, m.freeze(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, pauseTimeout, errors.New("freezing the container's processes took too long"))
	defer cancel()
	return f.Thaw, f.Freeze(ctx)
}

// freezer is that of a run's control group.
func (m *Manager) freezer(ctx context.Context, r *run) (*shim.Freezer, error) {
	spec, err := r.task.Spec(ctx)
	if err != nil {
		return nil, err
	}
	if spec.Linux == nil {
		return nil, fmt.Errorf("a container without control groups: %w", errdefs.ErrNotFound)
	}
	return m.cfg.Runtime.Freezer(spec.Linux.CgroupsPath)
}

// thawLeftover lets the processes go on that a commit has left frozen, because
// its daemon was killed.
func (m *Manager) thawLeftover(ctx context.Context, r *run) error {
	f, err := m.freezer(ctx, r)
	if errdefs.IsNotFound(err) || errdefs.IsNotImplemented(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Thaw()
}
