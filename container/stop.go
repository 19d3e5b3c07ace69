package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"slipway/shim"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
	"github.com/moby/sys/signal"
)

const (
	// defaultStopSignal and defaultStopTimeout are Docker's.
	defaultStopSignal  = "SIGTERM"
	defaultStopTimeout = 10 * time.Second
	// killTimeout bounds the wait for a process that was sent SIGKILL. Only a
	// process in uninterruptible sleep takes that long.
	killTimeout = 10 * time.Second
)

// Stop asks the main process to end, and kills it when the time-out has passed.
// It returns [errdefs.ErrNotModified] if the container does not run. It goes on
// when the client goes away, as a half stopped container is of no use.
func (m *Manager) Stop(ctx context.Context, ref string, opts StopOptions) error {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	sig, timeout, err := m.stopPlan(c, opts)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if state := c.record.Load().State; !state.Running() && state.Status != mobycontainer.StateRestarting {
		return errdefs.ErrNotModified.WithMessage("Container already stopped")
	}
	if err := m.markStopped(ctx, c); err != nil {
		return err
	}
	if err := m.stop1(ctx, c, sig, timeout); err != nil {
		return fmt.Errorf("cannot stop container: %s: %w", ref, err)
	}
	m.publish(c, mobyevents.ActionStop, nil)
	return nil
}

// stopPlan decides on the signal and the time-out: the request's, else the
// container's, else the database engine's, else Docker's.
func (m *Manager) stopPlan(c *container, opts StopOptions) (syscall.Signal, time.Duration, error) {
	r := c.record.Load()
	name, timeout := r.Config.StopSignal, defaultStopTimeout
	if adapter, err := m.adapter(r); err == nil && adapter != nil {
		var engineSignal string
		if engineSignal, timeout = adapter.StopDefaults(); name == "" {
			name = engineSignal
		}
	}
	if opts.Signal != "" {
		name = opts.Signal
	}
	if name == "" {
		name = defaultStopSignal
	}
	seconds := r.Config.StopTimeout
	if opts.Timeout != nil {
		seconds = opts.Timeout
	}
	if seconds != nil {
		timeout = time.Duration(min(int64(*seconds), math.MaxInt64/int64(time.Second))) * time.Second
	}
	sig, err := parseSignal(name)
	return sig, timeout, err
}

func parseSignal(name string) (syscall.Signal, error) {
	sig, err := signal.ParseSignal(name)
	if err != nil {
		return 0, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	if sig < 1 || sig > shim.MaxSignal {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the %s daemon does not support signal %d", runtime.GOOS, sig))
	}
	return sig, nil
}

// markStopped records that a user wants the container to be stopped, before it
// is, so that the restart policy and a daemon that dies in between know. A
// restart that the policy has decided on before is called off.
func (m *Manager) markStopped(ctx context.Context, c *container) error {
	unlock, err := m.transition(ctx, c, "stop")
	if err != nil {
		return err
	}
	defer unlock()
	waiting := c.status() == mobycontainer.StateRestarting
	err = c.update(func(r *Record) {
		r.State.Stopped = true
		if waiting {
			r.State.Status = mobycontainer.StateExited
		}
	})
	if err != nil || !waiting {
		return err
	}
	if c.restart.cancel != nil {
		c.restart.cancel(errRestartOff)
	}
	c.finish(c.record.Load().State.ExitCode)
	return nil
}

// stop1 ends the current run. It holds no lock while it waits, so that the
// container can be inspected, executed in, and killed meanwhile.
func (m *Manager) stop1(ctx context.Context, c *container, sig syscall.Signal, timeout time.Duration) error {
	next := c.nextExit()
	run := c.run.Load()
	if run == nil {
		return nil // it ended by itself in the meantime
	}
	run.cut(errStreamsCut)
	if err := m.signal(ctx, c, sig); err != nil && !isGone(err) {
		m.log(c).WarnContext(ctx, "the stop signal cannot be sent, killing the container", slog.Any("error", err))
	} else {
		if awaitExit(ctx, next, timeout) {
			return nil
		}
		m.log(c).InfoContext(ctx, "container did not end in time, killing it", attrDuration("timeout", timeout))
	}
	if err := m.signal(ctx, c, syscall.SIGKILL); err != nil && !isGone(err) {
		return err
	}
	if !awaitExit(ctx, next, killTimeout) {
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("container %s did not end %s after SIGKILL", c.id, killTimeout))
	}
	return nil
}

