package agent

import (
	"context"
	"encoding/json"
	"io"
	"sync"
)

// Client is the side that asks. All methods may be called by many at once.
type Client struct {
	out  *sender
	gone chan struct{} // closed when the stream has ended

	mu       sync.Mutex
	lastID   int64
	programs map[int64]*Program
}

// NewClient speaks over the stream until that ends; its reader ends with it, and
// so do all programs, with code -1.
func NewClient(stream io.ReadWriter) *Client {
	c := &Client{out: newSender(stream), gone: make(chan struct{}), programs: map[int64]*Program{}}
	go c.read(stream) // ends with the stream, which is its owner's
	return c
}

// Gone is closed when the stream has ended.
func (c *Client) Gone() <-chan struct{} { return c.gone }

// Options of a program.
type Options struct {
	Env            []string
	Stdout, Stderr io.Writer // nil: thrown away. Must not block for long.
}

// Program runs in the machine.
type Program struct {
	id     int64
	client *Client
	opts   Options
	ended  chan struct{} // closed after code and err were set
	code   int
	err    error
}

// Start starts a program. Its standard input stays open until CloseInput.
func (c *Client) Start(opts Options, argv ...string) (*Program, error) {
	c.mu.Lock()
	c.lastID++
	p := &Program{id: c.lastID, client: c, opts: opts, ended: make(chan struct{})}
	c.programs[p.id] = p
	c.mu.Unlock()
	if err := c.out.send(message{ID: p.id, Argv: argv, Env: opts.Env}); err != nil {
		return nil, err
	}
	return p, nil
}

// Write gives the program input.
func (p *Program) Write(data []byte) (int, error) {
	if err := p.client.out.send(message{ID: p.id, In: data}); err != nil {
		return 0, err
	}
	return len(data), nil
}

// CloseInput ends the program's input.
func (p *Program) CloseInput() error { return p.client.out.send(message{ID: p.id, EOF: true}) }

// Kill ends the program with SIGKILL; Wait tells when it has ended.
func (p *Program) Kill() error { return p.client.out.send(message{ID: p.id, Kill: true}) }

// Wait waits for the end of the program, all of whose output has come by then.
// It fails if the machine went away before or the context ended; in the latter
// case the program is killed.
func (p *Program) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-p.ended:
		return p.code, p.err
	case <-p.client.gone:
		return -1, ErrGone
	case <-ctx.Done():
		_ = p.Kill() // the machine may be gone
		return -1, context.Cause(ctx)
	}
}

func (c *Client) read(stream io.Reader) {
	defer close(c.gone)
	in := json.NewDecoder(stream)
	for {
		var m message
		if in.Decode(&m) != nil {
			return // a killed machine may end anywhere
		}
		c.mu.Lock()
		p := c.programs[m.ID]
		if m.Exit != nil {
			delete(c.programs, m.ID)
		}
		c.mu.Unlock()
		if p != nil {
			p.take(m)
		}
	}
}

func (p *Program) take(m message) {
	if len(m.Out) > 0 && p.opts.Stdout != nil {
		_, p.err = p.opts.Stdout.Write(m.Out)
	}
	if len(m.Err) > 0 && p.opts.Stderr != nil {
		_, p.err = p.opts.Stderr.Write(m.Err)
	}
	if m.Exit != nil {
		p.code = *m.Exit
		close(p.ended)
	}
}
