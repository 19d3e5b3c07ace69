package container

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"slipway/internal/span"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
)

// pauseTimeout bounds freezing and thawing. The kernel cannot freeze a process
// in uninterruptible sleep, and cgroup v1's freezer retries without end then.
const pauseTimeout = 10 * time.Second

// Pause freezes all processes of the container.
func (m *Manager) Pause(ctx context.Context, ref string) error {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	unlock, err := m.transition(ctx, c, "pause")
	if err != nil {
		return err
	}
	defer unlock()
	switch status := c.status(); {
	case status == mobycontainer.StatePaused:
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is already paused", c.id))
	case status == mobycontainer.StateRestarting:
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is restarting, wait until the container is running", c.id))
	case c.run.Load() == nil:
		return notRunning(c)
	}
	if err := m.freeze(ctx, c.run.Load()); err != nil {
		// After a kill of a paused container its shim takes it for paused until it ends.
		if c.run.Load().hasEnded(context.WithoutCancel(ctx)) || c.record.Load().State.Stopped {
			return notRunning(c)
		}
		return fmt.Errorf("cannot pause container %s: %w", c.id, err)
	}
	if err := c.update(func(r *Record) { r.State.Status = mobycontainer.StatePaused }); err != nil {
		return errors.Join(err, m.thaw(ctx, c.run.Load()))
	}
	m.publish(c, mobyevents.ActionPause, nil)
	return nil
}

// Unpause lets the processes of a paused container go on.
func (m *Manager) Unpause(ctx context.Context, ref string) error {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	unlock, err := m.transition(ctx, c, "unpause")
	if err != nil {
		return err
	}
	defer unlock()
	run := c.run.Load()
	if run == nil || c.status() != mobycontainer.StatePaused {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("Container %s is not paused", c.id))
	}
	if err := m.thaw(ctx, run); err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", c.id, err)
	}
	if err := c.update(func(r *Record) { r.State.Status = mobycontainer.StateRunning }); err != nil {
		return err
	}
	m.publish(c, mobyevents.ActionUnPause, nil)
	return nil
}

// runcGaveUp is runc's error, of which only the text arrives, after some attempts
// to freeze a control group of version 1. All processes run on then.
const runcGaveUp = "unable to freeze"

// freeze stops all processes of a run; if it cannot, none stays frozen.
func (m *Manager) freeze(ctx context.Context, r *run) error {
	defer span.Start(ctx, "freeze")()
	bounded, cancel := context.WithTimeoutCause(ctx, pauseTimeout, errors.New("freezing the container's processes took too long"))
	defer cancel()
	err := r.task.Pause(bounded)
	for err != nil && strings.Contains(err.Error(), runcGaveUp) && bounded.Err() == nil {
		err = r.task.Pause(bounded)
	}
	if err != nil {
		if bounded.Err() != nil {
			err = context.Cause(bounded)
		}
		return errors.Join(err, m.thaw(ctx, r))
	}
	return nil
}

// thaw lets a run's processes go on, also when the client has gone away. It is no
// error if they do already or have ended, since interrupts do not wait for it.
func (m *Manager) thaw(ctx context.Context, r *run) error {
	defer span.Start(ctx, "thaw")()
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), pauseTimeout, errors.New("thawing the container's processes took too long"))
	defer cancel()
	err := r.task.Resume(ctx)
	// A kill thaws, too, but only the runtime knows that, not its shim.
	if err == nil || strings.Contains(err.Error(), "container not paused") {
		return nil
	}
	status, statusErr := r.task.Status(ctx)
	if errdefs.IsNotFound(statusErr) || statusErr == nil && !oneOf(status.Status, containerd.Paused, containerd.Pausing) {
		return nil
	}
	return err
}

// errRunEnded says that there is no process any more, which may not be settled yet.
var errRunEnded = errors.New("the container's main process has ended")

// endNotice is how long after the end of a main process its shim may take to know.
const endNotice = 500 * time.Millisecond

// ending reports whether the main process has ended or is being ended. What fails
// for that reason can fail before the shim knows, so it is given a moment.
func (r *run) ending(ctx context.Context) bool {
	for deadline := time.Now().Add(endNotice); ; time.Sleep(10 * time.Millisecond) {
		if r.streams.Err() != nil || r.hasEnded(ctx) {
			return true
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return false
		}
	}
}

// hasEnded reports whether the main process has ended, or its shim.
func (r *run) hasEnded(ctx context.Context) bool {
	status, err := r.task.Status(ctx)
	if err != nil {
		// A shim ends with its task, maybe just now. That error keeps its text only.
		return errdefs.IsNotFound(err) || strings.Contains(err.Error(), ttrpc.ErrClosed.Error())
	}
	return status.Status == containerd.Stopped
}
