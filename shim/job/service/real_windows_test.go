package service

import (
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"slipway/internal/testutil"
	"slipway/shim/job"
)

// TestBreakArrives has a program that ends by CTRL_BREAK in its own way.
func TestBreakArrives(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoConsole)
	d := newDaemon(t)
	c := d.start(t, nil, "trap")
	await(t, "output", func() bool { return strings.Contains(c.out.String(), "ready") })
	if err := c.Kill(d.ctx, 15, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(d.ctx); err != nil || exit.Status != 42 {
		t.Errorf("%+v, %v; want the program's own exit code 42", exit, err)
	}
}

// TestTerminal has a program at a pseudo console: it sees a console of the size that was asked for, then of another; Ctrl-C
// ends it; and no process of the console is outside of the job.
func TestTerminal(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoConsole)
	d := newDaemon(t)
	path, accept := listenInput(t)
	c, err := d.create(t, func(s *specs.Spec) {
		s.Process.Terminal = true
		s.Process.ConsoleSize = &specs.Box{Width: 101, Height: 33}
	}, path, "console")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(d.ctx); err != nil {
		t.Fatal(err)
	}
	input := accept()
	defer input.Close()
	await(t, "the first size", func() bool { return strings.Contains(c.out.String(), "101x33") })
	if err := c.ResizePty(d.ctx, runtime.ConsoleSize{Width: 77, Height: 11}); err != nil {
		t.Fatal(err)
	}
	await(t, "the second size", func() bool { return strings.Contains(c.out.String(), "77x11") })
	pids, err := c.Pids(d.ctx)
	if err != nil {
		t.Fatal(err)
	}
	hosts := 0
	for _, p := range pids {
		if isConsoleHost(p.Pid) {
			hosts++
		}
	}
	if hosts == 0 {
		t.Errorf("no console host is in the container's job: %v", pids)
	}
	if err := c.Kill(d.ctx, 15, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(d.ctx); err != nil || exit.Status != 42 {
		t.Errorf("%+v, %v; want the program's own exit code 42", exit, err)
	}
	d.remove(t, c)
}

// TestResizeWithoutTerminal is the error of it.
func TestResizeWithoutTerminal(t *testing.T) {
	d := newDaemon(t)
	c := d.start(t, nil, "sleep")
	if err := c.ResizePty(d.ctx, runtime.ConsoleSize{Width: 1, Height: 1}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("%v", err)
	}
}

// TestAccountOfItsOwn runs with the default identity. The test has to run as the service does, by the system's account.
func TestAccountOfItsOwn(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoAccounts)
	d := newDaemon(t)
	c := d.start(t, func(s *specs.Spec) { delete(s.Annotations, job.IdentityAnnotation) }, "whoami")
	if exit, err := c.Wait(d.ctx); err != nil || exit.Status != 0 {
		t.Fatalf("%+v, %v", exit, err)
	}
	await(t, "output", c.out.hasEnded)
	if want := `slipway-` + c.id[:12]; !strings.Contains(c.out.String(), want) {
		t.Errorf("it ran as %q, want %s", c.out, want)
	}
	d.remove(t, c)
}
