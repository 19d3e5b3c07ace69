package shim

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// makeGroup makes a control group with a freezer and returns its name and
// directory.
func makeGroup(t *testing.T) (group, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: control groups")
	}
	group = "/slipway-test-freezer-" + strconv.Itoa(os.Getpid())
	dir = filepath.Join(cgroupRoot, "freezer", group)
	if !exists(filepath.Join(cgroupRoot, "freezer")) {
		dir = filepath.Join(cgroupRoot, group)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("control groups cannot be made here:", err)
	}
	t.Cleanup(func() {
		for range 100 {
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond) // the last processes are ending
		}
		t.Errorf("%s is still in use", dir)
	})
	return group, dir
}

// testGroup makes a control group with a freezer and runs a program in it that
// counts in a file.
func testGroup(t *testing.T) (group, counted string) {
	t.Helper()
	group, dir := makeGroup(t)
	counted = filepath.Join(t.TempDir(), "count")
	script := `echo $$ >"$1/cgroup.procs"; while :; do echo . >>"$2"; sleep 0.001; done`
	cmd := exec.CommandContext(context.Background(), "sh", "-c", script, "sh", dir, counted)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f, err := newFreezer(cgroupRoot, group)
		if err == nil {
			err = f.Thaw()
		}
		err = errors.Join(err, cmd.Process.Kill())
		_ = cmd.Wait() // killed
		if err != nil {
			t.Error(err)
		}
	})
	awaitGrowth(t, counted)
	return group, counted
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}

func awaitGrowth(t *testing.T, file string) {
	t.Helper()
	before := size(t, file)
	await(t, "the program to run", func() bool { return size(t, file) != before })
}

func TestFreezer(t *testing.T) {
	group, counted := testGroup(t)
	f, err := newFreezer(cgroupRoot, group)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errors.New("too long"))
		err := f.Freeze(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		before := size(t, counted)
		time.Sleep(10 * time.Millisecond)
		if after := size(t, counted); after != before {
			t.Fatalf("a frozen program has written %d bytes", after-before)
		}
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
		awaitGrowth(t, counted)
	}
	if err := f.Thaw(); err != nil {
		t.Error("thawing what is not frozen:", err)
	}
}

// TestMain makes the test's own program one that never rests, if asked to: it has
// threads and executes itself for ever.
func TestMain(m *testing.M) {
	if os.Getenv(execsForEver) == "" {
		os.Exit(m.Run())
	}
	for range 8 {
		go func() {
			runtime.LockOSThread()
			_ = unix.Pause() // until the program is replaced
		}()
	}
	time.Sleep(time.Millisecond)
	err := syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	panic(err)
}

const execsForEver = "SLIPWAY_TEST_EXECS_FOR_EVER"

// A program with threads that executes another, as runc does at every exec, ends
// its threads first. Frozen threads do not end, and what waits for them cannot be
// frozen.
func TestFreezerDuringExec(t *testing.T) {
	group, dir := makeGroup(t)
	f, err := newFreezer(cgroupRoot, group)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `echo 0 >"$1/cgroup.procs" && exec "$2"`, "sh", dir, "/proc/"+strconv.Itoa(os.Getpid())+"/exe")
	cmd.Env = append(os.Environ(), execsForEver+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(cmd.Process.Kill(), f.Thaw()); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed
	}()
	await(t, "the program", func() bool {
		members, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		return len(members) > 0
	})
	for round := range 200 {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("too long"))
		err := f.Freeze(ctx)
		cancel()
		if err := errors.Join(err, f.Thaw()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		time.Sleep(time.Duration(round) * 100 * time.Microsecond)
	}
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waiting in vain for " + what)
		}
	}
}

// A process that cannot be frozen in time leaves the others running.
func TestFreezerGivesUp(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	control, events := filepath.Join(dir, "c", "cgroup.freeze"), filepath.Join(dir, "c", "cgroup.events")
	for file, content := range map[string]string{control: "0", events: "populated 1\nfrozen 0\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := newFreezer(dir, "/c")
	if err != nil {
		t.Fatal(err)
	}
	tooLong := errors.New("too long")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, tooLong)
	defer cancel()
	if err := f.Freeze(ctx); !errors.Is(err, tooLong) {
		t.Errorf("Freeze: %v", err)
	}
	if state, _ := os.ReadFile(control); !bytes.Equal(state, []byte("0")) {
		t.Errorf("the processes were left %q", state)
	}
}

func TestFreezerOfNoGroup(t *testing.T) {
	if _, err := newFreezer(t.TempDir(), "/none"); !errdefs.IsNotFound(err) {
		t.Errorf("error: %v", err)
	}
}
