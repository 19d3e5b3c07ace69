package container

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"slipway/internal/failpoint"
	"slipway/internal/span"
	"slipway/shim"

	"github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
)

// teardownTimeout bounds each step of clearing away after an end.
const teardownTimeout = 30 * time.Second

// run is one life of a container's main process.
type run struct {
	task    containerd.Task
	exited  <-chan containerd.ExitStatus
	oom     atomic.Bool
	streams context.Context //nolint:containedctx // ends with the run; attach, exec and cp derive from it
	cut     context.CancelCauseFunc
}

func newRun(ctx context.Context, task containerd.Task, exited <-chan containerd.ExitStatus) *run {
	streams, cut := context.WithCancelCause(ctx)
	return &run{task: task, exited: exited, streams: streams, cut: cut}
}

// supervise waits for the end of a run and settles it. It returns early when
// the manager is closed; the container lives on then.
func (m *Manager) supervise(c *container, r *run) {
	m.wg.Go(func() {
		select {
		case status := <-r.exited:
			if m.background.Err() != nil {
				return // the connection to the shim was closed, not the container
			}
			m.settle(c, r, status)
		case <-m.background.Done():
		}
	})
}

// settle does what the end of a main process asks for, under the container's
// lock: clear away, record, tell those who wait, and restart or remove.
func (m *Manager) settle(c *container, r *run, status containerd.ExitStatus) {
	r.cut(errStreamsCut)
	// Not under m.background: what has begun must be finished when the daemon stops.
	ctx, end := m.cfg.Spans.Begin(context.WithoutCancel(m.background), "exit", c.id)
	defer end()
	unlock, err := m.transition(ctx, c, "exit")
	if err != nil {
		return // removed by force in the meantime
	}
	defer unlock()
	m.countOOMKills(ctx, c, r)
	code, at := int(status.ExitCode()), status.ExitTime()
	if err := status.Error(); err != nil {
		m.log(c).ErrorContext(ctx, "the exit code was lost", slog.Any("error", err))
		m.awaitCleanup(ctx, c)
		code, at = killedCode, time.Now()
	}
	m.ended(ctx, c, r, code, at)
}

// awaitCleanup waits until containerd has cleared away after a shim that died. It
// kills the container's processes first, and deletes the bundle last. Then the
// task is only in its list, where it would be in the way of a restart.
func (m *Manager) awaitCleanup(ctx context.Context, c *container) {
	ctx, cancel := context.WithTimeoutCause(ctx, teardownTimeout, errors.New("clearing away after a shim took too long"))
	defer cancel()
	for {
		if _, err := os.Stat(m.cfg.Shims.Bundle(c.id)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		select {
		case <-ctx.Done():
			m.log(c).WarnContext(ctx, "a dead shim's bundle is still there", slog.Any("error", context.Cause(ctx)))
			return
		case <-time.After(cleanupPoll):
		}
	}
	// Always an error, that of the dead shim, but it drops the task.
	_, err := m.cfg.Client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: c.id})
	m.log(c).DebugContext(ctx, "dropped the task of a dead shim", slog.Any("error", err))
}

// cleanupPoll is a fraction of the time that containerd needs for it.
const cleanupPoll = 20 * time.Millisecond

// killedCode is the exit code of a process that was ended by SIGKILL.
const killedCode = 128 + int(syscall.SIGKILL)

// countOOMKills asks the control group whether the kernel killed for want of
// memory, because its notice comes another way and may come late.
func (m *Manager) countOOMKills(ctx context.Context, c *container, r *run) {
	if r.oom.Load() || c.record.Load().HostConfig.Memory == 0 {
		return
	}
	spec, err := r.task.Spec(ctx)
	if err != nil || spec.Linux == nil {
		return // without a task there is no control group either
	}
	if kills, err := m.cfg.Runtime.OOMKills(spec.Linux.CgroupsPath); err == nil && kills > 0 && r.oom.CompareAndSwap(false, true) {
		m.publish(c, mobyevents.ActionOOM, nil)
	}
}

