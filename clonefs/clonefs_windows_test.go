package clonefs

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

func TestPool(t *testing.T) {
	dir := t.TempDir()
	p, err := Open(t.Context(), Config{DataRoot: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	status, err := p.Status(t.Context())
	if err != nil || status.Size <= 0 || status.Free <= 0 || status.Method != MethodCopy && status.Method != MethodBlockClone || status.FileSystem == "" {
		t.Errorf("the status is %+v, %v", status, err)
	}
	if (status.Reason == "") != (status.Method == MethodBlockClone) {
		t.Errorf("the status is %+v", status)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	full, err := Open(t.Context(), Config{DataRoot: dir, Reserve: 1 << 62, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := full.CheckSpace(t.Context()); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a full pool: %v", err)
	}
	if _, err := Open(t.Context(), Config{DataRoot: dir, Method: MethodReflink, Logger: slog.New(slog.DiscardHandler)}); !errdefs.IsNotImplemented(err) {
		t.Errorf("a method of Linux: %v", err)
	}
	if _, err := Open(t.Context(), Config{DataRoot: dir, Method: MethodBlockClone, Logger: slog.New(slog.DiscardHandler)}); status.Method == MethodCopy && !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a method that does not work here: %v", err)
	}
}

func TestCopy(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := errors.Join(os.MkdirAll(filepath.Join(src, "d"), 0o755), os.WriteFile(filepath.Join(src, "d", "f"), []byte("content"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, trees := range map[string][]Tree{
		"tree": {{Src: src, Dst: filepath.Join(dir, "a")}}, "layer": {{Layers: []string{src}, KeepWhiteouts: true, Dst: filepath.Join(dir, "b")}},
	} {
		c := NewCopy(trees, Options{})
		if err := c.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		stats, err := c.Finish(t.Context())
		if err != nil || stats.Files != 1 || stats.Directories != 2 || stats.Bytes != 7 || stats.Finish.BytesCloned+stats.Finish.BytesCopied != 7 {
			t.Errorf("%s: %+v, %v", name, stats, err)
		}
		if err := c.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(filepath.Join(trees[0].Dst, "d", "f")); err != nil || string(got) != "content" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err := c.Discard(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(trees[0].Dst); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Merge(t.Context(), []string{src, src}, filepath.Join(dir, "c")); !errdefs.IsNotImplemented(err) {
		t.Error(err)
	}
}
