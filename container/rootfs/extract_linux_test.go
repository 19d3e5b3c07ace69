package rootfs_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"slipway/container/rootfs"
)

// makeTar builds an archive; content is the headers' Uname, for brevity.
func makeTar(tb testing.TB, headers ...*tar.Header) *bytes.Buffer {
	tb.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.Uname
		h.Uname, h.Size = "", int64(len(content))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := tw.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		tb.Fatal(err)
	}
	return &b
}

func file(name, content string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: content}
}

func TestExtractKeepsEverything(t *testing.T) {
	needRoot(t)
	r, root, _ := newRoot(t)
	mkdir(t, root, "dst")
	when := time.Unix(1_000_000_000, 123456789)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	b := makeTar(
		t,
		&tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o1777, Uid: 5, Gid: 6, ModTime: when, Format: tar.FormatPAX},
		&tar.Header{
			Typeflag: tar.TypeReg, Name: "d/suid", Uname: "x", Mode: 0o4755, Uid: 1000, Gid: 2000, ModTime: when, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability},
		},
		&tar.Header{Typeflag: tar.TypeLink, Name: "hard", Linkname: "d/suid"},
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "soft", Linkname: "../../../etc/passwd", ModTime: when, Uid: 7},
		&tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3, Mode: 0o666},
		&tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600},
		file("made/on/the/way", "y"),
		file("/abs", "z"),
	)
	if err := r.Extract(t.Context(), "/dst", b, rootfs.ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	var d, suid, hard, null unix.Stat_t
	for path, st := range map[string]*unix.Stat_t{"d": &d, "d/suid": &suid, "hard": &hard, "null": &null} {
		if err := unix.Lstat(filepath.Join(root, "dst", path), st); err != nil {
			t.Fatal(err)
		}
	}
	if d.Mode != unix.S_IFDIR|0o1777 || d.Uid != 5 || d.Gid != 6 || d.Mtim.Nano() != when.UnixNano() {
		t.Errorf("folder %o %d:%d %d", d.Mode, d.Uid, d.Gid, d.Mtim.Nano())
	}
	if suid.Mode != unix.S_IFREG|0o4755 || suid.Uid != 1000 || suid.Gid != 2000 || suid.Mtim.Nano() != when.UnixNano() {
		t.Errorf("file %o %d:%d %d", suid.Mode, suid.Uid, suid.Gid, suid.Mtim.Nano())
	}
	if hard.Ino != suid.Ino {
		t.Error("hard link is another file")
	}
	if null.Rdev != unix.Mkdev(1, 3) || null.Mode != unix.S_IFCHR|0o666 {
		t.Errorf("device %x %o", null.Rdev, null.Mode)
	}
	var attr [64]byte
	if n, err := unix.Getxattr(filepath.Join(root, "dst/d/suid"), "security.capability", attr[:]); err != nil || string(attr[:n]) != capability {
		t.Errorf("capability %q, %v", attr[:max(n, 0)], err)
	}
	if target, _ := os.Readlink(filepath.Join(root, "dst/soft")); target != "../../../etc/passwd" {
		t.Errorf("link to %q", target)
	}
	for path, want := range map[string]string{"made/on/the/way": "y", "abs": "z"} {
		if b, _ := os.ReadFile(filepath.Join(root, "dst", path)); string(b) != want {
			t.Errorf("%s: %q", path, b)
		}
	}
}

