package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"slipway/clonefs"
	"slipway/container/rootfs"

	"github.com/containerd/errdefs"
)

// A volume's content comes to its place in a layer that is a whole tree, whether
// the image has its mount point or not, and never where a file is.
func TestPlacePart(t *testing.T) {
	for destination, want := range map[string]string{`C:\pgdata`: "pgdata", `C:\a\b\data`: `a\b\data`, "/pgdata": "pgdata", `C:\new\x`: `new\x`, `C:\file\x`: ""} {
		dir := t.TempDir()
		merged, upper, content := filepath.Join(dir, "merged"), filepath.Join(dir, "fs"), filepath.Join(dir, "volume-0")
		for _, root := range []string{merged, upper} {
			if err := errors.Join(os.MkdirAll(filepath.Join(root, "pgdata", "hidden"), 0o755), os.MkdirAll(filepath.Join(root, "a", "b"), 0o755),
				os.WriteFile(filepath.Join(root, "file"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Mkdir(content, 0o755), os.WriteFile(filepath.Join(content, "PG_VERSION"), []byte("15"), 0o600)); err != nil {
			t.Fatal(err)
		}
		root, err := rootfs.Open(merged)
		if err != nil {
			t.Fatal(err)
		}
		p := part{destination: destination, tree: clonefs.Tree{Dst: content}, whole: true}
		err = placePart(root, merged, &p, nil, upper)
		if err := root.Close(); err != nil {
			t.Error(err)
		}
		if want == "" {
			if err == nil || errdefs.IsInternal(err) {
				t.Errorf("%s: %v", destination, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", destination, err)
			continue
		}
		entries, err := os.ReadDir(filepath.Join(upper, want))
		if err != nil || len(entries) != 1 || entries[0].Name() != "PG_VERSION" {
			t.Errorf("%s: %v, %v", destination, entries, err)
		}
	}
}
