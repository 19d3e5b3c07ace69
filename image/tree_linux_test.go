package image

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
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
	dir := t.TempDir()
	if err := mount.All(mounts, dir); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := mount.UnmountAll(dir, 0); err != nil {
			t.Error(err)
		}
		if err := e.snapshots.Remove(e.ctx, key); err != nil {
			t.Error(err)
		}
	}()
	return readTree(t, dir)
}

func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out, groups := map[string]string{}, map[uint64]string{}
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir) // of the root itself: ""
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%v %d:%d", info.Mode(), stat.Uid, stat.Gid)
		if !info.IsDir() {
			line += fmt.Sprintf(" %d %d", info.ModTime().UnixNano(), stat.Rdev)
		}
		names, err := listXattrs(path)
		if err != nil {
			return err
		}
		slices.Sort(names)
		for i, xattr := range names {
			value, err := getXattr(path, xattr)
			if err != nil {
				return err
			}
			names[i] = fmt.Sprintf("%s=%x", xattr, value)
		}
		line += " " + strings.Join(names, " ")
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %s", len(data), digest.FromBytes(data).Encoded()[:16])
			if stat.Nlink > 1 {
				if groups[stat.Ino] == "" {
					groups[stat.Ino] = name
				}
				line += " = " + groups[stat.Ino]
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		out[name] = line
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
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
