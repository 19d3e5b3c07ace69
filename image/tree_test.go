package image

import (
	"maps"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/google/go-cmp/cmp"
)

// tree returns what a container of the image would see: a line for each file
// with everything that has to survive.
func (e *engine) tree(t *testing.T, image *Image) map[string]string {
	t.Helper()
	if err := e.EnsureUnpacked(e.ctx, image); err != nil {
		t.Fatal(err)
	}
	key := "test-" + unguessable()
	ctx, done, err := e.lease(e.ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer done(&err)
	mounts, err := e.snapshots.View(ctx, key, image.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.snapshots.Remove(e.ctx, key); err != nil {
			t.Error(err)
		}
	}()
	if e.whole {
		return readTree(t, mounts[0].Source)
	}
	dir := t.TempDir()
	if err := mount.All(mounts, dir); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := mount.UnmountAll(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	return readTree(t, dir)
}

func sameTree(t *testing.T, want, got map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("trees differ (-want +got):\n%s", diff)
	}
}

// names lists what is in a tree, without its root.
func names(tree map[string]string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(tree)), func(name string) bool { return name == "" })
}
