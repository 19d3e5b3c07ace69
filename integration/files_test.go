//go:build linux

package integration

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

// copied is a file of a container, running or not, as `docker cp` gives it.
func copied(t *testing.T, container, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copied")
	docker(t, "cp", container+":"+path, to)
	data, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestCopyIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "file a", "tree/b": "file b", "tree/sub/c": "file c"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(content), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	for what, name := range map[string]string{"running": idle(t), "created": createOnly(t)} {
		docker(t, "cp", dir+"/a", name+":/tmp")
		docker(t, "cp", dir+"/a", name+":/tmp/renamed")
		docker(t, "cp", dir+"/tree", name+":/new")
		docker(t, "cp", dir+"/tree/.", name+":/tmp")
		docker(t, "start", name)
		got := docker(t, "exec", name, "sh", "-c", "cat /tmp/a /tmp/renamed /new/b /new/sub/c /tmp/b /tmp/sub/c; stat -c ' %a %u' /tmp/a")
		if got != "file afile afile bfile cfile bfile c 640 0" {
			t.Errorf("%s: %q", what, got)
		}
	}
	name := idle(t)
	dockerFails(t, "no such directory", "cp", dir+"/a", name+":/no/such/")
	dockerFails(t, "No such container: no-such", "cp", dir+"/a", "no-such:/tmp")
	r := engine(t).DockerInput(tarOf(t, testutil.File{Path: "piped", Content: "through a pipe", UID: 1000, GID: 50}), "cp", "-a", "-", name+":/tmp")
	if got := docker(t, "exec", name, "sh", "-c", "cat /tmp/piped; stat -c ' %u:%g' /tmp/piped"); r.Code != 0 || got != "through a pipe 1000:50" {
		t.Errorf("from a pipe: %+v, %q", r, got)
	}
}

func createOnly(t *testing.T, args ...string) string {
	t.Helper()
	name := unique(t)
	removeLater(t, engine(t), name)
	if len(args) == 0 {
		args = []string{"busybox", "sleep", "600"}
	}
	docker(t, append([]string{"create", "--name", name}, args...)...)
	return name
}

func tarOf(t *testing.T, files ...testutil.File) io.Reader {
	t.Helper()
	data, err := testutil.Layer(files)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(data)
}

func TestCopyOut(t *testing.T) {
	t.Parallel()
	name := idle(t, "-v", "/vol", "--tmpfs", "/tmpfs")
	docker(t, "exec", name, "sh", "-c", "mkdir -p /d/e; echo deep > /d/e/f; ln -s e/f /d/link; echo vol > /vol/v; echo tmp > /tmpfs/t; ln -s /etc/passwd /abs")
	to := t.TempDir()
	docker(t, "cp", name+":/d", to)
	if data, err := os.ReadFile(filepath.Join(to, "d/e/f")); err != nil || string(data) != "deep\n" {
		t.Errorf("a directory: %q, %v", data, err)
	}
	if link, err := os.Readlink(filepath.Join(to, "d/link")); err != nil || link != "e/f" {
		t.Errorf("a link: %q, %v", link, err)
	}
	for path, want := range map[string]string{"/vol/v": "vol\n", "/tmpfs/t": "tmp\n"} {
		if got := copied(t, name, path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	// A link is followed inside the container with -L, never on the host.
	docker(t, "cp", "-L", name+":/abs", to+"/passwd")
	if data, err := os.ReadFile(to + "/passwd"); err != nil || !strings.Contains(string(data), "app:x:1000") {
		t.Errorf("-L gave %q, %v", data, err)
	}
	r := engine(t).Docker("cp", name+":/d/e/f", "-")
	h, err := tar.NewReader(strings.NewReader(r.Stdout)).Next()
	if err != nil || h.Name != "f" || h.Size != 5 {
		t.Errorf("to a pipe: %v, %v", h, err)
	}
	dockerFails(t, "Could not find the file /no/such in container "+name, "cp", name+":/no/such", to)
	docker(t, "stop", name)
	if got := copied(t, name, "/d/e/f"); got != "deep\n" {
		t.Errorf("from a stopped one: %q", got)
	}
}

// TestCopyStaysInside: neither a link in the container nor a name in an archive
// leads to the host's files.
func TestCopyStaysInside(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("the host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := idle(t)
	docker(t, "exec", name, "sh", "-c", "ln -s "+outside+" /out; ln -s ../../../../../.."+outside+" /up; ln -s /proc/1/root"+outside+" /proc-out")
	for _, path := range []string{"/out/secret", "/up/secret", "/proc-out/secret", "/../../.." + secret} {
		if r := engine(t).Docker("cp", "-L", name+":"+path, filepath.Join(t.TempDir(), "x")); r.Code == 0 {
			t.Errorf("cp of %s out succeeded", path)
		}
	}
	for _, f := range []testutil.File{
		{Path: "../../../../../../.." + outside + "/new", Content: "x"},
		{Path: outside + "/new", Content: "x"},
		{Path: "out/new", Content: "x"},
		{Path: "up/new", Content: "x"},
		{Path: "hard", Type: tar.TypeLink, Link: "../../../../../../../" + secret},
	} {
		// Refused, or inside the container; anything but outside.
		engine(t).DockerInput(tarOf(t, f), "cp", "-", name+":/")
		if _, err := os.Stat(filepath.Join(outside, "new")); err == nil {
			t.Fatalf("an archive with %q wrote to the host", f.Path)
		}
	}
	if r := engine(t).Docker("exec", name, "cat", "/hard"); strings.Contains(r.Stdout, "the host's") {
		t.Error("a hard link to the host's file")
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	name := idle(t, "-v", "/vol", "--tmpfs", "/tmpfs")
	docker(t, "exec", name, "sh", "-c", "mkdir /d; touch /d/new /vol/v /tmpfs/t; rm /etc/group; echo x >> /etc/passwd")
	got := lines(docker(t, "diff", name))
	slices.Sort(got)
	want := []string{"A /d", "A /d/new", "C /etc", "C /etc/passwd", "D /etc/group"}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%q is missing in %q", w, got)
		}
	}
	for _, g := range got {
		if strings.Contains(g, "/vol/") || strings.Contains(g, "/tmpfs/") {
			t.Errorf("%q is not of the container's own file system", g)
		}
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	data, err := testutil.Layer(append(base.Layers[0], testutil.File{Path: "kept", Content: "kept"}))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	image := unique(t) + ":imported"
	t.Cleanup(func() { engine(t).Docker("rmi", "-f", image) })
	if id := docker(t, "import", "-c", `CMD ["cat","/kept"]`, "-m", "by a test", file, image); !strings.HasPrefix(id, "sha256:") {
		t.Errorf("id %q", id)
	}
	if got := run(t, image); got != "kept" {
		t.Errorf("got %q", got)
	}
	if got := docker(t, "history", "--no-trunc", "--format", "{{.Comment}}", image); got != "by a test" {
		t.Errorf("history: %q", got)
	}
	dockerFails(t, "", "import", "/bin/busybox", unique(t)) // not an archive
}
