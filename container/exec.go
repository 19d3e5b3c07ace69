package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"slipway/shim"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// execKept is how long an exec that has ended can be inspected.
const execKept = 5 * time.Minute

// execDrain bounds the wait for the output of an exec whose process has ended,
// since a background child may hold its streams open for ever.
const execDrain = 2 * time.Second

// execution is one exec: created, then started once.
type execution struct {
	id      string
	c       *container
	run     *run // in whose life it was created
	request mobycontainer.ExecCreateRequest
	detach  []byte

	mu       sync.Mutex
	started  bool
	running  bool
	exitCode *int
	pid      int
	process  containerd.Process
}

// ExecCreate prepares a process in a running container and returns its id.
func (m *Manager) ExecCreate(_ context.Context, ref string, request mobycontainer.ExecCreateRequest) (string, error) {
	c, err := m.find(ref)
	if err != nil {
		return "", err
	}
	run, err := m.executable(c)
	if err != nil {
		return "", err
	}
	if len(request.Cmd) == 0 {
		return "", errdefs.ErrInvalidArgument.WithMessage("No exec command specified")
	}
	detach, err := detachKeys(request.DetachKeys)
	if err != nil {
		return "", err
	}
	id, err := newID()
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	m.execs[id] = &execution{id: id, c: c, run: run, request: request, detach: detach}
	m.mu.Unlock()
	m.publish(c, mobyevents.Action("exec_create: "+strings.Join(request.Cmd, " ")), map[string]string{"execID": id})
	return id, nil
}

// executable returns the present run if a process can be started in it.
func (m *Manager) executable(c *container) (*run, error) {
	run := c.run.Load()
	switch status := c.status(); {
	case status == mobycontainer.StatePaused:
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is paused, unpause the container before exec", c.id))
	case status == mobycontainer.StateRestarting:
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is restarting, wait until the container is running", c.id))
	case run == nil || status != mobycontainer.StateRunning:
		return nil, notRunning(c)
	}
	return run, nil
}

func (m *Manager) exec(id string) (*execution, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if e := m.execs[id]; e != nil {
		return e, nil
	}
	return nil, errdefs.ErrNotFound.WithMessage("No such exec instance: " + id)
}

