package container

import (
	"os"
	"path/filepath"
	"testing"

	"slipway/clonefs"
	"slipway/container/rootfs"

	"github.com/containerd/continuity/sysx"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// TestPlacePartStaysInLayer: the root of a running container may look otherwise
// than the frozen copy of its layer, in which a program had put a link just then.
func TestPlacePartStaysInLayer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	merged, upper, content, host := filepath.Join(dir, "merged"), filepath.Join(dir, "fs"), filepath.Join(dir, "volume-0"), filepath.Join(dir, "host")
	for _, d := range []string{filepath.Join(merged, "d/data"), upper, content, filepath.Join(host, "data")} {
		must(t, os.MkdirAll(d, 0o750))
	}
	must(t, os.WriteFile(filepath.Join(host, "data/precious"), []byte("x"), 0o600))
	must(t, os.Symlink(host, filepath.Join(upper, "d")))
	root, err := rootfs.Open(merged)
	must(t, err)
	t.Cleanup(func() { must(t, root.Close()) })

	p := part{destination: "/d/data", tree: clonefs.Tree{Dst: content}, whole: true}
	if err := placePart(root, merged, &p, nil, upper); !errdefs.IsConflict(err) {
		t.Errorf("through a link to the host: %v", err)
	}
	if _, err := os.Stat(filepath.Join(host, "data/precious")); err != nil {
		t.Errorf("the host's file: %v", err)
	}

	// The same without the link: the directory above is as the container has it.
	must(t, os.Remove(filepath.Join(upper, "d")))
	must(t, unix.Setxattr(filepath.Join(merged, "d"), "user.note", []byte("kept"), 0))
	must(t, os.Chown(filepath.Join(merged, "d"), 5, 6))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(merged, "d"), []unix.Timespec{{Sec: 1}, {Sec: 2}}, 0))
	must(t, placePart(root, merged, &p, nil, upper))
	if _, err := os.Stat(filepath.Join(upper, "d/data")); err != nil {
		t.Error(err)
	}
	value, err := sysx.LGetxattr(filepath.Join(upper, "d"), "user.note")
	if string(value) != "kept" {
		t.Errorf("attribute %q: %v", value, err)
	}
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(upper, "d"), &st))
	if st.Uid != 5 || st.Gid != 6 || st.Mode&0o7777 != 0o750 {
		t.Errorf("owner %d:%d, mode %o", st.Uid, st.Gid, st.Mode)
	}
}

// TestDropMountPointsStaysInLayer: /etc of the layer may be a link.
func TestDropMountPointsStaysInLayer(t *testing.T) {
	dir := t.TempDir()
	upper, host := filepath.Join(dir, "fs"), filepath.Join(dir, "host")
	must(t, os.Mkdir(upper, 0o750))
	must(t, os.Mkdir(host, 0o750))
	must(t, os.WriteFile(filepath.Join(host, "hosts"), nil, 0o600))
	must(t, os.Symlink(host, filepath.Join(upper, "etc")))
	must(t, dropMountPoints(upper))
	if _, err := os.Stat(filepath.Join(host, "hosts")); err != nil {
		t.Errorf("the host's file: %v", err)
	}
	must(t, os.Remove(filepath.Join(upper, "etc")))
	must(t, os.Rename(host, filepath.Join(upper, "etc")))
	must(t, dropMountPoints(upper))
	if _, err := os.Stat(filepath.Join(upper, "etc/hosts")); !os.IsNotExist(err) {
		t.Errorf("the mount point is still there: %v", err)
	}
}
