package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"

	"slipway/internal/cleanup"
)

// ExitKilled is the exit code of what was terminated: what Docker shows of a process that
// got SIGKILL.
const ExitKilled = 137

// Config says what a container is.
type Config struct {
	// ID is the container's id; Name is its inner job's, from [Name].
	ID, Name string
	// Root is the absolute path of the container's root, which is there.
	Root string
	// Dirs are further directories that the container may write: its volumes.
	Dirs     []string
	Identity Identity
	Limits   Limits
	Log      *slog.Logger
	// OnOutOfMemory is called, once or more, when the container is ended for its use of memory
	// or was refused more. It must not wait.
	OnOutOfMemory func()
}

// Container is a container on this host. It is safe for concurrent use.
type Container struct {
	cfg          Config
	outer, inner *object
	port         windows.Handle
	subject      *subject
	suspender    *Suspender
	watcher      chan struct{} // closed at the watcher's end
	ended        chan struct{}
	outOfMemory  atomic.Bool

	mu    sync.Mutex
	first *Process
	all   []*Process
	over  bool // no more processes
}

// New makes the container's jobs, identity and directories, and nothing that runs.
func New(ctx context.Context, cfg Config) (_ *Container, err error) {
	c := &Container{cfg: cfg, watcher: make(chan struct{}), ended: make(chan struct{})}
	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	if c.outer, err = newObject(""); err != nil {
		return nil, err
	}
	undo.Add(func(context.Context) error { return c.outer.close() })
	if c.inner, err = newObject(cfg.Name); err != nil {
		return nil, err
	}
	undo.Add(func(context.Context) error { return c.inner.close() })
	if err := errors.Join(c.outer.killOnClose(), c.inner.limit(cfg.Limits)); err != nil {
		return nil, err
	}
	if c.port, err = windows.CreateIoCompletionPort(windows.InvalidHandle, 0, 0, 1); err != nil {
		return nil, fmt.Errorf("making a completion port: %w", err)
	}
	undo.Add(func(context.Context) error { return windows.CloseHandle(c.port) })
	if err := c.inner.report(c.port); err != nil {
		return nil, err
	}
	for _, dir := range OwnDirs() {
		if _, err := makeDir(cfg.Root, dir); err != nil {
			return nil, err
		}
	}
	if c.subject, err = newSubject(cfg.Identity, cfg.ID); err != nil {
		return nil, err
	}
	undo.Add(func(context.Context) error { return c.subject.close() })
	if err := c.subject.grant(append([]string{cfg.Root}, cfg.Dirs...)); err != nil {
		return nil, err
	}
	c.suspender = &Suspender{job: c.inner}
	go c.watch()
	return c, nil
}

// Create makes a process in the container, which waits for its Start. The first one's end is the
// container's. An ended container is errdefs.ErrFailedPrecondition; a program that is
// not there errdefs.ErrNotFound.
func (c *Container) Create(p Program) (*Process, error) {
	found, err := resolve(c.cfg.Root, p)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil, fmt.Errorf("the container has ended: %w", errdefs.ErrFailedPrecondition)
	}
	s := spawner{
		jobs: []windows.Handle{c.outer.handle, c.inner.handle}, token: c.subject.token, capabilities: c.subject.capabilities,
		otherAccount: c.cfg.Identity == Account,
	}
	process, err := s.spawn(found.path, found.commandLine, found.dir, p)
	if err != nil {
		return nil, err
	}
	c.all = append(c.all, process)
	if c.first == nil {
		c.first = process
		go c.followFirst(process)
	}
	return process, nil
}

// Resolve returns the host's path and the command line of what [Container.Create] would run.
func (c *Container) Resolve(p Program) (path, commandLine string, err error) {
	found, err := resolve(c.cfg.Root, p)
	return found.path, found.commandLine, err
}

// followFirst ends the container with its first process.
func (c *Container) followFirst(first *Process) {
	<-first.Exited()
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.wake(reservedForExitOfFirst)
}

func (c *Container) wake(message uint32) {
	if err := windows.PostQueuedCompletionStatus(c.port, message, 0, nil); err != nil {
		c.cfg.Log.Error("waking the watcher failed", slog.Any("error", err))
	}
}

