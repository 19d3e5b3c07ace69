package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"slipway/container/rootfs"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("owners, devices and mounts need root")
	}
}

// newRoot makes a container's root inside a folder that stands for the host.
func newRoot(t *testing.T) (r *rootfs.Root, root, host string) {
	t.Helper()
	host = t.TempDir()
	root = filepath.Join(host, "root")
	mkdir(t, root)
	r, err := rootfs.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, root, host
}

func mkdir(t *testing.T, path ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path...), 0o755); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, content string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target string, path ...string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}

func unmount(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Error(err)
	}
}

func TestStat(t *testing.T) {
	r, root, host := newRoot(t)
	write(t, "outside", host, "secret")
	mkdir(t, root, "dir", "sub")
	write(t, "12345", root, "dir", "file")
	symlink(t, "/dir", root, "abs")
	symlink(t, "../../../../dir/file", root, "dir", "up")
	symlink(t, "/nowhere/at/all", root, "broken")
	symlink(t, "loop", root, "loop")
	symlink(t, host+"/secret", root, "escape")
	for _, tc := range []struct {
		path, name, target string
		dir                bool
		err                error
	}{
		{path: "/", name: "/", dir: true},
		{path: "", name: "/", dir: true},
		{path: "dir/file", name: "file"},
		{path: "/dir/../dir/./file", name: "file"},
		{path: "../../dir/file", name: "file"},
		{path: "/abs", name: "abs", target: "/dir"},
		{path: "/abs/", name: "abs", dir: true},
		{path: "/abs/.", name: ".", dir: true},
		{path: "/abs/up", name: "up", target: "/dir/file"},
		{path: "/broken", name: "broken", target: "/nowhere/at/all"},
		{path: "/escape", name: "escape", target: host + "/secret"},
		{path: "/escape/", err: fs.ErrNotExist},
		{path: "/none", err: fs.ErrNotExist},
		{path: "/dir/file/", err: unix.ENOTDIR},
		{path: "/loop", err: unix.ELOOP},
		{path: "/dir\x00x", err: unix.EINVAL},
	} {
		st, err := r.Stat(tc.path)
		if !errors.Is(err, tc.err) {
			t.Errorf("%q: %v", tc.path, err)
			continue
		}
		if err != nil {
			continue
		}
		if st.Name != tc.name || st.LinkTarget != tc.target || st.Mode.IsDir() != tc.dir {
			t.Errorf("%q: %+v", tc.path, st)
		}
	}
}

// entry is what a test looks at of a tar entry.
type entry struct {
	Name, Link, Content string
	Type                byte
}

func archive(t *testing.T, r *rootfs.Root, path string) []entry {
	t.Helper()
	var b bytes.Buffer
	if err := r.Archive(t.Context(), path, &b); err != nil {
		t.Fatal(err)
	}
	return entries(t, &b)
}

func entries(t *testing.T, r io.Reader) []entry {
	t.Helper()
	var all []entry
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, entry{hdr.Name, hdr.Linkname, string(content), hdr.Typeflag})
	}
}

