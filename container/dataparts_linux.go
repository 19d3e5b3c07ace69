package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"slipway/container/rootfs"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// setOpaque makes overlayfs show nothing of the layers below in a directory.
func setOpaque(dir string) error {
	return os.NewSyscallError("setxattr", unix.Lsetxattr(dir, "trusted.overlay.opaque", []byte("y"), 0))
}

// resolve returns the path that a container path leads to beneath the root that
// is mounted at merged, with all symbolic links resolved.
func resolve(root *rootfs.Root, merged, path string) (string, error) {
	f, err := root.OpenPath(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // opened by path only: there is nothing to lose
	real, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return "", err
	}
	top, err := filepath.EvalSymlinks(merged)
	if err != nil {
		return "", err
	}
	place, err := filepath.Rel(top, real)
	if err != nil || !filepath.IsLocal(place) {
		return "", fmt.Errorf("%s leads out of the container's root: %w", path, errdefs.ErrInvalidArgument)
	}
	return "/" + place, nil
}

// copyUpDir makes a directory in an overlay's upper directory as overlayfs
// itself would before something in it changes: with the attributes that the
// merged directory has, or Docker's for a mount point that is not in it.
func copyUpDir(root *rootfs.Root, path, target string) error {
	err := os.Mkdir(target, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := root.OpenPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Chmod(target, 0o755) //nolint:gosec // a directory of the container
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened by path only: there is nothing to lose
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := os.Chown(target, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	return os.NewSyscallError("chmod", unix.Chmod(target, stat.Mode&0o7777))
}