// awaitExit waits for the end of the main process, without a limit if timeout is
// negative, and reports whether it came.
func awaitExit(ctx context.Context, next *exit, timeout time.Duration) bool {
	if timeout < 0 {
		select {
		case <-next.done:
			return true
		case <-ctx.Done():
			return false
		}
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-next.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	select {
	case <-next.done:
		return true
	default:
		return false
	}
}

// isGone reports whether a signal was not delivered because there is no process
// any more.
func isGone(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsConflict(err)
}

// Kill sends a signal to the main process; the empty one is SIGKILL. It takes no
// lock, and so never waits behind a stop or a commit, only for a start to end.
func (m *Manager) Kill(ctx context.Context, ref, name string) error {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	sig := syscall.SIGKILL
	if name != "" {
		if sig, err = parseSignal(name); err != nil {
			return err
		}
	}
	stops := sig == syscall.SIGKILL
	if own, _, err := m.stopPlan(c, StopOptions{}); err == nil && sig == own {
		stops = true
	}
	if stops && c.status() == mobycontainer.StateRestarting {
		// There is no process, and there is to be none.
		if err := m.markStopped(ctx, c); err != nil || c.run.Load() == nil {
			return err
		}
	}
	if c.run.Load() == nil {
		c.awaitStart(ctx)
	}
	if c.run.Load() == nil {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("cannot kill container: %s: container %s is not running", ref, c.id))
	}
	if stops {
		// As in Docker, the restart policy leaves a container alone whose end was asked for.
		if err := c.update(func(r *Record) { r.State.Stopped = true }); err != nil {
			return err
		}
	}
	next := c.nextExit()
	if err := m.signal(ctx, c, sig); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, err)
	}
	if sig == syscall.SIGKILL {
		// A reply to SIGKILL means that the process is gone, as in Docker.
		awaitExit(ctx, next, killTimeout)
	}
	return nil
}

// signal sends sig to the main process. A paused container is resumed for a
// signal that is meant to end it, since it could not act on it otherwise.
func (m *Manager) signal(ctx context.Context, c *container, sig syscall.Signal) error {
	run := c.run.Load()
	if run == nil {
		return notRunning(c)
	}
	if err := run.task.Kill(ctx, sig); err != nil {
		if errdefs.IsNotFound(err) || run.hasEnded(ctx) {
			return notRunning(c)
		}
		return err
	}
	m.publish(c, mobyevents.ActionKill, map[string]string{"signal": strconv.Itoa(int(sig))})
	state := c.record.Load().State
	if state.Status != mobycontainer.StatePaused || !state.Stopped {
		return nil
	}
	// A kill thaws by itself, and what it leaves of the container cannot be resumed.
	if err := m.thaw(ctx, run); err != nil && sig != syscall.SIGKILL {
		return fmt.Errorf("resuming the paused container: %w", err)
	}
	return m.resumed(c)
}

// resumed records that a paused container goes on, for as long as its process
// lives.
func (m *Manager) resumed(c *container) error {
	paused := false
	err := c.update(func(r *Record) {
		if paused = r.State.Status == mobycontainer.StatePaused; paused {
			r.State.Status = mobycontainer.StateRunning
		}
	})
	if err == nil && paused {
		m.publish(c, mobyevents.ActionUnPause, nil)
	}
	return err
}

// Restart stops the container if it runs, and starts it.
func (m *Manager) Restart(ctx context.Context, ref string, opts StopOptions) error {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	c.restarts.Add(1)
	err = m.Stop(ctx, c.id, opts)
	c.restarts.Add(-1)
	if err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	if err := m.Start(ctx, c.id); err != nil && !errors.Is(err, errdefs.ErrNotModified) {
		return fmt.Errorf("cannot restart container %s: %w", ref, err)
	}
	m.publish(c, mobyevents.ActionRestart, nil)
	return nil
}
