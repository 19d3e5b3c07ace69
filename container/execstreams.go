package container

import (
	"context"
	"io"
	"path/filepath"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/moby/term"
)

// execDir is where the FIFOs of execs are.
func (m *Manager) execDir() string { return filepath.Join(m.cfg.ExecRoot, "io", "exec") }

// execProcess connects a process to a client's streams.
type execProcess struct {
	tty      bool
	streams  Streams
	detached chan struct{}
	stdin    *execInput
}

func newExecProcess(e *execution, s Streams) *execProcess {
	p := &execProcess{tty: e.request.Tty, detached: make(chan struct{}), streams: s}
	p.streams.Stdout, p.streams.Stderr = io.Discard, io.Discard
	if e.request.AttachStdout && s.Stdout != nil {
		p.streams.Stdout = &mayLeave{w: s.Stdout}
	}
	if e.request.AttachStderr && s.Stderr != nil {
		p.streams.Stderr = &mayLeave{w: s.Stderr}
	}
	if !e.request.AttachStdin || s.Stdin == nil {
		p.streams.Stdin = nil
		return p
	}
	in := s.Stdin
	if p.tty {
		in = term.NewEscapeProxy(in, e.detach)
	}
	p.stdin = &execInput{Reader: in, tty: p.tty, detached: p.detached, process: make(chan containerd.Process, 1), over: make(chan struct{})}
	p.streams.Stdin = p.stdin
	return p
}

func (p *execProcess) begin(ctx context.Context, process containerd.Process) {
	if p.stdin != nil {
		p.stdin.ctx = ctx
		p.stdin.process <- process
	}
}

// end lets go of the client's input when the process has ended.
func (p *execProcess) end() {
	if p.stdin != nil {
		close(p.stdin.over)
	}
}

// mayLeave passes a process's output on to a client, and drops it once the client
// has gone away, so that the process goes on.
type mayLeave struct {
	w    io.Writer
	gone bool
}

func (c *mayLeave) Write(p []byte) (int, error) {
	if !c.gone {
		_, err := c.w.Write(p)
		c.gone = err != nil
	}
	return len(p), nil
}

// execInput is a client's stdin that closes the process's when it ends, and
// notices the detach keys. A terminal's is never closed: that would hang up the
// process, which goes on without its client. Only containerd's copying goroutine
// reads it.
type execInput struct {
	io.Reader
	tty      bool
	ctx      context.Context //nolint:containedctx // of the process, set before process is sent
	detached chan struct{}
	process  chan containerd.Process
	over     chan struct{} // closed when the process has ended
	ended    bool
}

func (i *execInput) Read(p []byte) (int, error) {
	n, err := i.Reader.Read(p)
	if err == nil || n > 0 {
		return n, nil // an error comes again with the next call, when these bytes have been passed on
	}
	if i.ended {
		return 0, io.EOF
	}
	i.ended = true
	if detached(err) {
		close(i.detached)
	}
	if i.tty {
		<-i.over // containerd closes the FIFO when it reads the end
		return 0, io.EOF
	}
	// The shim holds a writing end too. What was written before stays readable. An
	// error means that the process has ended, which others notice.
	_ = (<-i.process).CloseIO(i.ctx, containerd.WithStdinCloser)
	return 0, io.EOF
}
