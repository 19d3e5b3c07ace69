package container

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"

	"slipway/container/logs/wire"
	"slipway/internal/relay"

	"github.com/containerd/containerd/v2/pkg/cio"
)

// creator makes the pipes of an exec, to which the shim connects, and copies between them and the client's streams.
func (p *execProcess) creator(dir string) cio.Creator {
	return func(id string) (cio.IO, error) {
		name := func(stream string) string { return wire.PipeName(filepath.Join(dir, id), stream) }
		e := &pipeIO{config: cio.Config{Terminal: p.tty}}
		if p.streams.Stdin != nil {
			e.config.Stdin = name("stdin")
			in, err := listenInput(e.config.Stdin)
			if err != nil {
				return nil, errors.Join(err, e.Close())
			}
			e.in = in
		}
		e.config.Stdout = name("stdout")
		err := e.listen(e.config.Stdout, p.streams.Stdout)
		if err == nil && !p.tty {
			e.config.Stderr = name("stderr")
			err = e.listen(e.config.Stderr, p.streams.Stderr)
		}
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		e.start(p.streams.Stdin)
		return e, nil
	}
}

// pipeIO are the pipes of one exec.
type pipeIO struct {
	config cio.Config
	in     *pipeInput
	outs   []*pipeOutput
	copies sync.WaitGroup
}

func (e *pipeIO) listen(name string, to io.Writer) error {
	listener, err := wire.ListenPipe(name)
	if err != nil {
		return err
	}
	e.outs = append(e.outs, &pipeOutput{listener: listener, to: to})
	return nil
}

func (e *pipeIO) start(stdin io.Reader) {
	for _, out := range e.outs {
		e.copies.Go(out.copy)
	}
	if e.in != nil {
		// It ends with the client's stream, which may be later than the process; nobody waits for it.
		go func() {
			_, _ = io.Copy(e.in, stdin)
			_ = e.in.Close()
		}()
	}
}

// Config implements [cio.IO].
func (e *pipeIO) Config() cio.Config { return e.config }

// Cancel ends the copying.
func (e *pipeIO) Cancel() { _ = e.Close() }

// Wait returns when the output has ended.
func (e *pipeIO) Wait() { e.copies.Wait() }

// Close ends the copying. It may be called again.
func (e *pipeIO) Close() error {
	var errs []error
	if e.in != nil {
		errs = append(errs, e.in.Close())
	}
	for _, out := range e.outs {
		errs = append(errs, out.Close())
	}
	return errors.Join(errs...)
}

// pipeOutput is the listening end of an output pipe.
type pipeOutput struct {
	listener net.Listener
	to       io.Writer

	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

// copy passes on what the one writer prints, to the end.
func (p *pipeOutput) copy() {
	defer func() { _ = p.Close() }()
	conn, err := p.listener.Accept()
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conn = conn
	closed := p.closed
	p.mu.Unlock()
	receipts := relay.NewReceipts(conn, 0)
	buf := make([]byte, 32<<10)
	for taken := int64(0); !closed; {
		n, err := conn.Read(buf)
		if n > 0 {
			if _, err := p.to.Write(buf[:n]); err != nil {
				break
			}
			taken += int64(n)
			receipts.Stored(taken)
		}
		if err != nil {
			break
		}
	}
	_ = conn.Close()
	receipts.Close()
}

// Close ends the copying. It may be called again.
func (p *pipeOutput) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	err := p.listener.Close()
	if p.conn != nil {
		err = errors.Join(err, p.conn.Close())
	}
	return err
}
