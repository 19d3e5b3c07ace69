package service

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/Microsoft/hcsshim/cmd/containerd-shim-runhcs-v1/stats"
	apievents "github.com/containerd/containerd/api/events"
	task "github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"slipway/shim/job"
)

// State returns a process's state.
func (t *tasks) State(_ context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	p, err := t.get(r.ID, r.ExecID)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	t.mu.Lock()
	bundle, paused := t.bundle, t.paused
	t.mu.Unlock()
	status, how := p.status(paused && r.ExecID == "")
	response := &task.StateResponse{
		ID: r.ID, ExecID: r.ExecID, Bundle: bundle, Pid: p.pid(), Status: status,
		Stdin: p.stdin, Stdout: p.stdout, Stderr: p.stderr, Terminal: p.spec.Terminal,
	}
	if status == tasktypes.Status_STOPPED {
		response.ExitStatus, response.ExitedAt = how.Status, timestamppb.New(how.At)
	}
	return response, nil
}

// Wait returns when a process has ended.
func (t *tasks) Wait(ctx context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	p, err := t.get(r.ID, r.ExecID)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	select {
	case <-p.ended:
		return &task.WaitResponse{ExitStatus: p.how.Status, ExitedAt: timestamppb.New(p.how.At)}, nil
	case <-ctx.Done():
		return nil, errgrpc.ToGRPC(context.Cause(ctx))
	}
}

// Connect tells the ids of the shim's process and the container's first.
func (t *tasks) Connect(_ context.Context, r *task.ConnectRequest) (*task.ConnectResponse, error) {
	response := &task.ConnectResponse{ShimPid: uint32(os.Getpid()), Version: strconv.Itoa(taskVersion)} //nolint:gosec // process ids have 32 bits
	if p, err := t.get(r.ID, ""); err == nil {
		response.TaskPid = p.pid()
	}
	return response, nil
}

// Pids lists the processes of the container.
func (t *tasks) Pids(_ context.Context, r *task.PidsRequest) (*task.PidsResponse, error) {
	container, err := t.alive(r.ID)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	pids, err := container.PIDs()
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	var response task.PidsResponse
	for _, pid := range pids {
		response.Processes = append(response.Processes, &tasktypes.ProcessInfo{Pid: pid})
	}
	return &response, nil
}

// alive returns the container.
func (t *tasks) alive(id string) (*job.Container, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.container == nil || id != t.id {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return t.container, nil
}

// Pause stops all processes of the container.
func (t *tasks) Pause(ctx context.Context, r *task.PauseRequest) (*emptypb.Empty, error) {
	if err := t.setPaused(ctx, r.ID, true); err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	t.publish(&apievents.TaskPaused{ContainerID: t.id})
	return &emptypb.Empty{}, nil
}

// Resume lets them go on.
func (t *tasks) Resume(ctx context.Context, r *task.ResumeRequest) (*emptypb.Empty, error) {
	if err := t.setPaused(ctx, r.ID, false); err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	t.publish(&apievents.TaskResumed{ContainerID: t.id})
	return &emptypb.Empty{}, nil
}

func (t *tasks) setPaused(ctx context.Context, id string, pause bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.container == nil || id != t.id:
		return fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	case !t.first.hasStarted() || t.first.hasEnded():
		return fmt.Errorf("container %s is not running: %w", id, errdefs.ErrFailedPrecondition)
	case t.paused == pause:
		return fmt.Errorf("container %s: paused is %t: %w", id, pause, errdefs.ErrFailedPrecondition)
	}
	var err error
	if pause {
		err = t.container.Suspend(ctx)
	} else {
		err = t.container.Resume()
	}
	if err == nil {
		t.paused = pause
	}
	return err
}

// Kill sends a signal to a process: SIGKILL terminates, to the first process the whole container. Other
// signals that mean an end ask for it. There is nothing else that Windows' processes take.
func (t *tasks) Kill(ctx context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	if err := t.kill(ctx, r); err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	return &emptypb.Empty{}, nil
}

func (t *tasks) kill(ctx context.Context, r *task.KillRequest) error {
	p, err := t.get(r.ID, r.ExecID)
	if err != nil {
		return err
	}
	container, err := t.alive(r.ID)
	if err != nil {
		return err
	}
	switch {
	case p.hasEnded():
		return fmt.Errorf("process already finished: %w", errdefs.ErrNotFound)
	case p != t.first && !p.hasStarted():
		return fmt.Errorf("process %s has not been started: %w", p.id, errdefs.ErrFailedPrecondition)
	}
	switch syscall.Signal(r.Signal) {
	case syscall.SIGKILL:
		if p == t.first {
			return container.Terminate(job.ExitKilled)
		}
		return p.running.Kill(job.ExitKilled)
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP:
		if !p.hasStarted() {
			return container.Terminate(job.ExitKilled)
		}
		return t.ask(ctx, container, p)
	default:
		return fmt.Errorf("signal %d: Windows has only the ends SIGTERM, SIGINT, SIGQUIT, SIGHUP and SIGKILL: %w", r.Signal, errdefs.ErrInvalidArgument)
	}
}

