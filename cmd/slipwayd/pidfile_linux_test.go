package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// sleeper runs a program of the given name until the end of the test.
func sleeper(t *testing.T, name string) int {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestPidFile(t *testing.T) {
	daemon, other := sleeper(t, "slipwayd"), sleeper(t, "postgres")
	own := strconv.Itoa(os.Getpid()) + "\n"
	for _, tt := range []struct {
		name, content string
		refused       bool
	}{
		{"a living daemon", strconv.Itoa(daemon) + "\n", true},
		{"a number that another program has now", strconv.Itoa(other) + "\n", false},
		{"a number that nobody has", "2147483646\n", false},
		{"its own number", own, false},
		{"rubbish", "-1 or so", false},
		{"nothing", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "run", "slipwayd.pid")
			if tt.content != "" {
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			remove, err := writePidFile(path)
			content, readErr := os.ReadFile(path)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if tt.refused {
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process with PID %d is still running", daemon)) {
					t.Errorf("got %v", err)
				}
				if string(content) != tt.content {
					t.Errorf("overwritten with %q", content)
				}
				return
			}
			if err != nil || string(content) != own {
				t.Fatalf("%q, %v", content, err)
			}
			if err := remove(); err != nil {
				t.Fatal(err)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

// TestPidFileOfAnother: the file that another daemon has written meanwhile stays.
func TestPidFileOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slipwayd.pid")
	remove, err := writePidFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
