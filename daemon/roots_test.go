package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestLockRoots: neither root is shared, and a failure keeps no lock.
func TestLockRoots(t *testing.T) {
	t.Parallel()
	data, exec, other := t.TempDir(), t.TempDir(), t.TempDir()
	unlock, err := lockRoots(data, exec)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ data, exec, want string }{
		{data, other, "uses the data root " + data},
		{other, exec, "uses the exec root " + exec},
	} {
		if _, err := lockRoots(tt.data, tt.exec); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	again, err := lockRoots(other, t.TempDir())
	if err != nil {
		t.Fatalf("the refused ones kept a lock: %v", err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = lockRoots(data, exec)
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestClaimExecRoot(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	tasks := filepath.Join(root, "tasks")
	bundle := filepath.Join(tasks, "some-container")
	claim := func(id string) error { return claimExecRoot(root, tasks, id, "/data of "+id) }
	for _, id := range []string{"one", "one", "two"} { // nothing runs: it may change hands
		if err := claim(id); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := claim("two"); err != nil {
		t.Errorf("its own containers: %v", err)
	}
	if err := claim("one"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "/data of two") {
		t.Errorf("another's containers: %v", err)
	}
	if err := os.Remove(bundle); err != nil {
		t.Fatal(err)
	}
	if err := claim("one"); err != nil {
		t.Errorf("after the other's containers: %v", err)
	}
}
