package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	apievents "github.com/containerd/containerd/api/events"
	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"slipway/shim/job"
)

// tasks is the task service of one container.
type tasks struct {
	namespace, id string
	log           *slog.Logger
	publish       func(events.Event) // in order, without waiting
	shutdown      func()
	watchers      sync.WaitGroup

	mu        sync.Mutex
	container *job.Container // nil before create and after delete
	spec      *specs.Spec
	bundle    string
	first     *process
	execs     map[string]*process
	paused    bool
}

var _ task.TTRPCTaskService = (*tasks)(nil)

// get returns the first process or an exec. Both that and the container are errdefs.ErrNotFound where
// they are not.
func (t *tasks) get(id, exec string) (*process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.container == nil || id != t.id {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	if exec == "" {
		return t.first, nil
	}
	p, ok := t.execs[exec]
	if !ok {
		return nil, fmt.Errorf("process %s of container %s: %w", exec, id, errdefs.ErrNotFound)
	}
	return p, nil
}

// Create makes the container and its first process, which waits for Start.
func (t *tasks) Create(ctx context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	p, err := t.create(ctx, r)
	if errdefs.IsNotImplemented(err) {
		// That would be understood as: not implemented in this version of the service. containerd
		// would try an older one, fail in the clean-up, and leave the shim.
		err = fmt.Errorf("%w: %s", errdefs.ErrFailedPrecondition, err) //nolint:errorlint // not of that class any more
	}
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	t.publish(&apievents.TaskCreate{
		ContainerID: t.id, Bundle: r.Bundle, Pid: p.pid(),
		IO: &apievents.TaskIO{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
	})
	t.watchers.Go(func() { t.watchFirst(p) })
	return &task.CreateTaskResponse{Pid: p.pid()}, nil
}

func (t *tasks) create(ctx context.Context, r *task.CreateTaskRequest) (_ *process, err error) {
	if len(r.Rootfs) > 0 || r.Checkpoint != "" {
		return nil, fmt.Errorf("this runtime mounts nothing and has no checkpoints: %w", errdefs.ErrNotImplemented)
	}
	spec, err := readSpec(r.Bundle)
	if err != nil {
		return nil, err
	}
	cfg, err := t.config(spec, r.Bundle)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.container != nil || r.ID != t.id {
		return nil, fmt.Errorf("this shim is for one container %s: %w", t.id, errdefs.ErrAlreadyExists)
	}
	container, err := job.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p := newProcess("", spec.Process, r.Stdin, r.Stdout, r.Stderr)
	if err := t.make(ctx, container, p); err != nil {
		return nil, errors.Join(err, container.Close())
	}
	t.container, t.spec, t.bundle, t.first, t.execs = container, spec, r.Bundle, p, map[string]*process{}
	return p, nil
}

// config is what the specification says of the container.
func (t *tasks) config(spec *specs.Spec, bundle string) (cfg job.Config, err error) {
	if spec.Process == nil || spec.Root == nil {
		return cfg, fmt.Errorf("the specification has no process or no root: %w", errdefs.ErrInvalidArgument)
	}
	cfg = job.Config{
		ID: t.id, Name: job.Name(t.namespace, t.id), Root: spec.Root.Path, Log: t.log,
		OnOutOfMemory: sync.OnceFunc(func() { t.publish(&apievents.TaskOOM{ContainerID: t.id}) }),
	}
	if !filepath.IsAbs(cfg.Root) {
		cfg.Root = filepath.Join(bundle, cfg.Root)
	}
	if info, err := os.Stat(cfg.Root); err != nil || !info.IsDir() {
		return cfg, fmt.Errorf("the container's root %s is no directory: %w", cfg.Root, errdefs.ErrInvalidArgument)
	}
	for _, mount := range spec.Mounts {
		if mount.Source != "" {
			cfg.Dirs = append(cfg.Dirs, mount.Source)
		}
	}
	if cfg.Limits, err = job.LimitsOf(spec, runtime.NumCPU()); err != nil {
		return cfg, err
	}
	cfg.Identity, err = job.IdentityOf(spec)
	return cfg, err
}

// make makes p's process in the container, suspended.
func (t *tasks) make(ctx context.Context, container *job.Container, p *process) error {
	program := job.Program{
		Args: p.spec.Args, CommandLine: p.spec.CommandLine, Dir: p.spec.Cwd, Env: container.Environment(p.spec.Env),
	}
	if p.spec.Terminal {
		var err error
		if program, err = withConsole(container, program, p.spec.ConsoleSize); err != nil {
			return err
		}
	}
	s, err := newStreams(ctx, t.log, p)
	if err != nil {
		return err
	}
	program.Stdin, program.Stdout, program.Stderr = s.stdin, s.stdout, s.stderr
	running, err := container.Create(program)
	if err != nil {
		s.abandon()
		return err
	}
	s.handedOver()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running, p.streams = running, s
	return nil
}

// watchFirst tells the end of the container, once nothing of it runs any more.
func (t *tasks) watchFirst(p *process) {
	t.mu.Lock()
	container, bundle := t.container, t.bundle
	t.mu.Unlock()
	<-container.Ended()
	how := exitOf(p.running)
	if err := writeExit(bundle, how); err != nil {
		t.log.Error("noting the container's exit failed", slog.Any("error", err))
	}
	p.finish(how)
	t.publish(&apievents.TaskExit{ContainerID: t.id, ID: t.id, Pid: how.PID, ExitStatus: how.Status, ExitedAt: timestamppb.New(how.At)})
}

// Start lets a process run; an exec's is made before.
func (t *tasks) Start(ctx context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	p, err := t.get(r.ID, r.ExecID)
	if err == nil {
		err = t.start(ctx, p)
	}
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	return &task.StartResponse{Pid: p.pid()}, nil
}

func (t *tasks) start(ctx context.Context, p *process) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	container := t.container
	switch {
	case container == nil:
		return fmt.Errorf("container %s: %w", t.id, errdefs.ErrNotFound)
	case p.hasStarted() || p.hasEnded():
		return fmt.Errorf("the process has been started: %w", errdefs.ErrFailedPrecondition)
	case t.paused:
		return fmt.Errorf("container %s is paused: %w", t.id, errdefs.ErrFailedPrecondition)
	case p != t.first && !t.first.hasStarted():
		return fmt.Errorf("container %s has not been started: %w", t.id, errdefs.ErrFailedPrecondition)
	}
	if p != t.first {
		if err := t.make(ctx, container, p); err != nil {
			return err
		}
	}
	// The event of the start comes before that of the end.
	p.mu.Lock()
	p.started = true
	running := p.running
	p.mu.Unlock()
	if p == t.first {
		t.publish(&apievents.TaskStart{ContainerID: t.id, Pid: running.PID})
	} else {
		t.publish(&apievents.TaskExecStarted{ContainerID: t.id, ExecID: p.id, Pid: running.PID})
		t.watchers.Go(func() { t.watchExec(p, running) })
	}
	if err := running.Start(); err != nil {
		return errors.Join(err, running.Kill(job.ExitKilled))
	}
	return nil
}

func (t *tasks) watchExec(p *process, running *job.Process) {
	<-running.Exited()
	how := exitOf(running)
	p.finish(how)
	t.publish(&apievents.TaskExit{ContainerID: t.id, ID: p.id, Pid: how.PID, ExitStatus: how.Status, ExitedAt: timestamppb.New(how.At)})
}

// Exec adds a process, which Start makes.
func (t *tasks) Exec(_ context.Context, r *task.ExecProcessRequest) (*emptypb.Empty, error) {
	if err := t.addExec(r); err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	t.publish(&apievents.TaskExecAdded{ContainerID: t.id, ExecID: r.ExecID})
	return &emptypb.Empty{}, nil
}

func (t *tasks) addExec(r *task.ExecProcessRequest) error {
	spec, err := processOf(r.Spec)
	if err != nil {
		return err
	}
	spec.Terminal = spec.Terminal || r.Terminal
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.container == nil || r.ID != t.id:
		return fmt.Errorf("container %s: %w", r.ID, errdefs.ErrNotFound)
	case r.ExecID == "" || t.execs[r.ExecID] != nil:
		return fmt.Errorf("process %q of container %s: %w", r.ExecID, t.id, errdefs.ErrAlreadyExists)
	case t.first.hasEnded():
		return fmt.Errorf("container %s has ended: %w", t.id, errdefs.ErrFailedPrecondition)
	}
	t.execs[r.ExecID] = newProcess(r.ExecID, spec, r.Stdin, r.Stdout, r.Stderr)
	return nil
}