// ExecInspect returns the state of an exec.
func (m *Manager) ExecInspect(_ context.Context, id string) (mobycontainer.ExecInspectResponse, error) {
	e, err := m.exec(id)
	if err != nil {
		return mobycontainer.ExecInspectResponse{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	privileged := e.request.Privileged
	return mobycontainer.ExecInspectResponse{
		ID: e.id, Running: e.running, ExitCode: e.exitCode, Pid: e.pid,
		ProcessConfig: &mobycontainer.ExecProcessConfig{
			Tty: e.request.Tty, Entrypoint: e.request.Cmd[0], Arguments: e.request.Cmd[1:],
			Privileged: &privileged, User: e.request.User,
		},
		OpenStdin: e.request.AttachStdin, OpenStdout: e.request.AttachStdout, OpenStderr: e.request.AttachStderr,
		ContainerID: e.c.id, DetachKeys: e.detach, CanRemove: e.exitCode != nil,
	}, nil
}

// ExecResize changes the size of an exec's terminal, in characters.
func (m *Manager) ExecResize(ctx context.Context, id string, height, width uint16) error {
	e, err := m.exec(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	process := e.process
	e.mu.Unlock()
	if process == nil {
		return errdefs.ErrInvalidArgument.WithMessage("exec process is not started")
	}
	return process.Resize(ctx, uint32(width), uint32(height))
}

// ExecSession is an exec that is about to run. Its caller calls Run once.
type ExecSession struct {
	m    *Manager
	e    *execution
	opts ExecStartOptions
}

// ExecStart claims an exec for running: each can run once.
func (m *Manager) ExecStart(_ context.Context, id string, opts ExecStartOptions) (*ExecSession, error) {
	e, err := m.exec(id)
	if err != nil {
		return nil, err
	}
	run, err := m.executable(e.c)
	if err != nil {
		return nil, err
	}
	if run != e.run {
		return nil, errdefs.ErrConflict.WithMessage("exec " + id + " belongs to an earlier run of the container")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started {
		return nil, errdefs.ErrConflict.WithMessage("exec command " + id + " has already run")
	}
	e.started = true
	if opts.ConsoleSize == nil {
		opts.ConsoleSize = e.request.ConsoleSize
	}
	return &ExecSession{m: m, e: e, opts: opts}, nil
}

// TTY reports whether all output goes to one raw stream.
func (s *ExecSession) TTY() bool { return s.e.request.Tty }

// Run starts the process. Detached, it returns then; else it moves bytes between
// the client and the process until the process ends, the client detaches or ctx
// ends. As with [Attachment.Copy] a read of stdin may outlive it.
func (s *ExecSession) Run(ctx context.Context, streams Streams) error {
	e := s.e
	if s.opts.Detach {
		streams = Streams{}
	}
	p, ended, err := s.m.startExec(ctx, e, streams, s.opts.ConsoleSize)
	if err != nil {
		s.m.failExec(e, err)
		return err
	}
	if s.opts.Detach {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-p.detached:
		s.m.publish(e.c, mobyevents.ActionExecDetach, map[string]string{"execID": e.id})
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-e.run.streams.Done():
	}
	// The container is being stopped; give the exec's end a moment to arrive.
	select {
	case <-ended:
	case <-time.After(execDrain):
	}
	return nil
}

// failExec records that an exec could not be started, with the exit codes of a
// shell where the runtime has tried to.
func (m *Manager) failExec(e *execution, err error) {
	code := notExecutable
	if cause, ok := errors.AsType[runtimeError](err); ok {
		code = startFailureCode(cause)
	}
	e.mu.Lock()
	e.running, e.exitCode = false, &code
	e.mu.Unlock()
	m.forgetLater(e)
}

// startExec starts the process and a goroutine that settles its end; the channel
// is closed after that.
func (m *Manager) startExec(ctx context.Context, e *execution, streams Streams, size *[2]uint) (*execProcess, <-chan struct{}, error) {
	unlock, err := m.share(ctx, e.c, "exec")
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	// Again, now that it cannot change.
	if now, err := m.executable(e.c); err != nil {
		return nil, nil, err
	} else if now != e.run {
		return nil, nil, notRunning(e.c)
	}
	spec, err := m.execSpec(ctx, e, size)
	if err != nil {
		return nil, nil, err
	}
	// The process outlives the request that starts it.
	life := context.WithoutCancel(ctx)
	p := newExecProcess(e, streams)
	process, exited, err := e.start(life, spec, p.creator(m.execDir()))
	if err != nil {
		p.end()
		return nil, nil, err
	}
	p.begin(life, process)
	e.mu.Lock()
	e.running, e.process, e.pid = true, process, int(process.Pid())
	e.mu.Unlock()
	m.publish(e.c, mobyevents.Action("exec_start: "+strings.Join(e.request.Cmd, " ")), map[string]string{"execID": e.id})
	ended := make(chan struct{})
	m.wg.Go(func() {
		defer close(ended)
		defer p.end()
		select {
		case status := <-exited:
			m.settleExec(life, e, process, status)
		case <-m.background.Done():
			process.IO().Cancel()
		}
	})
	return p, ended, nil
}

// start creates and starts the process.
func (e *execution) start(ctx context.Context, spec *specs.Process, streams cio.Creator) (containerd.Process, <-chan containerd.ExitStatus, error) {
	process, err := e.run.task.Exec(ctx, e.id, spec, streams)
	var exited <-chan containerd.ExitStatus
	if err == nil {
		exited, err = process.Wait(ctx)
	}
	if err == nil {
		err = process.Start(ctx)
	}
	if err == nil {
		return process, exited, nil
	}
	if process != nil {
		_, _ = process.Delete(ctx, containerd.WithProcessKill) // the error that counts is the first
	}
	// A program that is not there says nothing of the container, which is not waited for.
	if startFailureCode(err) == otherFailure && e.run.ending(ctx) || e.run.hasEnded(ctx) {
		return nil, nil, notRunning(e.c)
	}
	return nil, nil, runtimeError{execError(err)}
}

// settleExec drains and deletes an exec that has ended, and records its exit code.
func (m *Manager) settleExec(ctx context.Context, e *execution, process containerd.Process, status containerd.ExitStatus) {
	awaitIO(process.IO(), execDrain)
	if _, err := process.Delete(ctx); err != nil && !errdefs.IsNotFound(err) {
		m.log(e.c).DebugContext(ctx, "deleting an exec failed", slog.Any("error", err))
	}
	code := int(status.ExitCode())
	e.mu.Lock()
	e.running, e.exitCode, e.process, e.pid = false, &code, nil, 0
	e.mu.Unlock()
	m.publish(e.c, mobyevents.ActionExecDie, map[string]string{"execID": e.id, "exitCode": strconv.Itoa(code)})
	m.forgetLater(e)
}

// forgetLater notes that an exec has ended, and drops those whose clients had
// time to ask for the exit code.
func (m *Manager) forgetLater(e *execution) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.endedExecs = append(m.endedExecs, endedExec{e.id, now})
	for len(m.endedExecs) > 0 && now.Sub(m.endedExecs[0].at) > execKept {
		delete(m.execs, m.endedExecs[0].id)
		m.endedExecs = m.endedExecs[1:]
	}
}

// endedExec is an exec that can be forgotten some time after it has ended.
type endedExec struct {
	id string
	at time.Time
}

// dropExecs forgets the execs of a run that were not started while it lasted.
func (m *Manager) dropExecs(r *run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.execs, func(_ string, e *execution) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.run == r && !e.started
	})
}

// execSpec derives the process from the container's own.
func (m *Manager) execSpec(ctx context.Context, e *execution, size *[2]uint) (*specs.Process, error) {
	spec, err := e.run.task.Spec(ctx)
	if err != nil {
		return nil, err
	}
	request := shim.ExecRequest{
		Args: e.request.Cmd, Env: e.request.Env, Cwd: e.request.WorkingDir,
		Privileged: e.request.Privileged, TTY: e.request.Tty, ConsoleSize: size,
	}
	if e.request.User != "" {
		user, err := m.lookupUser(e.c.id, e.request.User, e.c.record.Load().HostConfig.GroupAdd)
		if err != nil {
			return nil, err
		}
		request.User = &user
	}
	return shim.Exec(spec, request)
}

// execError gives a failure to start a program the class that Docker gives it.
func execError(err error) error {
	if startFailureCode(err) != otherFailure {
		return errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return err
}

// The exit codes of a container or exec that could not be started are a shell's.
const (
	notExecutable = 126
	notFound      = 127
	otherFailure  = 128
)

// startFailureCode reads from the runtime's message why a program could not be
// started; the runtime API has no code for it.
func startFailureCode(err error) int {
	text := err.Error()
	for _, cause := range []string{"executable file not found", "no such file or directory", "system cannot find the file specified"} {
		if strings.Contains(text, cause) {
			return notFound
		}
	}
	for _, cause := range []string{"permission denied", "is a directory", "not a directory", "exec format error"} {
		if strings.Contains(text, cause) {
			return notExecutable
		}
	}
	if errors.Is(err, errdefs.ErrNotFound) {
		return notFound
	}
	return otherFailure
}
