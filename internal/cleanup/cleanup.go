// Package cleanup undoes the finished steps of an operation that fails later.
package cleanup

import (
	"context"
	"errors"
	"slices"
	"time"
)

// timeout bounds the undoing of one operation, which must also work when the
// operation failed because its own context ended.
const timeout = 30 * time.Second

// Stack holds the undo steps of one operation in the order in which the
// operation's steps were done. The zero value is ready. It is not safe for
// concurrent use.
type Stack struct {
	steps []func(context.Context) error
}

// Add registers the undoing of a step that has just been done.
func (s *Stack) Add(undo func(context.Context) error) {
	s.steps = append(s.steps, undo)
}

// Run undoes the steps, newest first, if *err is not nil, and joins their
// errors to it. The steps run detached from ctx's cancellation. It is meant to
// be deferred with the address of the operation's named result.
func (s *Stack) Run(ctx context.Context, err *error) {
	if *err == nil || len(s.steps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), timeout, errors.New("clean-up took too long"))
	defer cancel()
	for _, undo := range slices.Backward(s.steps) {
		if undoErr := undo(ctx); undoErr != nil {
			*err = errors.Join(*err, undoErr)
		}
	}
	s.steps = nil
}
