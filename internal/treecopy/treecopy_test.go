package treecopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// write makes a file and the directories that lead to it.
func write(t *testing.T, content []byte, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCopy(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	deep := filepath.Join(append([]string{src}, strings.Split(strings.TrimSuffix(strings.Repeat("a-long-directory-name/", 15), "/"), "/")...)...)
	old := time.Date(2012, 10, 26, 1, 2, 3, 4000, time.UTC)
	want := map[string][]byte{}
	for i := range 200 {
		content := bytes.Repeat([]byte{byte(i)}, i*997)
		name := write(t, content, src, fmt.Sprintf("d%d", i%7), fmt.Sprintf("f%d", i))
		want[name] = content
		if err := os.Chtimes(name, time.Time{}, old); err != nil {
			t.Fatal(err)
		}
	}
	want[write(t, []byte("deep"), deep, "file")] = []byte("deep")
	readOnly := write(t, []byte("read only"), src, "read only")
	want[readOnly] = []byte("read only")
	if err := errors.Join(os.Chmod(readOnly, 0o444), os.Mkdir(filepath.Join(src, "empty"), 0o755), os.Chtimes(filepath.Join(src, "d3"), time.Time{}, old)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // os.RemoveAll of the test cannot everywhere
		_ = errors.Join(os.Chmod(readOnly, 0o644), os.Chmod(filepath.Join(dst, "read only"), 0o644))
	})
	stats, err := Copy(t.Context(), Probe(dir), dst, src)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Files != int64(len(want)) || stats.Directories != 1+7+1+15 {
		t.Errorf("the statistics are %+v", stats)
	}
	var bytesWanted int64
	for name, content := range want {
		rel, _ := filepath.Rel(src, name)
		got, err := os.ReadFile(filepath.Join(dst, rel))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s has %d bytes, %v, want %d", rel, len(got), err, len(content))
		}
		bytesWanted += int64(len(content))
	}
	if stats.Bytes() != bytesWanted {
		t.Errorf("%d bytes were counted, want %d", stats.Bytes(), bytesWanted)
	}
	for _, name := range []string{"d3", "d3/f3"} {
		if info, err := os.Stat(filepath.Join(dst, name)); err != nil || info.ModTime().Sub(old).Abs() > time.Microsecond {
			t.Errorf("%s has the time %v, %v", name, info.ModTime(), err)
		}
	}
	if info, err := os.Stat(filepath.Join(dst, "read only")); err != nil || info.Mode().Perm()&0o222 != 0 {
		t.Errorf("read only: %v, %v", info, err)
	}
	if err := Sync(t.Context(), dst); err != nil {
		t.Error(err)
	}
	if _, err := Copy(t.Context(), Probe(dir), dst, src); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a copy onto a copy: %v", err)
	}
}

func TestCopyEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	for i := range 50 {
		write(t, []byte("x"), src, strconv.Itoa(i))
	}
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if _, err := Copy(ctx, Probe(dir), filepath.Join(dir, "dst"), src); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// failing is a backend for which one file cannot be copied.
type failing struct{ Backend }

var errFails = errors.New("fails")

func (f failing) CopyFile(ctx context.Context, dst, src string, info fs.FileInfo) (shared, copied int64, err error) {
	if info.Name() == "bad" {
		return 0, 0, errFails
	}
	return f.Backend.CopyFile(ctx, dst, src, info)
}

func TestCopyNamesTheFileThatFails(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	bad := write(t, nil, src, "sub", "bad")
	for i := range 50 {
		write(t, []byte("x"), src, strconv.Itoa(i))
	}
	_, err := Copy(t.Context(), failing{Probe(dir)}, filepath.Join(dir, "dst"), src)
	if !errors.Is(err, errFails) || !strings.Contains(err.Error(), bad) {
		t.Errorf("got %v", err)
	}
}

func TestCopyLink(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a right on Windows and do not work under Wine")
	}
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	write(t, []byte("x"), src, "file")
	if err := Link("file", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	if stats, err := Copy(t.Context(), Probe(dir), dst, src); err != nil || stats.Links != 1 {
		t.Fatal(stats, err)
	}
	if target, err := os.Readlink(filepath.Join(dst, "link")); err != nil || target != "file" {
		t.Error(target, err)
	}
}
