package container

import (
	"context"
	"errors"
	"log/slog"
	"time"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// The delays of the restart policy are Docker's: they double from the first to
// the longest, and start over after a run that lasted long enough.
const (
	firstRestartDelay   = 100 * time.Millisecond
	longestRestartDelay = time.Minute
	stableAfter         = 10 * time.Second
)

// errRestartOff is why a restart that was waited for does not come.
var errRestartOff = errors.New("the container was stopped or started")

// backoff is the restart policy's memory of one container.
type backoff struct {
	delay  time.Duration
	cancel context.CancelCauseFunc // of the restart that is waiting, if any
}

// verdict is what the restart policy says about an end.
type verdict struct {
	restart bool
	delay   time.Duration
}

// policy decides whether a container that ended is started again. The
// container's lock is held.
func (m *Manager) policy(c *container, code int, at time.Time) verdict {
	r := c.record.Load()
	if r.State.Stopped || m.background.Err() != nil {
		c.restart.delay = 0
		return verdict{}
	}
	p := r.HostConfig.RestartPolicy
	switch p.Name {
	case mobycontainer.RestartPolicyAlways, mobycontainer.RestartPolicyUnlessStopped:
	case mobycontainer.RestartPolicyOnFailure:
		if code == 0 || (p.MaximumRetryCount > 0 && r.RestartCount >= p.MaximumRetryCount) {
			return verdict{}
		}
	default:
		return verdict{}
	}
	if c.restart.delay == 0 || at.Sub(r.State.StartedAt) >= stableAfter {
		c.restart.delay = firstRestartDelay
	} else {
		c.restart.delay = min(2*c.restart.delay, longestRestartDelay)
	}
	return verdict{restart: true, delay: c.restart.delay}
}

// restartLater starts the container after the delay, unless it is stopped,
// removed or started by somebody else before. The container's lock is held.
func (m *Manager) restartLater(c *container, delay time.Duration) {
	ctx, cancel := context.WithCancelCause(m.background)
	c.restart.cancel = cancel
	m.after(ctx, delay, func(ctx context.Context) {
		defer cancel(nil)
		unlock, err := m.transition(ctx, c, "restart")
		if err != nil {
			return
		}
		defer unlock()
		if c.status() != mobycontainer.StateRestarting || ctx.Err() != nil {
			return
		}
		if err := m.start(context.WithoutCancel(ctx), c); err != nil {
			m.log(c).WarnContext(ctx, "restarting failed", slog.Any("error", err))
		}
	})
}
