package container

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// psTimeout bounds ps, which reads what processes can make slow.
const psTimeout = 10 * time.Second

// processList is what ps says of the processes.
func processList(ctx context.Context, args []string, pids []int) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, psTimeout, errors.New("ps does not end"))
	defer cancel()
	numbers := make([]string, len(pids))
	for i, pid := range pids {
		numbers[i] = strconv.Itoa(pid)
	}
	out, err := exec.CommandContext(ctx, "ps", append(args, "-q"+strings.Join(numbers, ","))...).Output()
	if err == nil {
		return string(out), nil
	}
	// Some options, and the ps of some systems, do not go with -q.
	out, err = exec.CommandContext(ctx, "ps", args...).Output()
	if err == nil {
		return string(out), nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		if reason, _, _ := strings.Cut(string(failed.Stderr), "\n"); reason != "" {
			return "", errdefs.ErrInternal.WithMessage(reason)
		}
	}
	return "", fmt.Errorf("Error running ps: %w", err) //nolint:staticcheck // Docker's words
}
