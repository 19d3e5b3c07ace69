//go:build linux

package integration

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"

	"golang.org/x/sys/unix"
)

// TestCopyLeavesHostMounts: looking into a stopped container with a bind of the
// host's does not unmount what is mounted beneath it.
func TestCopyLeavesHostMounts(t *testing.T) {
	t.Parallel()
	testutil.RequireRoot(t)
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, mount := range []struct {
		source, target, kind string
		flags                uintptr
	}{{dir, dir, "", unix.MS_BIND}, {"", dir, "", unix.MS_SHARED}, {"tmpfs", sub, "tmpfs", 0}} {
		if err := unix.Mount(mount.source, mount.target, mount.kind, mount.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, at := range []string{sub, dir} {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Errorf("unmounting %s: %v", at, err)
			}
		}
	})
	if err := os.WriteFile(filepath.Join(sub, "file"), []byte("of the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := background(t, "-v", dir+":/held", "busybox", "true")
	docker(t, "wait", name)
	if got := copied(t, name, "/held/sub/file"); got != "of the host" && got != "of the host\n" {
		t.Errorf("copied %q", got)
	}
	if _, err := os.Stat(filepath.Join(sub, "file")); err != nil {
		t.Errorf("after the copy: %v", err)
	}
}

// TestCopyReadOnlyStopped: a read-only mount is one for `docker cp` too, whether
// the container runs or not.
func TestCopyReadOnlyStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := background(t, "-v", dir+":/held:ro", "busybox", "true")
	docker(t, "wait", name)
	dockerFails(t, "marked read-only", "cp", "/etc/hostname", name+":/held/file")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("in the host's directory: %v %v", entries, err)
	}
	// A read-only root is not written to by way of a link in a volume that is writable.
	name = background(t, "--read-only", "-v", "/held", "busybox", "ln", "-s", "/etc", "/held/link")
	docker(t, "wait", name)
	docker(t, "cp", "/etc/hostname", name+":/held/file")
	dockerFails(t, "marked read-only", "cp", "/etc/hostname", name+":/held/link/new")
	if diff := docker(t, "diff", name); strings.Contains(diff, "/etc/new") {
		t.Errorf("in the root: %s", diff)
	}
}

// TestRemoveStalledCopy: removing a stopped container with its volumes does not
// wait for a copy into one of them that stands still.
func TestRemoveStalledCopy(t *testing.T) {
	t.Parallel()
	name := background(t, "-v", "/held", "busybox", "true")
	docker(t, "wait", name)
	volume := inspect(t, name, "(index .Mounts 0).Name")
	r, w := io.Pipe()
	ended := make(chan testutil.Result, 1)
	go func() { ended <- engine(t).DockerInput(r, "cp", "-", name+":/held") }()
	if _, err := w.Write(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	docker(t, "rm", "-v", name)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	dockerFails(t, "no such volume", "volume", "inspect", volume)
	_ = w.Close()
	<-ended
}

// TestFaultBackoff: a daemon that begins while a container waits for its last try
// gives it that, and no more.
func TestFaultBackoff(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := backgroundOn(t, d, "--restart=on-failure:5", "-v", "/runs", "busybox", "sh", "-c", "echo run >> /runs/log; exit 3")
	state := func() string {
		return d.MustDocker(t, "inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name)
	}
	testutil.Eventually(t, "its last try is to come", func() bool { return state() == "restarting 5" })
	for range 2 {
		d.Kill()
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
		testutil.Eventually(t, "it has given up", func() bool { return state() == "exited 5" })
		to := filepath.Join(t.TempDir(), "log")
		d.MustDocker(t, "cp", name+":/runs/log", to)
		if data, err := os.ReadFile(to); err != nil || strings.Count(string(data), "run") != 6 {
			t.Errorf("it ran %d times, want 6 (%v)", strings.Count(string(data), "run"), err)
		}
	}
}

// TestFaultShutdownWaits: a daemon that is told to end finishes the requests
// that are under way.
func TestFaultShutdownWaits(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	image, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image.Name = "late:latest"
	archive, err := image.DockerArchive()
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	loaded := make(chan testutil.Result, 1)
	go func() {
		result := d.DockerInput(r, "load")
		_ = r.Close() // nobody writes into the void
		loaded <- result
	}()
	// More than the pipes and the socket on the way hold: the request is under way.
	if _, err := io.CopyN(w, archive, 1_500_000); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop() }()
	time.Sleep(500 * time.Millisecond)
	if _, err := io.Copy(w, archive); err != nil {
		t.Error(err)
	}
	_ = w.Close()
	if got := <-loaded; got.Code != 0 {
		t.Errorf("load: %+v", got)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	d.MustDocker(t, "image", "inspect", "late")
}
