package job

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestSuspend(t *testing.T) {
	c := start(t, nil)
	_, out := run(t, c, program(c, "count"))
	await(t, "counting", func() bool { return out.len() > 0 })
	for range 3 {
		if err := errors.Join(c.Suspend(t.Context()), c.Suspend(t.Context())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // what is in the pipe
		before := out.len()
		time.Sleep(200 * time.Millisecond)
		if now := out.len(); now != before {
			t.Errorf("it went on while suspended: %d bytes, then %d", before, now)
		}
		if err := c.Resume(); err != nil {
			t.Fatal(err)
		}
		await(t, "counting", func() bool { return out.len() > before })
	}
}

func TestSuspendByName(t *testing.T) {
	c := start(t, nil)
	_, out := run(t, c, program(c, "parent", "2", "stay"))
	await(t, "children", func() bool { return len(strings.Fields(out.String())) == 2 })
	s, err := OpenSuspender(c.cfg.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range processes(t, c) {
		if s.stopped[pid] == 0 {
			t.Errorf("process %d is not suspended", pid)
		}
	}
	// What is suspended can be ended.
	if err := c.Terminate(ExitKilled); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, c)
	if err := s.Resume(); err != nil {
		t.Errorf("resuming what has ended: %v", err)
	}
	if _, err := OpenSuspender(Name("test", "none")); !errdefs.IsNotFound(err) {
		t.Errorf("a job that is not there: %v", err)
	}
}

func TestSuspendGivesUp(t *testing.T) {
	c := start(t, nil)
	_, out := run(t, c, program(c, "count"))
	await(t, "counting", func() bool { return out.len() > 0 })
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("no time")
	cancel(reason)
	if err := c.Suspend(ctx); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	before := out.len()
	await(t, "counting", func() bool { return out.len() > before })
}
