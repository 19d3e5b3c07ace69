package container

import (
	"errors"
	"net"
	"os"
	"sync"

	"slipway/container/logs/wire"
)

// openStdin makes the pipe of a container's input, to which the shim connects. Nothing is lost before it has: Write
// waits.
//
// The pipe's end is not yet the end of the input: this process may end while the container goes on, and the next makes
// the pipe anew. Only when the shim was told so (CloseIO) is the end of the pipe, once it is read to it, the end of
// the input.
func openStdin(path string) (*stdin, error) {
	p, err := listenInput(path)
	if err != nil {
		return nil, err
	}
	return &stdin{file: p}, nil
}

// pipeInput is the listening end of an input pipe. It is safe for concurrent use.
type pipeInput struct {
	listener  net.Listener
	accepting sync.WaitGroup
	connected chan struct{} // closed when conn is there
	closing   chan struct{}
	once      sync.Once

	mu   sync.Mutex
	conn net.Conn
}

func listenInput(path string) (*pipeInput, error) {
	listener, err := wire.ListenPipe(path)
	if err != nil {
		return nil, err
	}
	p := &pipeInput{listener: listener, connected: make(chan struct{}), closing: make(chan struct{})}
	p.accepting.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conn = conn
		p.mu.Unlock()
		close(p.connected)
	})
	return p, nil
}

// Write passes input on. It waits for the reader to connect, and while it does not read.
func (p *pipeInput) Write(b []byte) (int, error) {
	select {
	case <-p.connected:
		return p.conn.Write(b)
	case <-p.closing:
		return 0, os.ErrClosed
	}
}

// Close ends the pipe; what was written stays readable. A Write under way fails. It may be called again.
func (p *pipeInput) Close() (err error) {
	p.once.Do(func() {
		close(p.closing)
		err = p.listener.Close()
		p.accepting.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.conn != nil {
			err = errors.Join(err, p.conn.Close())
		}
	})
	return err
}
