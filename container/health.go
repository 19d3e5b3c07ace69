package container

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"slipway/database"

	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
)

// Docker's defaults for health checks.
const (
	probeInterval      = 30 * time.Second
	probeTimeout       = 30 * time.Second
	probeStartInterval = 5 * time.Second
	probeRetries       = 3
	probesKept         = 5
	probeOutput        = 4096
)

// A database is asked often until it answers for the first time, because
// somebody is waiting for just that.
const (
	firstReadyInterval   = 50 * time.Millisecond
	longestReadyInterval = time.Second
	// watchInterval is how often its files are looked at.
	watchInterval = 5 * time.Millisecond
)

// probe is how a container's health is found out.
type probe struct {
	check         func(ctx context.Context) (code int, output string, err error)
	interval      time.Duration
	timeout       time.Duration
	startPeriod   time.Duration
	startInterval time.Duration
	retries       int
	database      bool // a query in place of a command
}

// monitor watches the container's health and readies a clone's database while
// the run lasts. It is started with every run.
func (m *Manager) monitor(c *container, r *run, gated bool) {
	rec := c.record.Load()
	ctx, cancel := context.WithCancelCause(m.background)
	stop := context.AfterFunc(r.streams, func() { cancel(context.Cause(r.streams)) })
	p := m.probeOf(c, r)
	if p == nil && rec.Data == nil {
		stop()
		cancel(nil)
		return
	}
	m.wg.Go(func() {
		defer cancel(nil)
		defer stop()
		var own sync.WaitGroup
		defer own.Wait()
		if p != nil && !p.database {
			// It judges by itself, whatever the database does meanwhile.
			own.Go(func() { m.probeLoop(ctx, c, p) })
		}
		if rec.Data != nil && (gated || !rec.Data.Started) {
			m.firstReady(ctx, c, r, gated)
		}
		if p != nil && p.database {
			m.probeLoop(ctx, c, p)
		}
	})
}

// hasHealth reports whether the container's health is found out: by its own
// check, or because it holds a database.
func hasHealth(r *Record) bool {
	if h := r.Config.Healthcheck; h != nil && len(h.Test) > 0 {
		return h.Test[0] != "NONE"
	}
	return r.Data != nil
}

// probeOf returns the container's own health check, or for a database without
// one, a query. It returns nil if there is nothing to ask.
func (m *Manager) probeOf(c *container, r *run) *probe {
	rec := c.record.Load()
	g := guest{m: m, c: c, run: r}
	p := &probe{interval: probeInterval, timeout: probeTimeout, startInterval: probeStartInterval, retries: probeRetries}
	h := rec.Config.Healthcheck
	if h == nil || len(h.Test) == 0 {
		return m.databaseProbe(rec, g, p)
	}
	var argv []string
	switch h.Test[0] {
	case "CMD":
		argv = h.Test[1:]
	case "CMD-SHELL":
		shell := rec.Config.Shell
		if len(shell) == 0 {
			shell = healthShell
		}
		argv = append(append(argv, shell...), h.Test[1:]...)
	default: // NONE
		return nil
	}
	p.configure(h)
	p.check = func(ctx context.Context) (int, string, error) {
		result, err := g.Exec(ctx, database.Command{Argv: argv, Timeout: p.timeout, OutputLimit: probeOutput})
		output := string(result.Stdout) + string(result.Stderr)
		if errors.Is(err, database.ErrOutput) {
			return result.ExitCode, output, nil
		}
		return result.ExitCode, output, err
	}
	return p
}

// databaseProbe makes p ask the database, at the times that the container's
// configuration may give for it.
func (m *Manager) databaseProbe(rec *Record, g guest, p *probe) *probe {
	adapter, err := m.adapter(rec)
	if err != nil || adapter == nil {
		return nil
	}
	p.database, p.startInterval, p.startPeriod = true, firstReadyInterval, longestStart
	if rec.Config.Healthcheck != nil {
		p.configure(rec.Config.Healthcheck)
	}
	p.check = func(ctx context.Context) (int, string, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, database.ErrTimeout)
		defer cancel()
		m.awaitStarted(ctx, adapter, g.c)
		if err := adapter.Ready(ctx, g); err != nil {
			return 1, err.Error(), nil
		}
		return 0, "the database answers queries", nil
	}
	return p
}

// configure takes over what a container's health check says of time.
func (p *probe) configure(h *mobycontainer.HealthConfig) {
	for target, value := range map[*time.Duration]time.Duration{
		&p.interval: h.Interval, &p.timeout: h.Timeout, &p.startPeriod: h.StartPeriod, &p.startInterval: h.StartInterval,
	} {
		if value > 0 {
			*target = value
		}
	}
	if h.Retries > 0 {
		p.retries = h.Retries
	}
}

// longestStart is how long a database may recover before failed probes count.
const longestStart = 24 * time.Hour

// probeLoop asks until the run ends.
func (m *Manager) probeLoop(ctx context.Context, c *container, p *probe) {
	began := time.Now()
	wait := p.startInterval
	if p.startPeriod == 0 {
		wait = p.interval
	}
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if c.status() == mobycontainer.StatePaused {
			continue
		}
		result := mobycontainer.HealthcheckResult{Start: time.Now()}
		code, output, err := p.check(ctx)
		if ctx.Err() != nil {
			return
		}
		result.End, result.ExitCode, result.Output = time.Now(), code, truncate(output)
		switch {
		case errors.Is(err, database.ErrTimeout):
			result.ExitCode, result.Output = -1, "Health check exceeded timeout ("+p.timeout.String()+")"
		case err != nil:
			result.ExitCode, result.Output = -1, err.Error()
		}
		status := m.noteHealth(ctx, c, p, &result, time.Since(began) < p.startPeriod)
		wait = p.interval
		if status == mobycontainer.Starting && time.Since(began) < p.startPeriod {
			wait = p.startInterval
		}
		if p.startPeriod == longestStart && status == mobycontainer.Starting {
			p.startInterval = min(2*p.startInterval, longestReadyInterval)
		}
	}
}

func truncate(output string) string {
	if len(output) > probeOutput {
		return output[:probeOutput] + "..."
	}
	return output
}

// noteHealth adds a probe's result and returns the health that follows from it.
func (m *Manager) noteHealth(ctx context.Context, c *container, p *probe, result *mobycontainer.HealthcheckResult, starting bool) mobycontainer.HealthStatus {
	var before, after mobycontainer.HealthStatus
	c.updateVolatile(func(r *Record) {
		health := mobycontainer.Health{Status: mobycontainer.Starting}
		if r.State.Health != nil {
			health = *r.State.Health
		}
		before = health.Status
		health.Log = append(append([]*mobycontainer.HealthcheckResult{}, health.Log...), result)
		health.Log = health.Log[max(0, len(health.Log)-probesKept):]
		switch {
		case result.ExitCode == 0:
			health.FailingStreak, health.Status = 0, mobycontainer.Healthy
		case health.Status == mobycontainer.Starting && starting:
		default:
			health.FailingStreak++
			if health.FailingStreak >= p.retries {
				health.Status = mobycontainer.Unhealthy
			}
		}
		after = health.Status
		r.State.Health = &health
	})
	if before != after {
		m.publish(c, mobyevents.Action("health_status: "+string(after)), nil)
		m.log(c).DebugContext(ctx, "health changed", slog.String("status", string(after)))
	}
	return after
}
