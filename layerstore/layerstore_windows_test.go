package layerstore

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
)

// TestSnapshots: containerd runs with the plugins of this system, and the
// snapshotter is the one of directories.
func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	s, err := New(t.Context(), Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), BinDir: dir, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, layers := Context(t.Context()), s.Client().SnapshotService(Snapshotter)
	keep := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "now"})
	mounts, err := layers.Prepare(ctx, "one", "", keep)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "root", "io.containerd.snapshotter.v1.dirs", "snapshots"); len(mounts) != 1 || filepath.Dir(filepath.Dir(mounts[0].Source)) != want {
		t.Errorf("the mounts are %+v, want a directory in %s", mounts, want)
	}
	if err := SyncSnapshot(mounts); err != nil {
		t.Error(err)
	}
	if err := layers.Commit(ctx, "base", "one", keep); err != nil {
		t.Fatal(err)
	}
	if _, err := layers.Prepare(ctx, "two", "base"); err != nil {
		t.Fatal(err)
	}
}
