// Package apitest provides small fakes of the engine's parts for tests of the
// API: they remember what they were asked, answer with what a test put in, and
// fail when told to.
package apitest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"slipway/api"
	"slipway/container"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// Part is what all fakes have in common. The zero Part is ready.
type Part struct {
	mu    sync.Mutex
	err   error
	panic any
	last  any
}

// Fail makes every following call return err.
func (p *Part) Fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// Panic makes every following call panic.
func (p *Part) Panic(v any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.panic = v
}

// Last returns the arguments of the latest call.
func (p *Part) Last() any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// call records a call and says how it ends.
func (p *Part) call(args any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = args
	if p.panic != nil {
		panic(p.panic)
	}
	return p.err
}

// Containers is a fake with one container, web. Its main process and its execs
// echo their input to stdout, write "oops" to stderr, and end with their input.
type Containers struct {
	Part

	TTY       bool
	Inspected mobycontainer.InspectResponse
	Listed    []mobycontainer.Summary
	Messages  []container.LogMessage
	LogError  error
	// Ended receives the cause of the end of each session's context, or nil if
	// the input ended first.
	Ended chan error
	// Silent sessions do nothing but wait for their context's end.
	Silent  bool
	Archive string
	// Exit is what Wait delivers; nil means never.
	Exit chan mobycontainer.WaitResponse
}

// lastWork is how long a session's process works on after its input has ended.
const lastWork = 20 * time.Millisecond

// Name is the container that exists.
const Name = "web"

func (c *Containers) on(ref string, args any) error {
	if err := c.call(args); err != nil {
		return err
	}
	if ref != Name {
		return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	}
	return nil
}

// Create implements [api.Containers].
func (c *Containers) Create(_ context.Context, req container.CreateRequest) (mobycontainer.CreateResponse, error) {
	return mobycontainer.CreateResponse{ID: "4c01db0b339c"}, c.call(req)
}

// Start implements [api.Containers].
func (c *Containers) Start(_ context.Context, ref string) error { return c.on(ref, "start") }

// Stop implements [api.Containers].
func (c *Containers) Stop(_ context.Context, ref string, opts container.StopOptions) error {
	return c.on(ref, opts)
}

// Restart implements [api.Containers].
func (c *Containers) Restart(_ context.Context, ref string, opts container.StopOptions) error {
	return c.on(ref, opts)
}

// Rename implements [api.Containers].
func (c *Containers) Rename(_ context.Context, ref, name string) error { return c.on(ref, name) }

// Remove implements [api.Containers].
func (c *Containers) Remove(_ context.Context, ref string, opts container.RemoveOptions) error {
	return c.on(ref, opts)
}

// Kill implements [api.Containers].
func (c *Containers) Kill(_ context.Context, ref, signal string) error { return c.on(ref, signal) }

// Pause implements [api.Containers].
func (c *Containers) Pause(_ context.Context, ref string) error { return c.on(ref, "pause") }

// Unpause implements [api.Containers].
func (c *Containers) Unpause(_ context.Context, ref string) error { return c.on(ref, "unpause") }

// Resize implements [api.Containers].
func (c *Containers) Resize(_ context.Context, ref string, height, width uint16) error {
	return c.on(ref, [2]uint16{height, width})
}

// Wait implements [api.Containers].
func (c *Containers) Wait(_ context.Context, ref string, condition mobycontainer.WaitCondition) (<-chan mobycontainer.WaitResponse, error) {
	return c.Exit, c.on(ref, condition)
}

// List implements [api.Containers].
func (c *Containers) List(_ context.Context, opts container.ListOptions) ([]mobycontainer.Summary, error) {
	return c.Listed, c.call(opts)
}

// Inspect implements [api.Containers].
func (c *Containers) Inspect(_ context.Context, ref string, size bool) (mobycontainer.InspectResponse, error) {
	return c.Inspected, c.on(ref, size)
}

// Changes implements [api.Containers].
func (c *Containers) Changes(_ context.Context, ref string) ([]mobycontainer.FilesystemChange, error) {
	return []mobycontainer.FilesystemChange{{Kind: 1, Path: "/etc/x"}}, c.on(ref, "changes")
}

// Commit implements [api.Containers].
func (c *Containers) Commit(_ context.Context, ref string, opts container.CommitOptions) (string, error) {
	return "sha256:abc", c.on(ref, opts)
}