func TestArchive(t *testing.T) {
	r, root, _ := newRoot(t)
	mkdir(t, root, "d", "e")
	write(t, "text", root, "d", "f")
	if err := os.Link(filepath.Join(root, "d", "f"), filepath.Join(root, "d", "g")); err != nil {
		t.Fatal(err)
	}
	symlink(t, "/d/f", root, "d", "s")
	symlink(t, "/d", root, "l")
	if err := unix.Mkfifo(filepath.Join(root, "d", "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	children := func(base string) []entry {
		return []entry{
			{Name: base + "/", Type: tar.TypeDir},
			{Name: base + "/e/", Type: tar.TypeDir},
			{Name: base + "/f", Type: tar.TypeReg, Content: "text"},
			{Name: base + "/g", Type: tar.TypeLink, Link: base + "/f"},
			{Name: base + "/p", Type: tar.TypeFifo},
			{Name: base + "/s", Type: tar.TypeSymlink, Link: "/d/f"},
		}
	}
	for path, want := range map[string][]entry{
		"/d":   children("d"),
		"/d/.": children("."),
		"/l/":  children("l"),
		"/l/.": children("."),
		"/l":   {{Name: "l", Type: tar.TypeSymlink, Link: "/d"}},
		"/l/f": {{Name: "f", Type: tar.TypeReg, Content: "text"}},
	} {
		if diff := cmp.Diff(want, archive(t, r, path)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	if first := archive(t, r, "/")[0]; first.Name != "/" {
		t.Errorf("root begins with %+v", first)
	}
}

func TestExport(t *testing.T) {
	r, root, host := newRoot(t)
	write(t, "secret", host, "secret")
	mkdir(t, root, "d", "e")
	write(t, "text", root, "d", "f")
	if err := os.Link(filepath.Join(root, "d", "f"), filepath.Join(root, "z")); err != nil {
		t.Fatal(err)
	}
	symlink(t, host, root, "out")
	var b bytes.Buffer
	if err := r.Export(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	want := []entry{
		{Name: "d/", Type: tar.TypeDir},
		{Name: "d/e/", Type: tar.TypeDir},
		{Name: "d/f", Type: tar.TypeReg, Content: "text"},
		{Name: "out", Type: tar.TypeSymlink, Link: host},
		{Name: "z", Type: tar.TypeLink, Link: "d/f"},
	}
	if diff := cmp.Diff(want, entries(t, &b)); diff != "" {
		t.Error(diff)
	}
}

// TestArchiveEndsWithItsContext: what is removed while it is archived must not
// look like an archive that is complete.
func TestArchiveEndsWithItsContext(t *testing.T) {
	r, root, _ := newRoot(t)
	mkdir(t, root, "d")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("removed")
	remove := writerFunc(func(p []byte) (int, error) {
		cancel(gone)
		return len(p), os.RemoveAll(filepath.Join(root, "d"))
	})
	if err := r.Archive(ctx, "/d", remove); !errors.Is(err, gone) {
		t.Errorf("archive: %v", err)
	}
	mkdir(t, root, "d")
	if err := r.Export(ctx, remove); !errors.Is(err, gone) {
		t.Errorf("export: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestArchiveOfProcessLeavesOutKernelFiles(t *testing.T) {
	needRoot(t)
	r, err := rootfs.OpenProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	host := t.TempDir()
	mkdir(t, host, "proc")
	mkdir(t, host, "vol")
	if err := unix.Mount("proc", filepath.Join(host, "proc"), "proc", 0, ""); err != nil {
		t.Skip("no proc mounts here: ", err)
	}
	defer unmount(t, filepath.Join(host, "proc"))
	if err := unix.Mount("tmpfs", filepath.Join(host, "vol"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unmount(t, filepath.Join(host, "vol"))
	write(t, "volume", host, "vol", "f")
	got := archive(t, r, host+"/.")
	want := []entry{{Name: "./", Type: tar.TypeDir}, {Name: "./proc/", Type: tar.TypeDir}, {Name: "./vol/", Type: tar.TypeDir}, {Name: "./vol/f", Type: tar.TypeReg, Content: "volume"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFiles(t *testing.T) {
	r, root, host := newRoot(t)
	write(t, "secret", host, "secret")
	mkdir(t, root, "data")
	symlink(t, "/data/target", root, "link")
	symlink(t, host+"/secret", root, "escape")
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "b"} {
		if err := r.AppendFile("/link", []byte(text), 0o600); err == nil {
			continue
		} else if text == "a" && errors.Is(err, fs.ErrExist) {
			write(t, "", root, "data", "target") // a dangling link is not created through
			if err := r.AppendFile("/link", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			t.Fatal(err)
		}
	}
	if b, err := r.ReadFile("/data/target", 10); err != nil || string(b) != "ab" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := r.ReadFile("/data/target", 1); !errdefs.IsOutOfRange(err) {
		t.Errorf("over the limit: %v", err)
	}
	if err := r.WriteFile("/data/new", []byte("n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(root, "data/new")); err != nil || fi.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", fi, err)
	}
	for _, path := range []string{"/fifo", "/data"} {
		if _, err := r.ReadFile(path, 10); !errdefs.IsInvalidArgument(err) {
			t.Errorf("read %s: %v", path, err)
		}
	}
	if b, err := r.ReadFile("/escape", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("escape: %q, %v", b, err)
	}
	for range 2 {
		if err := r.Remove("/data/new"); err != nil {
			t.Error(err)
		}
	}
	if err := r.Remove("/"); err == nil {
		t.Error("the root was removed")
	}
}

func TestLookupUser(t *testing.T) {
	r, root, _ := newRoot(t)
	if u, err := r.LookupUser("12:34", nil); err != nil || u.UID != 12 || u.GID != 34 {
		t.Errorf("numbers without files: %+v, %v", u, err)
	}
	mkdir(t, root, "etc")
	write(t, "root:x:0:0:root:/root:/bin/sh\npg:x:70:70::/var/lib/pg:/bin/sh\n", root, "etc", "passwd")
	write(t, "root:x:0:\npg:x:70:\nssl:x:71:pg\nextra:x:72:\n", root, "etc", "group")
	for _, tc := range []struct {
		spec   string
		groups []string
		want   rootfs.User
	}{
		{"", nil, rootfs.User{Home: "/root", Groups: []int{}}},
		{"pg", []string{"extra"}, rootfs.User{UID: 70, GID: 70, Home: "/var/lib/pg", Groups: []int{71, 72}}},
		{"pg:ssl", nil, rootfs.User{UID: 70, GID: 71, Home: "/var/lib/pg", Groups: []int{}}},
	} {
		got, err := r.LookupUser(tc.spec, tc.groups)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v %s", tc.spec, err, diff)
		}
	}
	_, err := r.LookupUser("nobody", nil)
	if err == nil || err.Error() != "unable to find user nobody: no matching entries in passwd file" {
		t.Errorf("unknown user: %v", err)
	}
}
