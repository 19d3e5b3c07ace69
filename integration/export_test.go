//go:build linux

package integration

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"
)

// exported are the entries of `docker export`, by name.
func exported(t *testing.T, container string) map[string]*tar.Header {
	t.Helper()
	file := filepath.Join(t.TempDir(), "root.tar")
	docker(t, "export", "-o", file, container)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries := map[string]*tar.Header{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		entries[h.Name] = h
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("the host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := idle(t, "-v", "/vol", "--tmpfs", "/tmpfs", "-v", outside+":/bound")
	docker(t, "exec", name, "sh", "-c", `
		mkdir -p /d/e && echo deep >/d/e/f && ln /d/e/f /d/hard && ln -s `+outside+`/secret /d/soft
		chown 1000:50 /d/e/f && chmod 4751 /d/e/f && mknod /d/null c 1 3 && mkfifo /d/fifo
		echo vol >/vol/v; echo tmp >/tmpfs/t; rm /etc/group`)
	check := func(what string) {
		t.Helper()
		got := exported(t, name)
		if f := got["d/e/f"]; f == nil || f.Size != 5 || f.Uid != 1000 || f.Gid != 50 || f.Mode&0o7777 != 0o4751 {
			t.Errorf("%s: d/e/f is %+v", what, f)
		}
		for path, kind := range map[string]byte{"d/": tar.TypeDir, "d/hard": tar.TypeLink, "d/soft": tar.TypeSymlink, "d/null": tar.TypeChar, "d/fifo": tar.TypeFifo} {
			if got[path] == nil || got[path].Typeflag != kind {
				t.Errorf("%s: %s is %+v", what, path, got[path])
			}
		}
		if soft := got["d/soft"]; soft != nil && soft.Linkname != outside+"/secret" {
			t.Errorf("%s: a link leads to %q", what, soft.Linkname)
		}
		// Mounts are there as what they are mounted on.
		for _, path := range []string{"vol/", "tmpfs/", "bound/", "proc/", "dev/"} {
			if got[path] == nil {
				t.Errorf("%s: %s is missing", what, path)
			}
		}
		for path := range got {
			if slices.Contains([]string{"etc/group", "./", "/", "vol/v", "tmpfs/t", "bound/secret"}, path) || strings.HasPrefix(path, "proc/") && path != "proc/" {
				t.Errorf("%s: %s should not be there", what, path)
			}
		}
	}
	check("running")
	docker(t, "stop", name)
	check("stopped")
	dockerFails(t, "No such container: no-such", "export", "-o", filepath.Join(outside, "x"), "no-such")
	if got := events(t, "container="+name, "event=export"); len(got) != 2 {
		t.Errorf("events: %q", got)
	}
}

// events are those that have happened and match all filters.
func events(t *testing.T, filters ...string) []string {
	t.Helper()
	args := []string{"events", "--since", "30m", "--until", strconv.FormatInt(time.Now().Unix()+1, 10), "--format", "{{json .}}"}
	for _, f := range filters {
		args = append(args, "--filter", f)
	}
	return lines(docker(t, args...))
}

// TestExportImport: a container's root comes back as an image that runs.
func TestExportImport(t *testing.T) {
	t.Parallel()
	name := idle(t)
	docker(t, "exec", name, "sh", "-c", "mkdir /kept; echo kept >/kept/file; chown 1000:50 /kept/file; ln /kept/file /kept/hard")
	image := unique(t) + ":imported"
	t.Cleanup(func() { engine(t).Docker("rmi", "-f", image) })
	file := filepath.Join(t.TempDir(), "root.tar")
	docker(t, "export", "-o", file, name)
	docker(t, "import", file, image)
	got := run(t, image, "sh", "-c", "cat /kept/hard; stat -c '%u:%g %h' /kept/file; id -un; stat -c %a /tmp")
	if want := "kept\n1000:50 2\nroot\n" + docker(t, "exec", name, "stat", "-c", "%a", "/tmp"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestExportOfWhatIsRemoved: a removal does not wait for a client that does not
// read, and the client does not get half a root as if it were the whole.
func TestExportOfWhatIsRemoved(t *testing.T) {
	t.Parallel()
	name := createOnly(t, "busybox", "sh", "-c", "mkdir /big; for i in 1 2 3 4 5 6 7 8; do head -c 8000000 /dev/urandom >/big/$i; done")
	docker(t, "start", "-a", name)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := engine(t).DockerCommand(ctx, "export", name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	mount := filepath.Join(engine(t).ExecRoot, "rootfs", inspect(t, name, ".Id"))
	docker(t, "rm", name)
	if n, _ := io.Copy(io.Discard, out); n > 60_000_000 {
		t.Error("everything was sent, of a container that was removed after the first bytes")
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the client took half a root for the whole")
	}
	testutil.Eventually(t, "nothing of it is mounted", func() bool {
		_, err := os.Stat(mount)
		return errors.Is(err, os.ErrNotExist)
	})
}
