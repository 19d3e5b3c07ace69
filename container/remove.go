package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"slipway/internal/failpoint"
	"slipway/internal/span"
	"slipway/shim"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
)

// Remove deletes the container. A running one is killed with Force, and is a
// conflict without.
func (m *Manager) Remove(ctx context.Context, ref string, opts RemoveOptions) error {
	if opts.Link {
		return errdefs.ErrNotImplemented.WithMessage("links are not supported: --link cannot be removed")
	}
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	return m.remove(context.WithoutCancel(ctx), c, opts)
}

func (m *Manager) remove(ctx context.Context, c *container, opts RemoveOptions) error {
	unlock, err := m.lockForRemoval(ctx, c, opts.Force)
	if err != nil {
		return err
	}
	defer unlock()
	return m.removeLocked(ctx, c, opts)
}

// removeLocked removes a container that does not run. Its lock is held.
func (m *Manager) removeLocked(ctx context.Context, c *container, opts RemoveOptions) error {
	r := c.record.Load()
	if r.State.Running() || r.State.Status == mobycontainer.StateRestarting {
		advice := "stop the container before removing or force remove"
		if r.State.Status == mobycontainer.StatePaused {
			advice = "unpause and then stop the container before removing or force remove"
		}
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("cannot remove container %q: container is %s: %s", "/"+r.Name, r.State.Status, advice))
	}
	// From here on a daemon that dies finishes the removal at its next start.
	err := c.update(func(r *Record) { r.State.Status, r.State.RemoveVolumes = mobycontainer.StateRemoving, opts.Volumes })
	if err != nil {
		return err
	}
	failpoint.Hit("container.remove.marked")
	return m.erase(ctx, c)
}

// lockForRemoval takes the container's lock, with force when nothing of it runs
// any more. It holds no lock while it waits for the end.
func (m *Manager) lockForRemoval(ctx context.Context, c *container, force bool) (unlock func(), err error) {
	for {
		if force {
			if err := m.killForRemoval(ctx, c); err != nil {
				return nil, err
			}
		}
		unlock, err := m.transition(ctx, c, "rm")
		if err != nil || !force || c.run.Load() == nil {
			return unlock, err
		}
		unlock() // a start came first
	}
}

// killForRemoval ends the container's processes, and a restart that waits.
func (m *Manager) killForRemoval(ctx context.Context, c *container) error {
	if c.run.Load() == nil && c.status() != mobycontainer.StateRestarting {
		return nil
	}
	if err := m.markStopped(ctx, c); err != nil {
		return err
	}
	return m.stop1(ctx, c, syscall.SIGKILL, killTimeout)
}

// erase removes everything of a container marked as being removed. Each step
// may have been done before. The container's lock is held.
func (m *Manager) erase(ctx context.Context, c *container) error {
	defer span.Start(ctx, "erase")()
	r := c.record.Load()
	c.cutFiles(errFilesCut)
	err := errors.Join(
		m.dropTask(ctx, c.id),
		m.cfg.Networks.DeleteSandbox(ctx, c.id),
		m.removeIO(ctx, c),
		shim.UnmountShm(m.shmPath(c.id)),
		m.layers.forget(c.id),
		m.cfg.Volumes.Detach(ctx, c.id, r.Mounts, r.State.RemoveVolumes),
		m.layers.remove(ctx, c.id),
		os.RemoveAll(m.dir(c.id)),
	)
	if err != nil {
		_ = c.update(func(r *Record) { // the error that counts is the first
			r.State.Status, r.State.Error = mobycontainer.StateDead, err.Error()
		})
		return fmt.Errorf("removing container %s: %w", c.id, err)
	}
	failpoint.Hit("container.remove.record")
	if err := errors.Join(m.records.Delete(c.id), m.names.Release(r.Name)); err != nil {
		return err
	}
	failpoint.Hit("container.remove.done")
	m.mu.Lock()
	delete(m.containers, c.id)
	for id, e := range m.execs {
		if e.c == c {
			delete(m.execs, id)
		}
	}
	m.mu.Unlock()
	m.publish(c, mobyevents.ActionDestroy, nil)
	close(c.removed)
	return nil
}
