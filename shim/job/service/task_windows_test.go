package service

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"slipway/internal/pipe"
	"slipway/shim/job"
)

func TestLifeOfATask(t *testing.T) {
	d := newDaemon(t)
	c, err := d.create(t, nil, "", "exit", "3")
	if err != nil {
		t.Fatal(err)
	}
	if state, err := c.State(d.ctx); err != nil || state.Status != runtime.CreatedStatus || state.Pid == 0 {
		t.Errorf("created: %+v, %v", state, err)
	}
	if err := c.Start(d.ctx); err != nil {
		t.Fatal(err)
	}
	exit, err := c.Wait(d.ctx)
	if err != nil || exit.Status != 3 {
		t.Fatalf("%+v, %v", exit, err)
	}
	await(t, "both outputs", func() bool { return c.out.hasEnded() && c.err.hasEnded() })
	if c.out.String() != "to the output\n" || c.err.String() != "to the error output\n" {
		t.Errorf("output %q, error output %q", c.out, c.err)
	}
	state, err := c.State(d.ctx)
	if err != nil || state.Status != runtime.StoppedStatus || state.ExitStatus != 3 || time.Since(state.ExitedAt) > time.Minute {
		t.Errorf("ended: %+v, %v", state, err)
	}
	if err := c.Kill(d.ctx, 9, false); !errdefs.IsNotFound(err) {
		t.Errorf("killing what has ended: %v", err)
	}
	if exit := d.remove(t, c); exit.Status != 3 {
		t.Errorf("deleted: %+v", exit)
	}
	d.events.await(t, "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete")
	if _, err := pipe.Dial(t.Context(), logPipe(testNamespace, c.id)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the log's pipe: %v", err)
	}
}

func TestKillEndsTheContainer(t *testing.T) {
	d := newDaemon(t)
	c := d.start(t, nil, "sleep")
	await(t, "output", func() bool { return c.out.String() != "" })
	pids, err := c.Pids(d.ctx)
	if err != nil || len(pids) == 0 {
		t.Fatalf("processes %v, %v", pids, err)
	}
	if err := c.Kill(d.ctx, 10, false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a signal that Windows has not: %v", err)
	}
	if err := c.Kill(d.ctx, 9, true); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(d.ctx); err != nil || exit.Status != job.ExitKilled {
		t.Errorf("%+v, %v", exit, err)
	}
	for _, p := range pids {
		if alive(p.Pid) {
			t.Errorf("process %d lives on", p.Pid)
		}
	}
}