func TestExtractCompressed(t *testing.T) {
	r, root, _ := newRoot(t)
	plain := makeTar(t, file("f", "compressed")).Bytes()
	var gz bytes.Buffer
	zw := gzip.NewWriter(&gz)
	if _, err := zw.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	archives := map[string]*bytes.Buffer{"gzip": &gz}
	for _, tool := range []string{"bzip2", "xz", "zstd"} {
		cmd := exec.Command(tool, "-c")
		cmd.Stdin = bytes.NewReader(plain)
		if out, err := cmd.Output(); err == nil {
			archives[tool] = bytes.NewBuffer(out)
		}
	}
	for name, b := range archives {
		mkdir(t, root, name)
		if err := r.Extract(t.Context(), name, b, rootfs.ExtractOptions{Owner: &rootfs.Owner{UID: os.Getuid(), GID: os.Getgid()}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if b, _ := os.ReadFile(filepath.Join(root, name, "f")); string(b) != "compressed" {
			t.Errorf("%s: %q", name, b)
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	needRoot(t)
	for _, tc := range []struct {
		name, dest string
		headers    []*tar.Header
		opts       rootfs.ExtractOptions
		is         func(error) bool
	}{
		{name: "up", headers: []*tar.Header{file("../x", "")}, is: errdefs.IsInvalidArgument},
		{name: "up later", headers: []*tar.Header{file("a/../../x", "")}, is: errdefs.IsInvalidArgument},
		{name: "hard link up", headers: []*tar.Header{{Typeflag: tar.TypeLink, Name: "x", Linkname: "../secret"}}, is: errdefs.IsInvalidArgument},
		{name: "file as folder", dest: "file", headers: []*tar.Header{file("x", "")}, is: errdefs.IsInvalidArgument},
		{name: "no folder", dest: "none", headers: []*tar.Header{file("x", "")}, is: func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
		{name: "folder by file", opts: rootfs.ExtractOptions{NoOverwriteDirNonDir: true}, headers: []*tar.Header{file("dir", "")}, is: errdefs.IsInvalidArgument},
		{name: "file by folder", opts: rootfs.ExtractOptions{NoOverwriteDirNonDir: true}, headers: []*tar.Header{{Typeflag: tar.TypeDir, Name: "file"}}, is: errdefs.IsInvalidArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, root, host := newRoot(t)
			write(t, "secret", host, "secret")
			write(t, "file", root, "file")
			mkdir(t, root, "dir", "full")
			err := r.Extract(t.Context(), "/"+tc.dest, makeTar(t, tc.headers...), tc.opts)
			if err == nil || !tc.is(err) {
				t.Errorf("error %v", err)
			}
			entries, _ := os.ReadDir(host)
			if len(entries) != 2 {
				t.Errorf("outside: %v", entries)
			}
		})
	}
	r, root, _ := newRoot(t)
	mkdir(t, root, "x", "full")
	if err := r.Extract(t.Context(), "/", makeTar(t, file("x", "now a file")), rootfs.ExtractOptions{}); err != nil {
		t.Error(err)
	}
	err := r.Extract(t.Context(), "/", strings.NewReader(strings.Repeat("no archive ", 100)), rootfs.ExtractOptions{})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("garbage: %v", err)
	}
}

func TestExtractFollowsLinksBeneathTheRoot(t *testing.T) {
	needRoot(t)
	r, root, host := newRoot(t)
	mkdir(t, root, "etc")
	symlink(t, host, root, "host")     // an absolute link that means something outside
	symlink(t, "../../..", root, "up") // stays at the root
	symlink(t, "/etc", root, "conf")
	mkdir(t, root, host)
	b := makeTar(t, file("host/a", "1"), file("up/b", "2"), file("conf/c", "3"),
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "late", Linkname: host}, file("late/d", "4"))
	if err := r.Extract(t.Context(), "/", b, rootfs.ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{host + "/a", "b", "etc/c", host + "/d"} {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Error(err)
		}
	}
	if entries, _ := os.ReadDir(host); len(entries) != 1 {
		t.Errorf("outside: %v", entries)
	}
}

func TestExtractOverMountedFile(t *testing.T) {
	needRoot(t)
	r, root, host := newRoot(t)
	write(t, "old", root, "hosts")
	write(t, "mounted", host, "source")
	if err := unix.Mount(filepath.Join(host, "source"), filepath.Join(root, "hosts"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unmount(t, filepath.Join(root, "hosts"))
	if err := r.Extract(t.Context(), "/", makeTar(t, file("hosts", "new")), rootfs.ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(host, "source")); string(b) != "new" {
		t.Errorf("mounted file: %q", b)
	}
}
