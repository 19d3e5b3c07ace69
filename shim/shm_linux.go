package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// MountShm mounts a tmpfs of size bytes at path, which is created if need be, to
// be the /dev/shm of containers that share it (SpecRequest.ShmPath). It
// does nothing if a tmpfs is mounted there already.
func MountShm(path string, size int64) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("mounting shm tmpfs: %w", err)
	}
	mounted, err := isMountpoint(path)
	if err != nil || mounted {
		return err
	}
	const flags = unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("shm", path, "tmpfs", flags, "mode=1777,size="+strconv.FormatInt(size, 10)); err != nil {
		return fmt.Errorf("mounting shm tmpfs: %w", &fs.PathError{Op: "mount", Path: path, Err: err})
	}
	return nil
}

// UnmountShm undoes [MountShm] and removes the directory. It does nothing if
// there is none.
func UnmountShm(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil &&
		!errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting shm tmpfs: %w", &fs.PathError{Op: "umount", Path: path, Err: err})
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the shm directory: %w", err)
	}
	return nil
}

// isMountpoint compares the path's mount id with its parent's.
func isMountpoint(path string) (bool, error) {
	var own, parent unix.Statx_t
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if err := unix.Statx(unix.AT_FDCWD, path, flags, unix.STATX_MNT_ID, &own); err != nil {
		return false, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	if err := unix.Statx(unix.AT_FDCWD, path+"/..", flags, unix.STATX_MNT_ID, &parent); err != nil {
		return false, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	return own.Mnt_id != parent.Mnt_id, nil
}
