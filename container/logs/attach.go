package logs

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"slipway/container/logs/wire"
)

// onlyLine reads a connection one byte at a time, so that a buffered reader over it takes nothing
// beyond the line it looks for. A reply is short and comes once.
type onlyLine struct{ conn net.Conn }

func (r onlyLine) Read(b []byte) (int, error) { return r.conn.Read(b[:1]) }

// AttachOptions chooses streams.
type AttachOptions struct{ Stdout, Stderr bool }

// Attachment is a client's live view of a container's output.
type Attachment struct {
	keeper  *Keeper
	id      string
	opts    AttachOptions
	release func()

	mu     sync.Mutex
	conn   net.Conn
	closed bool

	pos [2]int64 // positions up to which Copy has written the streams
}

// Attach returns the container's output from now on. Up to about 1 MiB waits for Copy; then the
// container waits.
func (k *Keeper) Attach(ctx context.Context, id string, opts AttachOptions) (*Attachment, error) {
	a := &Attachment{keeper: k, id: id, opts: opts, release: k.attached(id)}
	if err := a.connect(ctx, nil); err != nil {
		a.release()
		return nil, err
	}
	return a, nil
}

// attached counts an attachment to the present run and returns what ends that.
func (k *Keeper) attached(id string) func() {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.runs[id]
	if r == nil {
		return func() {}
	}
	name := r.reg.Run
	r.attached++
	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if r := k.runs[id]; r != nil && r.reg.Run == name {
			r.attached--
		}
	})
}

func (a *Attachment) connect(ctx context.Context, from *[2]int64) error {
	req := &wire.Request{Version: wire.Version, Op: wire.OpAttach, ID: a.id, Attach: &wire.Attach{
		Stdout: a.opts.Stdout, Stderr: a.opts.Stderr, From: from,
	}}
	var reply *wire.Reply
	var conn net.Conn
	err := a.keeper.persist(ctx, func() (err error) {
		conn, reply, err = a.keeper.send(ctx, req, 0)
		return err
	})
	if err != nil {
		return err
	}
	if err := replyError(reply); err != nil {
		return errors.Join(err, conn.Close())
	}
	if reply.Position != nil {
		a.pos = *reply.Position
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errors.Join(net.ErrClosed, conn.Close())
	}
	a.conn = conn
	return nil
}

// Copy writes the streams until both have ended, which is no error, or ctx ends or the attachment is
// closed. It is called once. If the keeper is replaced meanwhile it goes on where it was. A nil writer
// discards its stream.
func (a *Attachment) Copy(ctx context.Context, stdout, stderr io.Writer) error {
	stop := context.AfterFunc(ctx, func() { _ = a.Close() })
	defer stop()
	buf := make([]byte, wire.MaxPayload)
	for {
		err := a.copyFrames(buf, stdout, stderr)
		if err == nil {
			return a.Close()
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if _, lost := errors.AsType[*lostError](err); !lost {
			return errors.Join(err, a.Close())
		}
		pos := a.pos
		if err := a.connect(ctx, &pos); err != nil {
			return errors.Join(err, a.Close())
		}
	}
}

// lostError reports that the connection to the keeper has ended early.
type lostError struct{ err error }

func (e *lostError) Error() string { return "log keeper connection: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

func (a *Attachment) copyFrames(buf []byte, stdout, stderr io.Writer) error {
	a.mu.Lock()
	conn, closed := a.conn, a.closed
	a.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	for {
		kind, size, err := wire.ReadHeader(conn)
		if err == nil {
			_, err = io.ReadFull(conn, buf[:size])
		}
		if err != nil {
			if closedHere(err) {
				return net.ErrClosed
			}
			return errors.Join(&lostError{err}, conn.Close())
		}
		var w io.Writer
		switch kind {
		case wire.KindStdout:
			w = stdout
		case wire.KindStderr:
			w = stderr
		case wire.KindEnd:
			return nil
		}
		if w != nil {
			if _, err := w.Write(buf[:size]); err != nil {
				return err
			}
		}
		a.pos[kind-wire.KindStdout] += int64(size)
	}
}

// Close ends the attachment and a Copy under way. It may be called more than once.
func (a *Attachment) Close() error {
	a.release()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	if err := a.conn.Close(); !closedHere(err) {
		return err
	}
	return nil // it was lost
}

// closedHere reports whether a connection was closed at this end, which a socket and a pipe tell in different ways.
func closedHere(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) }
