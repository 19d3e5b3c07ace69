package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"slipway/container/rootfs"

	"github.com/containerd/continuity/sysx"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// overlayAttributes is the prefix of overlayfs's own attributes.
const overlayAttributes = "trusted.overlay."

// setOpaque makes overlayfs show nothing of the layers below in a directory.
func setOpaque(dir string) error {
	return os.NewSyscallError("setxattr", unix.Lsetxattr(dir, overlayAttributes+"opaque", []byte("y"), 0))
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
// merged directory has, or Docker's for a mount point that is not in it. What is
// there already has to be a directory: a link that a program of the container
// made would lead anywhere on the host.
func copyUpDir(root *rootfs.Root, path, target string) error {
	err := os.Mkdir(target, 0o700)
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Lstat(target)
		if err == nil && !info.IsDir() {
			err = errdefs.ErrConflict.WithMessage(path + " was moved in the container meanwhile: commit it again")
		}
		return err
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
	return copyAttributes(f, target)
}

// copyAttributes gives target the owner, mode, extended attributes and times of
// the open directory.
func copyAttributes(from *os.File, target string) error {
	source := "/proc/self/fd/" + strconv.Itoa(int(from.Fd()))
	var stat unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &stat); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := os.Chown(target, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(target, stat.Mode&0o7777); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	names, err := sysx.Listxattr(source)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, overlayAttributes) {
			continue // not of the directory but of the layer that it lies in
		}
		value, err := sysx.Getxattr(source, name)
		if err != nil {
			return err
		}
		if err := sysx.LSetxattr(target, name, value, 0); err != nil {
			return err
		}
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{stat.Atim, stat.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
}