// ask asks a process to end, and does not wait for it: by the stop command of the container if it is
// for the first process and there is one, else by Ctrl-C at its terminal if it has one, else by CTRL_BREAK.
func (t *tasks) ask(ctx context.Context, container *job.Container, p *process) error {
	program := job.Program{Env: container.Environment(t.spec.Process.Env), Dir: t.spec.Process.Cwd}
	command := t.spec.Annotations[job.StopAnnotation]
	if p != t.first || command == "" {
		if typed, err := p.currentStreams().interrupt(); typed {
			return err
		}
	}
	if command != "" && p == t.first {
		program.CommandLine = command
	} else {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		program.Args = []string{self, breakAction, strconv.FormatUint(uint64(p.pid()), 10)}
	}
	helper, err := container.Create(program)
	if err != nil {
		return fmt.Errorf("asking the container to stop: %w", err)
	}
	t.watchers.Go(func() {
		<-helper.Exited()
		// It may be ended with the container that it has stopped.
		if code, _ := helper.Exit(); code != 0 && code != job.ExitKilled {
			t.log.WarnContext(ctx, "asking the container to stop failed", slog.Uint64("exit_code", uint64(code)))
		}
		if err := container.Forget(helper); err != nil {
			t.log.ErrorContext(ctx, "closing a process failed", slog.Any("error", err))
		}
	})
	return helper.Start()
}

// CloseIO ends a process's standard input.
func (t *tasks) CloseIO(_ context.Context, r *task.CloseIORequest) (*emptypb.Empty, error) {
	p, err := t.get(r.ID, r.ExecID)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	if s := p.currentStreams(); s != nil && r.Stdin {
		s.closeInput()
	}
	return &emptypb.Empty{}, nil
}

// ResizePty tells a process the size of its terminal.
func (t *tasks) ResizePty(_ context.Context, r *task.ResizePtyRequest) (*emptypb.Empty, error) {
	p, err := t.get(r.ID, r.ExecID)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	s := p.currentStreams()
	if s == nil {
		return nil, errgrpc.ToGRPC(fmt.Errorf("the process has not been started: %w", errdefs.ErrFailedPrecondition))
	}
	if err := s.resize(r.Width, r.Height); err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	return &emptypb.Empty{}, nil
}

// Checkpoint is not implemented: Windows cannot.
func (t *tasks) Checkpoint(context.Context, *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, errgrpc.ToGRPC(fmt.Errorf("checkpoint: %w", errdefs.ErrNotImplemented))
}

// Update is not implemented.
func (t *tasks) Update(context.Context, *task.UpdateTaskRequest) (*emptypb.Empty, error) {
	return nil, errgrpc.ToGRPC(fmt.Errorf("changing the limits of a running container: %w", errdefs.ErrNotImplemented))
}

// Stats returns what the container uses, in the form that Microsoft's shim has for it.
func (t *tasks) Stats(_ context.Context, r *task.StatsRequest) (*task.StatsResponse, error) {
	container, err := t.alive(r.ID)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	s, err := container.Stats()
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	answer, err := typeurl.MarshalAny(statistics(s))
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	return &task.StatsResponse{Stats: &anypb.Any{TypeUrl: answer.GetTypeUrl(), Value: answer.GetValue()}}, nil
}

func statistics(s job.Stats) *stats.Statistics {
	return &stats.Statistics{Container: &stats.Statistics_Windows{Windows: &stats.WindowsContainerStatistics{
		Timestamp: timestamppb.New(s.At),
		Processor: &stats.WindowsContainerProcessorStatistics{
			TotalRuntimeNS: uint64(s.UserTime + s.KernelTime), RuntimeUserNS: uint64(s.UserTime), RuntimeKernelNS: uint64(s.KernelTime), //nolint:gosec // times are not negative
		},
		Memory: &stats.WindowsContainerMemoryStatistics{
			MemoryUsageCommitBytes: s.Memory, MemoryUsageCommitPeakBytes: s.Peak, MemoryUsagePrivateWorkingSetBytes: s.Private,
		},
		Storage: &stats.WindowsContainerStorageStatistics{
			ReadCountNormalized: s.ReadOperations, ReadSizeBytes: s.ReadBytes, WriteCountNormalized: s.WriteOperations, WriteSizeBytes: s.WriteBytes,
		},
	}}}
}

// processOf reads the specification of an exec.
func processOf(spec *anypb.Any) (*specs.Process, error) {
	if spec == nil {
		return nil, fmt.Errorf("an exec without a process: %w", errdefs.ErrInvalidArgument)
	}
	// It is JSON, as everything of OCI.
	var p specs.Process
	if err := json.Unmarshal(spec.GetValue(), &p); err != nil {
		return nil, fmt.Errorf("the process of an exec: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return &p, nil
}

// writeExit notes how the container has ended, for the time after a death of the shim.
func writeExit(bundle string, how exit) error {
	data, err := json.Marshal(how)
	if err != nil {
		return err
	}
	path := filepath.Join(bundle, exitFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