// watch is the container's guard. It ends when the container has, or with Close.
func (c *Container) watch() {
	defer close(c.watcher)
	guarded := c.cfg.Limits.Memory > 0 || c.cfg.Limits.Processes > 0
	firstEnded := false
	for {
		messages := c.await(guarded || firstEnded)
		if messages.stop {
			return
		}
		firstEnded = firstEnded || messages.firstEnded
		if messages.outOfMemory {
			c.tellOutOfMemory()
		}
		if firstEnded {
			if c.finish() {
				close(c.ended)
				return
			}
			continue
		}
		if err := c.guard(); err != nil {
			c.cfg.Log.Error("guarding the container failed", slog.Any("error", err))
		}
	}
}

func (c *Container) tellOutOfMemory() {
	c.outOfMemory.Store(true)
	if c.cfg.OnOutOfMemory != nil {
		c.cfg.OnOutOfMemory()
	}
}

// messages are what the completion port had.
type messages struct{ stop, firstEnded, outOfMemory bool }

// await waits for a message of the job, or soon until it is time to look, and returns all that
// there are: a program that makes processes without end makes many.
func (c *Container) await(soon bool) messages {
	timeout := uint32(completionWaitInfinite)
	if soon {
		timeout = uint32(GuardInterval / time.Millisecond)
	}
	var got messages
	for {
		var (
			message    uint32
			key        uintptr
			overlapped *windows.Overlapped
		)
		if err := windows.GetQueuedCompletionStatus(c.port, &message, &key, &overlapped, timeout); err != nil {
			return got
		}
		switch message {
		case reservedForEndOfTheWatcher:
			got.stop = true
		case reservedForExitOfFirst:
			got.firstEnded = true
		case messageJobMemoryLimit:
			got.outOfMemory = true
		}
		timeout = 0
	}
}

// finish terminates what the first process left, and reports whether nothing is left. Messages
// of the job may be lost, so it counts.
func (c *Container) finish() bool {
	info, err := c.inner.accounting()
	if err != nil {
		c.cfg.Log.Error("counting the container's processes failed", slog.Any("error", err))
		return false
	}
	if info.basic.active == 0 {
		return true
	}
	if err := c.inner.terminate(ExitKilled); err != nil {
		c.cfg.Log.Error("ending what is left of the container failed", slog.Any("error", err))
	}
	return false
}

// Ended is closed when the first process has ended and none is left.
func (c *Container) Ended() <-chan struct{} { return c.ended }

// OutOfMemory reports whether the container was ended, or refused memory, at its limit.
func (c *Container) OutOfMemory() bool { return c.outOfMemory.Load() }

// Terminate ends all processes with an exit code.
func (c *Container) Terminate(code uint32) error { return c.inner.terminate(code) }

// PIDs returns the ids of the container's processes.
func (c *Container) PIDs() ([]uint32, error) { return c.inner.pids() }

// Suspend stops all processes; see [Suspender.Suspend].
func (c *Container) Suspend(ctx context.Context) error { return c.suspender.Suspend(ctx) }

// Resume lets them go on.
func (c *Container) Resume() error { return c.suspender.Resume() }

func (c *Container) firstPID() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		return 0
	}
	return c.first.PID
}

// Forget lets go of a process that has ended.
func (c *Container) Forget(p *Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, known := range c.all {
		if known == p {
			c.all = append(c.all[:i], c.all[i+1:]...)
			<-p.exited
			return p.close()
		}
	}
	return nil
}

// Close ends the container, waits for its end, and removes what was made for it on the host
// outside of its root.
func (c *Container) Close() error {
	err := c.inner.terminate(ExitKilled)
	c.mu.Lock()
	c.over = true
	all, first := c.all, c.first
	c.all = nil
	c.mu.Unlock()
	if first == nil {
		c.wake(reservedForEndOfTheWatcher)
	}
	<-c.watcher
	for _, p := range all {
		<-p.exited
		err = errors.Join(err, p.close())
	}
	return errors.Join(err, c.suspender.Close(), c.subject.close(), windows.CloseHandle(c.port), c.inner.close(), c.outer.close())
}

// Environment returns the environment of a process of this container; see the function of this name.
func (c *Container) Environment(env []string) []string {
	return Environment(c.cfg.Root, os.Environ(), env)
}
