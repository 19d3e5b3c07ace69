package container

import (
	"context"
	"errors"
	"io"
	"strconv"

	"slipway/container/logs"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// Logs selects lines of the container's log.
func (m *Manager) Logs(ctx context.Context, ref string, opts LogsOptions) (*LogStream, error) {
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	if !opts.Stdout && !opts.Stderr {
		return nil, errdefs.ErrInvalidArgument.WithMessage("Bad parameters: you must choose at least one stream")
	}
	r := c.record.Load()
	if r.HostConfig.LogConfig.Type != logs.DriverJSONFile {
		return nil, errdefs.ErrNotImplemented.WithMessage("configured logging driver does not support reading")
	}
	tail := -1
	if opts.Tail != "" && opts.Tail != "all" {
		if tail, err = strconv.Atoi(opts.Tail); err != nil || tail < 0 {
			tail = -1 // as in Docker, what is no number asks for everything
		}
	}
	ended := ended(c)
	reader, err := logs.Open(m.logPath(c.id), logs.ReadOptions{
		Since: opts.Since, Until: opts.Until, Tail: tail, Follow: opts.Follow,
		Stdout: opts.Stdout, Stderr: opts.Stderr, Logger: m.cfg.Logger,
	}, ended)
	if err != nil {
		return nil, err
	}
	return &LogStream{TTY: r.Config.Tty, Messages: func(yield func(LogMessage, error) bool) {
		defer func() { _ = reader.Close() }()
		for {
			message, err := reader.Next(ctx)
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(LogMessage{}, err)
				return
			}
			if !yield(LogMessage(message), nil) {
				return
			}
		}
	}}, nil
}

// ended is closed when the present run has ended and its output is complete; it
// is closed already if nothing runs.
func ended(c *container) <-chan struct{} {
	next := c.nextExit() // before the state, see Wait
	state := c.record.Load().State
	if state.Running() || state.Status == mobycontainer.StateRestarting {
		return next.done
	}
	done := make(chan struct{})
	close(done)
	return done
}
