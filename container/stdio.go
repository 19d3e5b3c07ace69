package container

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"slipway/container/logs"
	"slipway/internal/span"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
)

// Output is the log keeper: it reads what containers write, keeps the logs, and
// feeds attached clients. [logs.Keeper] implements it.
type Output interface {
	Register(ctx context.Context, r logs.Registration) error
	Attach(ctx context.Context, id string, o logs.AttachOptions) (*logs.Attachment, error)
	Finish(ctx context.Context, id string) error
	FinishNow(ctx context.Context, id string) error
	Unregister(ctx context.Context, id string) error
}

// drainTimeout bounds the wait for the rest of a container's output. Only a
// process that left the container and holds its pipe takes that long.
const drainTimeout = 5 * time.Second

// stdio is the input and output of one run, made ready by the first that needs
// it: an attach before the start, or the start.
type stdio struct {
	fifos logs.FIFOs
	in    *stdin // nil if the container has no stdin
}

// prepareIO makes the FIFOs of the coming run and has the log keeper read them.
// It returns the same until the run has ended.
func (m *Manager) prepareIO(ctx context.Context, c *container) (*stdio, error) {
	defer span.Start(ctx, "prepare output")()
	c.ioMu.Lock()
	defer c.ioMu.Unlock()
	if c.io != nil {
		return c.io, nil
	}
	run, err := newID()
	if err != nil {
		return nil, err
	}
	return m.openIO(ctx, c, run)
}

// reopenIO is prepareIO for a container that a daemon before this one started.
func (m *Manager) reopenIO(ctx context.Context, c *container) (*stdio, error) {
	c.ioMu.Lock()
	defer c.ioMu.Unlock()
	run, err := os.ReadFile(m.runFile(c.id))
	if err != nil {
		return nil, err
	}
	return m.openIO(ctx, c, string(run))
}

// runFile holds the name under which the log keeper knows the coming, present or
// last run. It must last as long as the FIFOs beside it and the keeper's memory,
// but need not be durable.
func (m *Manager) runFile(id string) string { return filepath.Join(m.ioDir(id), "run") }

// openIO is prepareIO for a given run; c.ioMu is held.
func (m *Manager) openIO(ctx context.Context, c *container, run string) (*stdio, error) {
	r := c.record.Load()
	fifos, err := logs.MakeFIFOs(m.ioDir(c.id), r.Config.OpenStdin, r.Config.Tty)
	if err != nil {
		return nil, err
	}
	log, err := m.logConfig(r)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(m.runFile(c.id), []byte(run), 0o600); err != nil { //nolint:gosec // a path of ours
		return nil, err
	}
	err = m.cfg.Output.Register(ctx, logs.Registration{ID: c.id, Run: run, Stdout: fifos.Stdout, Stderr: fifos.Stderr, Log: log})
	if err != nil {
		return nil, err
	}
	io := &stdio{fifos: fifos}
	if fifos.Stdin != "" {
		if io.in, err = openStdin(fifos.Stdin); err != nil {
			return nil, err
		}
	}
	c.io = io
	return io, nil
}

// finishIO waits for the rest of the output of a run that has ended, and closes
// its streams.
func (m *Manager) finishIO(ctx context.Context, c *container) error {
	defer span.Start(ctx, "finish output")()
	c.ioMu.Lock()
	defer c.ioMu.Unlock()
	io := c.io
	if io == nil {
		return nil
	}
	c.io = nil
	if io.in != nil {
		io.in.close()
	}
	drain, cancel := context.WithTimeoutCause(ctx, drainTimeout, errors.New("a process outside of the container holds its output open"))
	defer cancel()
	if err := m.cfg.Output.Finish(drain, c.id); err != nil {
		return errors.Join(err, m.cfg.Output.FinishNow(ctx, c.id))
	}
	return nil
}

// removeIO ends the log keeper's interest in the container and removes its FIFOs.
func (m *Manager) removeIO(ctx context.Context, c *container) error {
	return errors.Join(m.cfg.Output.Unregister(ctx, c.id), os.RemoveAll(m.ioDir(c.id)))
}

func (m *Manager) ioDir(id string) string {
	return filepath.Join(m.cfg.ExecRoot, "io", id)
}

func (m *Manager) logConfig(r *Record) (logs.LogConfig, error) {
	lc := r.HostConfig.LogConfig
	cfg, err := logs.ParseConfig(lc.Type, lc.Config, r.Config.Labels, r.Config.Env, logs.TagInfo{
		ID: r.ID, Name: r.Name, ImageID: r.Image.ID, ImageName: r.Image.Name,
	})
	if err != nil {
		return logs.LogConfig{}, err
	}
	if cfg.Driver == logs.DriverJSONFile {
		cfg.Path = m.logPath(r.ID)
	}
	return cfg, nil
}

func (m *Manager) logPath(id string) string {
	return filepath.Join(m.dir(id), id+"-json.log")
}

// creator hands the FIFOs to containerd, which gives their names to the shim.
func (s *stdio) creator(terminal bool) cio.Creator {
	return func(id string) (cio.IO, error) {
		return fifoIO{id: id, config: cio.Config{
			Terminal: terminal, Stdin: s.fifos.Stdin, Stdout: s.fifos.Stdout, Stderr: s.fifos.Stderr,
		}}, nil
	}
}

// fifoIO names FIFOs that others read; there is nothing in this process to
// wait for.
type fifoIO struct {
	id     string
	config cio.Config
}

func (f fifoIO) Config() cio.Config { return f.config }
func (fifoIO) Cancel()              {}
func (fifoIO) Wait()                {}
func (fifoIO) Close() error         { return nil }

// stdin is the writing end of a container's input. It can be written before the
// container starts. It is safe for concurrent use.
type stdin struct {
	file io.WriteCloser // a FIFO opened for writing, or a pipe

	mu     sync.Mutex
	task   containerd.Task // nil until the run has started
	ending bool            // the end of the input was asked for
	closed bool
}

// Write passes input on. It waits while the container does not read.
func (s *stdin) Write(p []byte) (int, error) {
	return s.file.Write(p)
}

// end closes the container's input once what was written is its own. Before the
// start that would throw it away, as nobody else holds the FIFO.
func (s *stdin) end(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	if s.task == nil || s.closed {
		return nil
	}
	s.closed = true
	// The shim holds a writing end as well.
	err := errors.Join(s.file.Close(), s.task.CloseIO(ctx, containerd.WithStdinCloser))
	if errdefs.IsNotFound(err) {
		return nil // the container has ended
	}
	return err
}

// started tells that the shim has the FIFO open.
func (s *stdin) started(ctx context.Context, task containerd.Task) error {
	s.mu.Lock()
	s.task = task
	ending := s.ending
	s.mu.Unlock()
	if ending {
		return s.end(ctx)
	}
	return nil
}

// close ends writers when the run is over.
func (s *stdin) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		_ = s.file.Close() // a FIFO's writing end; nothing can be lost by this
	}
}
