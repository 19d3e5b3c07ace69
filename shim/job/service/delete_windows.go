package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/opencontainers/runtime-spec/specs-go"

	"slipway/shim/job"
)

// deathTimeout is how long the processes of a dead shim's container may take to end.
// containerd gives the whole clean-up 5 seconds.
const deathTimeout = 3 * time.Second

// exitFile is the file in the bundle that has the exit of a container that has ended.
const exitFile = "slipway-exit.json"

// exit is how a process has ended.
type exit struct {
	PID    uint32    `json:"pid"`
	Status uint32    `json:"status"`
	At     time.Time `json:"at"`
}

// remove cleans up after a shim that died, and writes to out how the container has ended: as the
// shim noted it, or else by the shim's own end.
func remove(ctx context.Context, call Invocation, out io.Writer) error {
	if err := awaitDeath(ctx, job.Name(call.Namespace, call.ID)); err != nil {
		return err
	}
	if err := removeRootfs(call.Bundle); err != nil {
		return err
	}
	spec, err := readSpec(call.Bundle)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		// With one that is not valid, nothing was made.
		if identity, err := job.IdentityOf(spec); err == nil {
			if err := job.RemoveIdentity(identity, call.ID); err != nil {
				return err
			}
		}
	}
	ended := exit{Status: job.ExitKilled, At: time.Now()}
	if data, err := os.ReadFile(filepath.Join(call.Bundle, exitFile)); err == nil {
		if err := json.Unmarshal(data, &ended); err != nil {
			return fmt.Errorf("%s: %w", exitFile, err)
		}
	}
	return write(out, &task.DeleteResponse{Pid: ended.PID, ExitStatus: ended.Status, ExitedAt: timestamppb.New(ended.At)})
}

// awaitDeath waits until the job of that name is empty. The system terminates its processes when the shim's
// handle is closed.
func awaitDeath(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, deathTimeout, errors.New("the container's processes do not end"))
	defer cancel()
	for {
		err := job.Terminate(name, job.ExitKilled)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("job %s: %w", name, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// readSpec reads the specification of a bundle.
func readSpec(bundle string) (*specs.Spec, error) {
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("the container's specification: %w", err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("the container's specification: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return &spec, nil
}
