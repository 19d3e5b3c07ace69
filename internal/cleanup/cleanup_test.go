package cleanup

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRun(t *testing.T) {
	fail, undoFails := errors.New("step"), errors.New("undo")
	operation := func(ctx context.Context, result error) (done []string, err error) {
		var undo Stack
		defer undo.Run(ctx, &err)
		for _, step := range []string{"one", "two"} {
			undo.Add(func(ctx context.Context) error {
				done = append(done, step)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return undoFails
			})
		}
		return nil, result
	}
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))

	done, err := operation(cancelled, nil)
	if err != nil || done != nil {
		t.Errorf("success: undone %v, %v", done, err)
	}
	_, err = operation(cancelled, fail)
	if !errors.Is(err, fail) || !errors.Is(err, undoFails) || errors.Is(err, context.Canceled) {
		t.Errorf("failure: %v", err)
	}
}

func TestRunOrder(t *testing.T) {
	var order []int
	var undo Stack
	for i := range 3 {
		undo.Add(func(context.Context) error { order = append(order, i); return nil })
	}
	err := errors.New("step")
	undo.Run(t.Context(), &err)
	if diff := cmp.Diff([]int{2, 1, 0}, order); diff != "" {
		t.Error(diff)
	}
}
