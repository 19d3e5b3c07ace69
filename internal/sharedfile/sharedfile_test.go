package sharedfile_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"slipway/internal/sharedfile"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string, flag int) *os.File {
	t.Helper()
	f, err := sharedfile.Open(path, flag, 0o600)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

// TestOpenFilesMove: what a rotation does while others read.
func TestOpenFilesMove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	writer := open(t, path, os.O_RDWR|os.O_APPEND|os.O_CREATE)
	_, err := writer.WriteString("first")
	must(t, err)
	reader := open(t, path, os.O_RDONLY)
	old := open(t, path+".1", os.O_RDWR|os.O_CREATE)

	must(t, sharedfile.Rename(path, path+".1"))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	next := open(t, path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_TRUNC)
	_, err = next.WriteString("second")
	must(t, err)
	_, err = writer.WriteString(", still")
	must(t, err)
	b, err := io.ReadAll(reader)
	must(t, err)
	if string(b) != "first, still" || read(t, path+".1") != "first, still" || read(t, path) != "second" {
		t.Errorf("reader %q, files %q and %q", b, read(t, path+".1"), read(t, path))
	}
	ids := map[uint64]bool{}
	for _, f := range []*os.File{writer, reader, old, next} {
		id, err := sharedfile.ID(f)
		must(t, err)
		ids[id] = true
	}
	if len(ids) != 3 {
		t.Errorf("%d files by their numbers", len(ids))
	}

	must(t, sharedfile.Remove(path+".1"))
	again := open(t, path+".1", os.O_WRONLY|os.O_CREATE|os.O_EXCL) // the name is free
	_, err = again.WriteString("third")
	must(t, err)
	if read(t, path+".1") != "third" {
		t.Error("another file's content")
	}
	if err := sharedfile.Remove(path + ".9"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removing none: %v", err)
	}
	if err := sharedfile.Rename(path+".9", path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("renaming none: %v", err)
	}
	if read(t, path) != "second" {
		t.Error("a rename of none took the name")
	}
}

func TestAppendAndTruncate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := open(t, path, os.O_RDWR|os.O_APPEND|os.O_CREATE)
	_, err := f.WriteString("one two")
	must(t, err)
	must(t, sharedfile.Truncate(f, path, 3))
	_, err = f.Seek(0, io.SeekStart)
	must(t, err)
	_, err = f.WriteString(", three")
	must(t, err)
	if got := read(t, path); got != "one, three" {
		t.Errorf("%q", got)
	}
}