// ended settles a run whose exit code is known. The container's lock is held.
func (m *Manager) ended(ctx context.Context, c *container, r *run, code int, at time.Time) {
	failpoint.Hit("container.exit.clear")
	m.clear(ctx, c, r)
	again := m.policy(c, code, at)
	before := c.record.Load().State
	change := func(rec *Record) {
		rec.State.Status = mobycontainer.StateExited
		if again.restart {
			rec.State.Status = mobycontainer.StateRestarting
			rec.RestartCount++
		}
		rec.State.Pid, rec.State.ExitCode, rec.State.FinishedAt = 0, code, at.UTC()
		rec.State.OOMKilled = r.oom.Load()
		if rec.State.Health != nil {
			health := *rec.State.Health
			health.Status = mobycontainer.Unhealthy
			rec.State.Health = &health
		}
	}
	if err := c.update(change); err != nil {
		m.log(c).ErrorContext(ctx, "recording the end failed; it is found out again at the next start", slog.Any("error", err))
		c.updateVolatile(change)
	}
	failpoint.Hit("container.exit.recorded")
	c.run.Store(nil)
	m.dropExecs(r)
	m.publish(c, mobyevents.ActionDie, map[string]string{
		"exitCode":     strconv.Itoa(code),
		"execDuration": strconv.Itoa(int(max(at.Sub(before.StartedAt), 0).Seconds())),
	})
	last := c.restarts.Load() == 0 // asked before Restart learns of the end
	c.finish(code)
	switch {
	case again.restart:
		m.restartLater(c, again.delay)
	case last:
		m.removeIfAutomatic(ctx, c)
	}
}

// removeIfAutomatic removes a container that is not to outlive its process, in
// the background.
func (m *Manager) removeIfAutomatic(ctx context.Context, c *container) {
	if !c.record.Load().HostConfig.AutoRemove {
		return
	}
	m.wg.Go(func() {
		err := m.remove(context.WithoutCancel(ctx), c, RemoveOptions{Volumes: true, Force: true})
		if err != nil && !errdefs.IsNotFound(err) {
			m.log(c).ErrorContext(ctx, "automatic removal failed", slog.Any("error", err))
		}
	})
}

// clear releases what a run held: the task, the network, the output, the mounts.
// Failures are logged: the next start, or the next daemon, clears them away.
func (m *Manager) clear(ctx context.Context, c *container, r *run) {
	ctx, cancel := context.WithTimeoutCause(ctx, teardownTimeout, errors.New("clearing away took too long"))
	defer cancel()
	rec := c.record.Load()
	var wg sync.WaitGroup
	wg.Go(func() {
		deleted := span.Start(ctx, "delete task")
		_, err := r.task.Delete(ctx)
		if errdefs.IsFailedPrecondition(err) { // its end was not the end of its process
			_, err = r.task.Delete(ctx, containerd.WithProcessKill)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			m.log(c).WarnContext(ctx, "deleting the task failed", slog.Any("error", err))
		}
		m.logged(ctx, c, "deleting the runtime's record failed", m.deleteTaskRecord(ctx, c.id))
		deleted()
		// After the task: with the shim gone, no more output can come.
		m.logged(ctx, c, "finishing the log failed", m.finishIO(ctx, c))
	})
	wg.Go(func() {
		defer span.Start(ctx, "disconnect network")()
		m.logged(ctx, c, "removing the network sandbox failed", m.cfg.Networks.DeleteSandbox(ctx, c.id))
	})
	wg.Wait()
	m.unmountVolumes(ctx, c, rec.Mounts)
	m.logged(ctx, c, "unmounting the shared memory failed", shim.UnmountShm(m.shmPath(c.id)))
	m.logged(ctx, c, "unmounting the root failed", m.layers.release(c.id))
}

func (m *Manager) logged(ctx context.Context, c *container, message string, err error) {
	if err != nil {
		m.log(c).WarnContext(ctx, message, slog.Any("error", err)) //nolint:sloglint // static at every caller
	}
}

func attrDuration(key string, d time.Duration) slog.Attr { return slog.Duration(key, d) }
