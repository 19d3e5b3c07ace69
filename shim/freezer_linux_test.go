package shim

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// testGroup makes a control group with a freezer and runs a program in it that
// counts in a file.
func testGroup(t *testing.T) (group, counted string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: control groups")
	}
	group = "/slipway-test-freezer-" + strconv.Itoa(os.Getpid())
	dir := filepath.Join(cgroupRoot, "freezer", group)
	if !exists(filepath.Join(cgroupRoot, "freezer")) {
		dir = filepath.Join(cgroupRoot, group)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("control groups cannot be made here:", err)
	}
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
		for range 100 {
			if os.Remove(dir) == nil {
				break
			}
			time.Sleep(20 * time.Millisecond) // the last sleep of the script
		}
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
	for deadline := time.Now().Add(10 * time.Second); size(t, file) == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the program does not run")
		}
	}
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