// Delete removes an exec, or the container with all that it has on the host.
func (t *tasks) Delete(_ context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	how, err := t.remove(r)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	return &task.DeleteResponse{Pid: how.PID, ExitStatus: how.Status, ExitedAt: timestamppb.New(how.At)}, nil
}

func (t *tasks) remove(r *task.DeleteRequest) (exit, error) {
	p, err := t.get(r.ID, r.ExecID)
	if err != nil {
		return exit{}, err
	}
	if p.hasStarted() && !p.hasEnded() {
		return exit{}, fmt.Errorf("the process is running: %w", errdefs.ErrFailedPrecondition)
	}
	if r.ExecID != "" {
		return t.removeExec(p)
	}
	return t.removeContainer(p)
}

func (t *tasks) removeExec(p *process) (exit, error) {
	p.mu.Lock()
	running, s, how := p.running, p.streams, p.how
	p.mu.Unlock()
	var err error
	if running != nil {
		s.drain()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.execs[p.id] != p {
		return how, nil
	}
	delete(t.execs, p.id)
	if running != nil {
		err = t.container.Forget(running)
	}
	return how, err
}

func (t *tasks) removeContainer(p *process) (exit, error) {
	t.mu.Lock()
	container, execs := t.container, t.execs
	t.mu.Unlock()
	if container == nil {
		return exit{}, fmt.Errorf("container %s: %w", t.id, errdefs.ErrNotFound)
	}
	// A process that was made and never started.
	if err := container.Terminate(job.ExitKilled); err != nil {
		return exit{}, err
	}
	<-p.ended
	p.streams.drain()
	for _, e := range execs {
		if s := e.currentStreams(); s != nil {
			s.drain()
		}
	}
	t.mu.Lock()
	if t.container != container {
		t.mu.Unlock()
		return exit{}, fmt.Errorf("container %s: %w", t.id, errdefs.ErrNotFound)
	}
	t.container = nil
	t.mu.Unlock()
	if err := container.Close(); err != nil {
		t.log.Error("closing the container failed", slog.Any("error", err))
	}
	t.publish(&apievents.TaskDelete{ContainerID: t.id, Pid: p.how.PID, ExitStatus: p.how.Status, ExitedAt: timestamppb.New(p.how.At)})
	return p.how, nil
}

// Shutdown ends the shim, unless it has a container.
func (t *tasks) Shutdown(_ context.Context, r *task.ShutdownRequest) (*emptypb.Empty, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.container == nil || r.Now {
		t.shutdown()
	}
	return &emptypb.Empty{}, nil
}