func TestNeverStarted(t *testing.T) {
	d := newDaemon(t)
	c, err := d.create(t, nil, "", "sleep")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := c.PID(d.ctx)
	if err != nil {
		t.Fatal(err)
	}
	d.remove(t, c)
	if alive(pid) {
		t.Error("its process lives on")
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	d := newDaemon(t)
	for name, test := range map[string]struct {
		change func(*specs.Spec)
		is     func(error) bool
	}{
		"program":  {func(s *specs.Spec) { s.Process.Args = []string{"no-such-program"} }, errdefs.IsNotFound},
		"root":     {func(s *specs.Spec) { s.Root.Path = `C:\no\such\root` }, errdefs.IsInvalidArgument},
		"identity": {func(s *specs.Spec) { s.Annotations[job.IdentityAnnotation] = "king" }, errdefs.IsInvalidArgument},
		"limit":    {func(s *specs.Spec) { s.Annotations[job.ProcessesAnnotation] = "none" }, errdefs.IsInvalidArgument},
	} {
		c, err := d.create(t, test.change, "", "sleep")
		if !test.is(err) {
			t.Errorf("%s: %v", name, err)
		}
		await(t, "end of the shim", func() bool {
			_, err := pipe.Dial(t.Context(), logPipe(testNamespace, c.id))
			return errors.Is(err, fs.ErrNotExist)
		})
		d.awaitNoBundle(t)
	}
}

func TestInput(t *testing.T) {
	d := newDaemon(t)
	path, accept := listenInput(t)
	c, err := d.create(t, nil, path, "cat")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(d.ctx); err != nil {
		t.Fatal(err)
	}
	input := accept()
	if _, err := input.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	await(t, "echo", func() bool { return c.out.String() == "hello" })
	input.Close()
	if exit, err := c.Wait(d.ctx); err != nil || exit.Status != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	d.remove(t, c)
}

func TestCloseIO(t *testing.T) {
	d := newDaemon(t)
	path, accept := listenInput(t)
	c, err := d.create(t, nil, path, "cat")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(d.ctx); err != nil {
		t.Fatal(err)
	}
	input := accept()
	defer input.Close()
	if err := c.CloseIO(d.ctx); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(d.ctx); err != nil || exit.Status != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	d.remove(t, c)
}

func TestExec(t *testing.T) {
	d := newDaemon(t)
	c := d.start(t, nil, "sleep")
	out := newKeeper(t)
	path, accept := listenInput(t)
	exec, err := c.Exec(d.ctx, "one", runtime.ExecOpts{Spec: execSpec(t, "cat"), IO: runtime.IO{Stdin: path, Stdout: out.path}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(d.ctx, "one", runtime.ExecOpts{Spec: execSpec(t, "cat")}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("the same again: %v", err)
	}
	if err := exec.Start(d.ctx); err != nil {
		t.Fatal(err)
	}
	input := accept()
	if _, err := input.Write([]byte("in the container")); err != nil {
		t.Fatal(err)
	}
	input.Close()
	if exit, err := exec.Wait(d.ctx); err != nil || exit.Status != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	await(t, "output", func() bool { return out.hasEnded() && out.String() == "in the container" })
	if exit, err := exec.Delete(d.ctx); err != nil || exit.Status != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	killed, err := c.Exec(d.ctx, "two", runtime.ExecOpts{Spec: execSpec(t, "sleep")})
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(d.ctx); err != nil {
		t.Fatal(err)
	}
	if err := killed.Kill(d.ctx, 9, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := killed.Wait(d.ctx); err != nil || exit.Status != job.ExitKilled {
		t.Errorf("%+v, %v", exit, err)
	}
	if state, err := c.State(d.ctx); err != nil || state.Status != runtime.RunningStatus {
		t.Errorf("the container: %+v, %v", state, err)
	}
	d.events.await(t, "/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/exit",
		"/tasks/exec-added", "/tasks/exec-started", "/tasks/exit")
}

// TestExecLeavesAProcess has an exec whose output stays open: deleting it must not wait for ever.
func TestExecLeavesAProcess(t *testing.T) {
	d := newDaemon(t)
	c := d.start(t, nil, "sleep")
	out := newKeeper(t)
	exec, err := c.Exec(d.ctx, "one", runtime.ExecOpts{Spec: execSpec(t, "leave"), IO: runtime.IO{Stdout: out.path}})
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Start(d.ctx); err != nil {
		t.Fatal(err)
	}
	if exit, err := exec.Wait(d.ctx); err != nil || exit.Status != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	deleted := make(chan error, 1)
	go func() { _, err := exec.Delete(d.ctx); deleted <- err }()
	select {
	case err := <-deleted:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2*drainPatience + 10*time.Second):
		t.Fatal("deleting hangs")
	}
	await(t, "end of the output", out.hasEnded)
	if state, err := c.State(d.ctx); err != nil || state.Status != runtime.RunningStatus {
		t.Errorf("the container: %+v, %v", state, err)
	}
}

func TestPause(t *testing.T) {
	d := newDaemon(t)
	c := d.start(t, nil, "count")
	await(t, "counting", func() bool { return c.out.String() != "" })
	if err := c.Pause(d.ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Pause(d.ctx); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("twice: %v", err)
	}
	if state, err := c.State(d.ctx); err != nil || state.Status != runtime.PausedStatus {
		t.Errorf("%+v, %v", state, err)
	}
	time.Sleep(200 * time.Millisecond) // what is on its way
	before := c.out.String()
	time.Sleep(300 * time.Millisecond)
	if after := c.out.String(); after != before {
		t.Errorf("it went on: %d bytes, then %d", len(before), len(after))
	}
	if err := c.Resume(d.ctx); err != nil {
		t.Fatal(err)
	}
	await(t, "counting", func() bool { return c.out.String() != before })
	if err := c.Pause(d.ctx); err != nil {
		t.Fatal(err)
	}
	// What is paused can be killed.
	if err := c.Kill(d.ctx, 9, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(d.ctx); err != nil || exit.Status != job.ExitKilled {
		t.Errorf("%+v, %v", exit, err)
	}
}

func TestStopCommand(t *testing.T) {
	d := newDaemon(t)
	flag := filepath.Join(t.TempDir(), "stop here")
	c := d.start(t, func(s *specs.Spec) {
		s.Annotations[job.StopAnnotation] = `"` + os.Args[0] + `" program touch "` + flag + `"`
	}, "until", flag)
	if err := c.Kill(d.ctx, 15, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(d.ctx); err != nil || exit.Status != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
}

func TestOutOfMemory(t *testing.T) {
	d := newDaemon(t)
	c := d.start(t, func(s *specs.Spec) {
		s.Windows.Resources = &specs.WindowsResources{Memory: &specs.WindowsMemoryResources{Limit: new(uint64(64 << 20))}}
	}, "allocate")
	exit, err := c.Wait(d.ctx)
	if err != nil || exit.Status != job.ExitKilled && exit.Status != 2 {
		t.Errorf("%+v, %v", exit, err)
	}
	d.events.await(t, "/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit")
}

// TestShimDies kills the shim: the container must die with it, and containerd must learn of it.
func TestShimDies(t *testing.T) {
	d := newDaemon(t)
	c := d.start(t, nil, "sleep")
	await(t, "output", func() bool { return c.out.String() != "" })
	pids, err := c.Pids(d.ctx)
	if err != nil || len(pids) == 0 {
		t.Fatalf("processes %v, %v", pids, err)
	}
	told, errs := d.exchange.Subscribe(d.ctx, `topic=="/tasks/exit"`)
	kill(t, d.shimPID(t, c))
	select {
	case envelope := <-told:
		exit := &apievents.TaskExit{}
		if err := unmarshal(envelope.Event, exit); err != nil || exit.ExitStatus != job.ExitKilled || exit.ContainerID != c.id {
			t.Errorf("%v, %v", exit, err)
		}
	case err := <-errs:
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		t.Fatal("containerd was not told")
	}
	for _, p := range pids {
		if alive(p.Pid) {
			t.Errorf("process %d lives on", p.Pid)
		}
	}
	d.awaitNoBundle(t)
	await(t, "containerd to forget the shim", func() bool {
		_, err := d.manager.Get(d.ctx, c.id)
		return err != nil
	})
}

// TestNextDaemonTakesOver has a second set of managers find the container of the first.
func TestNextDaemonTakesOver(t *testing.T) {
	d := newDaemon(t)
	c := d.start(t, nil, "count")
	await(t, "counting", func() bool { return c.out.String() != "" })
	pid, err := c.PID(d.ctx)
	if err != nil {
		t.Fatal(err)
	}
	d.restart(t)
	again, err := d.tasks.Get(d.ctx, c.id)
	if err != nil {
		t.Fatal(err)
	}
	c.Task = again
	if now, err := again.PID(d.ctx); err != nil || now != pid {
		t.Errorf("process %d, %v; was %d", now, err, pid)
	}
	if state, err := again.State(d.ctx); err != nil || state.Status != runtime.RunningStatus {
		t.Errorf("%+v, %v", state, err)
	}
	before := len(c.out.String())
	await(t, "counting", func() bool { return len(c.out.String()) > before })
	if err := again.Kill(d.ctx, 9, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := again.Wait(d.ctx); err != nil || exit.Status != job.ExitKilled {
		t.Errorf("%+v, %v", exit, err)
	}
}

func TestParse(t *testing.T) {
	none := func(string) string { return "" }
	for _, args := range [][]string{{}, {"start"}, {"-namespace", "a", "start"}, {"-namespace", "a", "-id", "b"}, {"-nonsense"}} {
		if _, err := Parse(args, none, &strings.Builder{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", args, err)
		}
	}
	got, err := Parse([]string{"-namespace", "a", "-address", "x", "-publish-binary", "y", "-id", "b", "-bundle", "c", "-debug", "delete"},
		func(name string) string { return name }, &strings.Builder{})
	if want := (Invocation{Action: "delete", Namespace: "a", ID: "b", Bundle: "c", Address: "x", TTRPCAddress: "TTRPC_ADDRESS", Debug: true}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}
