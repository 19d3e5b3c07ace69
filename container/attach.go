package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"slipway/container/logs"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
	"github.com/moby/term"
)

// Attachment is a client's place at a container's streams. Its caller calls
// Copy once, or Close.
type Attachment struct {
	m      *Manager
	c      *container
	io     *stdio
	out    *logs.Attachment // nil if only stdin or only the log was asked for
	opts   AttachOptions
	detach []byte
	tty    bool
	replay *LogStream
	once   bool // the end of this client's input is the end of the container's
}

// Attach prepares a session with the container's main process, running or about
// to be started: with output from this moment on.
func (m *Manager) Attach(ctx context.Context, ref string, opts AttachOptions) (*Attachment, error) {
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	r := c.record.Load()
	switch r.State.Status {
	case mobycontainer.StatePaused:
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is paused, unpause the container before attach", ref))
	case mobycontainer.StateRestarting:
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is restarting, wait until the container is running", ref))
	default:
	}
	a := &Attachment{m: m, c: c, opts: opts, tty: r.Config.Tty, once: r.Config.StdinOnce && !r.Config.Tty}
	if a.detach, err = detachKeys(opts.DetachKeys); err != nil {
		return nil, err
	}
	if opts.Logs {
		a.replay, err = m.Logs(ctx, c.id, LogsOptions{Stdout: opts.Stdout, Stderr: opts.Stderr})
		if err != nil {
			return nil, err
		}
	}
	if !opts.Stream {
		return a, nil
	}
	if a.io, err = m.prepareIO(ctx, c); err != nil {
		return nil, err
	}
	if opts.Stdout || opts.Stderr {
		a.out, err = m.cfg.Output.Attach(ctx, c.id, logs.AttachOptions{Stdout: opts.Stdout, Stderr: opts.Stderr})
		if err != nil {
			return nil, err
		}
	}
	m.publish(c, mobyevents.ActionAttach, nil)
	return a, nil
}

// defaultDetachKeys are Docker's: ctrl-p, ctrl-q.
var defaultDetachKeys = []byte{16, 17}

func detachKeys(spec string) ([]byte, error) {
	if spec == "" {
		return defaultDetachKeys, nil
	}
	keys, err := term.ToBytes(spec)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("Invalid detach keys (" + spec + ") provided")
	}
	return keys, nil
}

// TTY reports whether all output goes to one raw stream.
func (a *Attachment) TTY() bool { return a.tty }

// Close ends a session that was not begun.
func (a *Attachment) Close() error {
	if a.out != nil {
		return a.out.Close()
	}
	return nil
}

// Copy moves bytes between the client and the container until the container's
// output ends, the client detaches, or ctx ends. It may return while a read of
// the client's stdin is still waiting: the caller closes the connection then.
func (a *Attachment) Copy(ctx context.Context, s Streams) error {
	defer func() { _ = a.Close() }() // what could fail has been reported by its Copy
	if a.replay != nil {
		if err := writeLog(a.replay, s); err != nil {
			return err
		}
	}
	if !a.opts.Stream {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	inputEnded := make(chan error, 1)
	if a.opts.Stdin && s.Stdin != nil && a.io.in != nil {
		go func() { inputEnded <- a.copyInput(ctx, s.Stdin) }()
	}
	if a.out == nil {
		select {
		case err := <-inputEnded:
			return err
		case <-a.c.nextExit().done:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	go func() {
		select {
		case err := <-inputEnded:
			switch {
			case detached(err):
				cancel(err)
			case !a.once:
				// Others may go on with the container's input, so this client's end ends
				// nothing but its session.
				cancel(errInputEnded)
			}
		case <-ctx.Done():
		}
	}()
	err := a.out.Copy(ctx, s.Stdout, s.Stderr)
	if errors.Is(context.Cause(ctx), errInputEnded) {
		return nil
	}
	if detached(context.Cause(ctx)) {
		a.m.publish(a.c, mobyevents.ActionDetach, nil)
		return nil
	}
	if errdefs.IsNotFound(err) {
		return nil // the container was removed, and there is no more output
	}
	return err
}

// errInputEnded ends the session of a client whose input has ended, where that
// is not the end of the container's input.
var errInputEnded = errors.New("the client's input has ended")

// copyInput passes the client's input on, and its end if that is the container's.
func (a *Attachment) copyInput(ctx context.Context, in io.Reader) error {
	if a.tty {
		in = term.NewEscapeProxy(in, a.detach)
	}
	_, err := io.Copy(a.io.in, in)
	if detached(err) {
		return err
	}
	if a.once {
		return errors.Join(err, a.io.in.end(context.WithoutCancel(ctx)))
	}
	return err
}

func detached(err error) bool {
	var escape term.EscapeError
	return errors.As(err, &escape)
}

// writeLog writes a finished log to a client.
func writeLog(log *LogStream, s Streams) error {
	for message, err := range log.Messages {
		if err != nil {
			return err
		}
		w := s.Stdout
		if message.Stream == "stderr" && !log.TTY {
			w = s.Stderr
		}
		if _, err := w.Write(message.Line); err != nil {
			return err
		}
	}
	return nil
}

// Resize changes the size of the container's terminal, in characters.
func (m *Manager) Resize(ctx context.Context, ref string, height, width uint16) error {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	run := c.run.Load()
	if run == nil {
		return notRunning(c)
	}
	if err := run.task.Resize(ctx, uint32(width), uint32(height)); err != nil {
		return err
	}
	m.publish(c, mobyevents.ActionResize, map[string]string{"height": strconv.Itoa(int(height)), "width": strconv.Itoa(int(width))})
	return nil
}