// Logs implements [api.Containers].
func (c *Containers) Logs(ctx context.Context, ref string, opts container.LogsOptions) (*container.LogStream, error) {
	if err := c.on(ref, opts); err != nil {
		return nil, err
	}
	return &container.LogStream{TTY: c.TTY, Messages: func(yield func(container.LogMessage, error) bool) {
		for _, m := range c.Messages {
			if !yield(m, nil) {
				return
			}
		}
		if c.LogError != nil {
			yield(container.LogMessage{}, c.LogError)
			return
		}
		if opts.Follow {
			<-ctx.Done()
			c.ended(context.Cause(ctx))
		}
	}}, nil
}

// Attach implements [api.Containers].
func (c *Containers) Attach(_ context.Context, ref string, opts container.AttachOptions) (api.Attachment, error) {
	if err := c.on(ref, opts); err != nil {
		return nil, err
	}
	return session{c}, nil
}

// ExecCreate implements [api.Containers].
func (c *Containers) ExecCreate(_ context.Context, ref string, req mobycontainer.ExecCreateRequest) (string, error) {
	return "e1", c.on(ref, req)
}

// ExecStart implements [api.Containers].
func (c *Containers) ExecStart(_ context.Context, id string, opts container.ExecStartOptions) (api.ExecSession, error) {
	if id != "e1" {
		return nil, errdefs.ErrNotFound.WithMessage("No such exec instance: " + id)
	}
	return session{c}, c.call(opts)
}

// ExecInspect implements [api.Containers].
func (c *Containers) ExecInspect(_ context.Context, id string) (mobycontainer.ExecInspectResponse, error) {
	return mobycontainer.ExecInspectResponse{ID: id}, c.call(id)
}

// ExecResize implements [api.Containers].
func (c *Containers) ExecResize(_ context.Context, id string, height, width uint16) error {
	return c.call(fmt.Sprintf("%s %dx%d", id, height, width))
}

// ArchiveStat implements [api.Containers].
func (c *Containers) ArchiveStat(_ context.Context, ref, path string) (mobycontainer.PathStat, error) {
	return mobycontainer.PathStat{Name: path, Size: 7}, c.on(ref, path)
}

// ArchiveGet implements [api.Containers].
func (c *Containers) ArchiveGet(_ context.Context, ref, path string) (io.ReadCloser, mobycontainer.PathStat, error) {
	return io.NopCloser(strings.NewReader(c.Archive)), mobycontainer.PathStat{Name: path, Size: 7}, c.on(ref, path)
}

// ArchivePut implements [api.Containers].
func (c *Containers) ArchivePut(_ context.Context, ref, path string, tar io.Reader, noOverwriteDirNonDir, copyUIDGID bool) error {
	content, err := io.ReadAll(tar)
	if err != nil {
		return err
	}
	return c.on(ref, fmt.Sprintf("%s %s %t %t", path, content, noOverwriteDirNonDir, copyUIDGID))
}

func (c *Containers) ended(cause error) {
	if c.Ended != nil {
		c.Ended <- cause
	}
}

// session is an attach or exec session with the echoing process.
type session struct{ c *Containers }

func (s session) TTY() bool    { return s.c.TTY }
func (s session) Close() error { return nil }

func (s session) Run(ctx context.Context, streams container.Streams) error {
	return s.Copy(ctx, streams)
}

func (s session) Copy(ctx context.Context, streams container.Streams) error {
	if s.c.Silent {
		<-ctx.Done()
		s.c.ended(context.Cause(ctx))
		return context.Cause(ctx)
	}
	if s.c.LogError != nil {
		return s.c.LogError
	}
	if streams.Stdin != nil {
		if _, err := io.Copy(streams.Stdout, streams.Stdin); err != nil {
			s.c.ended(context.Cause(ctx))
			return err
		}
		// The end of the input must not end the session: like a database at the
		// end of a script, the process has still something to do.
		select {
		case <-ctx.Done():
			s.c.ended(context.Cause(ctx))
			return context.Cause(ctx)
		case <-time.After(lastWork):
		}
	}
	if streams.Stderr != nil {
		if _, err := io.WriteString(streams.Stderr, "oops"); err != nil {
			return err
		}
	}
	s.c.ended(nil)
	return nil
}
