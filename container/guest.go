package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"slipway/database"
	"slipway/shim"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// guest runs the engine's own programs in a container: probes, and what database
// adapters ask for. It makes no events and no execs that clients see.
type guest struct {
	m   *Manager
	c   *container
	run *run
}

// Exec implements [database.Guest].
func (g guest) Exec(ctx context.Context, cmd database.Command) (database.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cmd.Timeout, database.ErrTimeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	out := &database.Capture{Limit: cmd.OutputLimit, Over: func() { stop(database.ErrOutput) }}
	errOut := &database.Capture{Limit: cmd.OutputLimit, Over: func() { stop(database.ErrOutput) }}
	spec, err := g.spec(ctx, cmd)
	if err != nil {
		return database.Result{}, err
	}
	code, err := g.process(ctx, spec, cmd.Stdin, out, errOut)
	return database.Result{ExitCode: code, Stdout: out.Bytes(), Stderr: errOut.Bytes()}, err
}

func (g guest) spec(ctx context.Context, cmd database.Command) (*specs.Process, error) {
	spec, err := g.run.task.Spec(ctx)
	if err != nil {
		return nil, err
	}
	request := shim.ExecRequest{Args: cmd.Argv, Env: cmd.Env}
	if cmd.User != "" {
		user, err := g.m.lookupUser(g.c.id, cmd.User, nil)
		if err != nil {
			return nil, err
		}
		request.User = &user
	}
	return shim.Exec(spec, request)
}

// process runs a program to its end, or kills it when ctx ends.
func (g guest) process(ctx context.Context, spec *specs.Process, in io.Reader, out, errOut io.Writer) (int, error) {
	id, err := newID()
	if err != nil {
		return 0, err
	}
	life := context.WithoutCancel(ctx)
	p := &execProcess{streams: Streams{Stdout: out, Stderr: errOut}, detached: make(chan struct{})}
	if in != nil {
		p.stdin = &execInput{Reader: in, detached: p.detached, process: make(chan containerd.Process, 1)}
		p.streams.Stdin = p.stdin
	}
	process, err := g.run.task.Exec(life, id, spec, p.creator(g.m.execDir()))
	if err != nil {
		return 0, execError(err)
	}
	exited, err := process.Wait(life)
	if err == nil {
		err = process.Start(life)
	}
	if err != nil {
		_, _ = process.Delete(life, containerd.WithProcessKill)
		return startFailureCode(err), execError(err)
	}
	p.begin(life, process)
	var cause error
	var status containerd.ExitStatus
	select {
	case status = <-exited:
	case <-ctx.Done():
		cause = context.Cause(ctx)
		if err := process.Kill(life, syscall.SIGKILL); err != nil && !errdefs.IsNotFound(err) {
			cause = errors.Join(cause, err)
		}
		select {
		case status = <-exited:
		case <-time.After(execDrain):
			// It hangs in the kernel, or the container is frozen. Its end is the run's.
			process.IO().Cancel()
			return 0, errors.Join(cause, process.IO().Close())
		}
	}
	awaitIO(process.IO(), execDrain)
	if _, err := process.Delete(life); err != nil && !errdefs.IsNotFound(err) {
		cause = errors.Join(cause, fmt.Errorf("deleting the probe's process: %w", err))
	}
	return int(status.ExitCode()), cause
}

// awaitIO waits for the output of a process that has ended, but not for children
// that hold its streams open.
func awaitIO(streams cio.IO, limit time.Duration) {
	drained := make(chan struct{})
	go func() {
		streams.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(limit):
		streams.Cancel()
		_ = streams.Close() // ends the copying, and with it the goroutine above
	}
}
