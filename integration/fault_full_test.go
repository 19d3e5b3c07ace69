//go:build linux

package integration

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/testutil"

	"golang.org/x/sys/unix"
)

// TestFaultFull: the pool, or the file system under it, is full. Whatever is asked
// for then succeeds or fails with a sentence that says so; nothing half made
// stays; removing works, and afterwards everything else does again.
func TestFaultFull(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{
		// Small enough to be filled, with room for it on the host.
		"pool": {"--storage-opt", "pool.size=1g"},
		// The pool is sparse, and promises more than the host has.
		"host": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := fullEngine(t, name == "host", flags...)
			data := backgroundOn(t, d, "busybox", "sleep", "600")
			s := newScript(d)
			if err := s.container("busybox", nil); err != nil {
				t.Fatal(err)
			}
			var empty func()
			if name == "host" {
				empty = fillHost(t, d)
			} else {
				empty = fillPool(t, d)
			}
			refused := 0
			load, err := s.image("full:loaded").With("full:loaded", []testutil.File{{Path: "big", Content: strings.Repeat("x", 20<<20)}}, nil).DockerArchive()
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{
				{"create", "--name", "full-create", "busybox"},
				{"commit", data, "full:commit"},
				{"volume", "create", "full-volume"},
				{"run", "--name", "full-run", "-v", "full-new:/bin", "busybox", "true"},
				{"load"},
				{"exec", data, "sh", "-c", "echo x > /tmp/small"},
			} {
				r := d.DockerInput(load, args...)
				if r.Code == 0 {
					continue
				}
				refused++
				if text := r.Stdout + r.Stderr; !strings.Contains(text, " free") && !strings.Contains(text, "No space left") && !strings.Contains(text, "no space left") {
					t.Errorf("docker %s: the error does not say why: %s", strings.Join(args, " "), text)
				}
			}
			if refused < 4 {
				t.Errorf("only %d requests were refused: is the disk full?", refused)
			}
			// What was there before is there, and removing works.
			s.verify(t)
			d.MustDocker(t, "rm", "-fv", data, s.tag)
			checkFindsNothing(t, d)
			empty()
			d.Docker("rm", "-fv", "full-create", "full-run") // what of it there is
			d.Docker("volume", "rm", "full-volume", "full-new")
			d.Docker("rmi", "full:commit")
			checkFindsNothing(t, d)
			testutil.Eventually(t, "there is room again", func() bool {
				status, _, err := d.Request(http.MethodPost, "/containers/create?name=after", spec{"Image": "busybox", "Cmd": []string{"true"}})
				return err == nil && status == http.StatusCreated
			})
			d.MustDocker(t, "start", "-a", "after")
			d.MustDocker(t, "commit", "after", "after:1")
			checkFindsNothing(t, d)
		})
	}
}

// fillPool fills the pool from a container; empty removes it.
func fillPool(t *testing.T, d *testutil.Daemon) (empty func()) {
	t.Helper()
	filler := backgroundOn(t, d, "busybox", "sh", "-c", "dd if=/dev/zero of=/fill bs=1M; sync; echo full; sleep 600")
	testutil.Eventually(t, "the pool is full", func() bool { return strings.Contains(d.MustDocker(t, "logs", filler), "full") })
	return func() { d.MustDocker(t, "rm", "-fv", filler) }
}

// fillHost takes the last byte of the data root's file system; empty gives them back.
func fillHost(t *testing.T, d *testutil.Daemon) (empty func()) {
	t.Helper()
	path := filepath.Join(d.DataRoot, "others")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var size int64
	for step := int64(64 << 20); step >= 4096; {
		if err := unix.Fallocate(int(f.Fd()), 0, size, step); errors.Is(err, unix.ENOSPC) {
			step /= 2
		} else if err != nil {
			t.Fatal(err)
		} else {
			size += step
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// fullEngine is an engine whose data root lies on a small file system of its own
// if onSmall.
func fullEngine(t *testing.T, onSmall bool, flags ...string) *testutil.Daemon {
	t.Helper()
	if !onSmall {
		return ownEngine(t, flags...)
	}
	testutil.RequireRoot(t)
	d, err := testutil.NewDaemon(flags...)
	if err != nil {
		t.Fatal(err)
	}
	// Beside the engine's files, which its end removes with all mounts on them.
	image := filepath.Join(d.Root, "small.img")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the daemon's log:\n%s", d.LogTail(60))
		}
		if err := d.Destroy(); err != nil {
			t.Errorf("the daemon left: %v", err)
		}
	})
	for _, step := range []func() error{
		func() error { return os.WriteFile(image, nil, 0o600) },
		func() error { return os.Truncate(image, 1200<<20) },
		func() error { return exec.CommandContext(t.Context(), "mkfs.ext4", "-q", image).Run() },
		func() error { return os.Mkdir(d.DataRoot, 0o700) },
		func() error { return exec.CommandContext(t.Context(), "mount", "-o", "loop", image, d.DataRoot).Run() },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if err := d.LoadBusybox(); err != nil {
		t.Fatal(err)
	}
	return d
}
