package container

import (
	"context"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// Wait returns a channel that gives the container's exit code once the condition
// holds. It is closed without a value if ctx ends first. An empty condition is
// "not-running".
func (m *Manager) Wait(ctx context.Context, ref string, condition mobycontainer.WaitCondition) (<-chan mobycontainer.WaitResponse, error) {
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	result := make(chan mobycontainer.WaitResponse, 1)
	// Taken before the state is looked at, so that an end in between is seen.
	next := c.nextExit()
	switch condition {
	case "", mobycontainer.WaitConditionNotRunning:
		state := c.record.Load().State
		if !state.Running() && state.Status != mobycontainer.StateRestarting {
			result <- mobycontainer.WaitResponse{StatusCode: int64(state.ExitCode)}
			close(result)
			return result, nil
		}
		go forwardExit(ctx, next, c.removed, result)
	case mobycontainer.WaitConditionNextExit:
		go forwardExit(ctx, next, c.removed, result)
	case mobycontainer.WaitConditionRemoved:
		go func() {
			defer close(result)
			select {
			case <-c.removed:
				// The end may have been the one before; what was recorded last counts.
				result <- mobycontainer.WaitResponse{StatusCode: int64(c.record.Load().State.ExitCode)}
			case <-ctx.Done():
			}
		}()
	default:
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid condition: \"" + string(condition) + "\"")
	}
	return result, nil
}

// forwardExit ends with ctx, which is the client's request.
func forwardExit(ctx context.Context, next *exit, removed <-chan struct{}, result chan<- mobycontainer.WaitResponse) {
	defer close(result)
	select {
	case <-next.done:
	case <-removed:
		select {
		case <-next.done: // it ended, and was removed at once
		default:
			result <- mobycontainer.WaitResponse{StatusCode: 0}
			return
		}
	case <-ctx.Done():
		return
	}
	result <- mobycontainer.WaitResponse{StatusCode: int64(next.code)}
}
