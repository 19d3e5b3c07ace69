package layerstore

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
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
