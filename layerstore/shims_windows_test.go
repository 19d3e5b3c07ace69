package layerstore

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const playsShim = "SLIPWAY_TEST_PLAYS_SHIM"

// TestShims looks for a process that is called and started like a shim: this test's own program, which
// does nothing then.
func TestShims(t *testing.T) {
	if os.Getenv(playsShim) != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "containerd-shim-test-v1.exe")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	begin := func(namespace, address, id string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, "-test.run", "^TestShims$", "--", "-namespace", namespace, "-address", address, "-id", id, "serve")
		cmd.Env = append(os.Environ(), playsShim+"=1")
		input, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { input.Close(); _ = cmd.Wait() })
		return cmd
	}
	s := &Store{address: `\\.\pipe\of this store`}
	ours := begin(Namespace, s.address, "ours")
	begin(Namespace, `\\.\pipe\another`, "theirs")
	begin("k8s.io", s.address, "of another namespace")
	shims, err := s.Shims()
	if err != nil || len(shims) != 1 || shims[0] != (Shim{ID: "ours", PID: ours.Process.Pid}) {
		t.Fatalf("shims %v, %v; want that of process %d", shims, err, ours.Process.Pid)
	}
	if err := s.KillShim(Shim{ID: "another", PID: ours.Process.Pid}); err != nil {
		t.Error(err)
	}
	if err := s.KillShim(shims[0]); err != nil {
		t.Error(err)
	}
	ended := make(chan error, 1)
	go func() { _, waitErr := ours.Process.Wait(); ended <- waitErr }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it lives on")
	}
	if shims, err := s.Shims(); err != nil || len(shims) != 0 {
		t.Errorf("shims %v, %v", shims, err)
	}
	if err := s.KillShim(Shim{ID: "ours", PID: ours.Process.Pid}); err != nil {
		t.Errorf("one that has ended: %v", err)
	}
}
