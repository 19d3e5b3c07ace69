package layerstore

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestStrayLayer: the directory of a snapshot that a killed process did not come
// to record is not in the way of the next one.
func TestStrayLayer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	open := func() *Store {
		t.Helper()
		s, err := New(t.Context(), Config{
			Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), BinDir: dir, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ctx := Context(t.Context())
	layers := filepath.Join(dir, "root", "io.containerd.snapshotter.v1."+Snapshotter, "snapshots")
	open().Close() // makes the directories
	for number := range 3 {
		stray := filepath.Join(layers, strconv.Itoa(number+1), "fs", "stray")
		if err := os.MkdirAll(stray, 0o700); err != nil {
			t.Fatal(err)
		}
		s := open()
		if _, err := s.Client().SnapshotService(Snapshotter).Prepare(ctx, strconv.Itoa(number), ""); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if _, err := os.Stat(stray); err == nil {
			t.Error("the new layer has the stray one's files")
		}
		if made, err := os.ReadDir(layers); err != nil || len(made) != number+1 {
			t.Errorf("%d layers were made, and the directories are %v, %v", number+1, made, err)
		}
	}
}

// TestWriterOfDroppedBlob: who writes a blob whose record is gone but whose file
// is not starts at its beginning, as with any other.
func TestWriterOfDroppedBlob(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	s, err := New(t.Context(), Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), BinDir: dir, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, store := Context(t.Context()), s.Client().ContentStore()
	text := "a blob"
	blob := ocispec.Descriptor{Digest: digest.FromString(text), Size: int64(len(text))}
	if err := content.WriteBlob(ctx, store, "first", strings.NewReader(text), blob); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(ctx, blob.Digest); err != nil {
		t.Fatal(err)
	}
	w, err := store.Writer(ctx, content.WithRef("second"), content.WithDescriptor(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if status, err := w.Status(); err != nil || status.Offset != 0 {
		t.Errorf("the writer starts with %d bytes, %v", status.Offset, err)
	}
}
