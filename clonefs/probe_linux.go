package clonefs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var (
	// errNoReflink: the file system cannot share blocks between files.
	errNoReflink = errors.New("no reflinks")
	// errUnavailable: this host cannot carry a pool file at all.
	errUnavailable = errors.New("no pool file can be had")
)

// probeReflink tries a reflink between two nameless files in dir. It returns
// errNoReflink where the file system has none, and other errors as they are.
func probeReflink(dir string) error {
	var sfs unix.Statfs_t
	if err := unix.Statfs(dir, &sfs); err != nil {
		return fmt.Errorf("probe %s: %w", dir, err)
	}
	if sfs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		// It passes reflinks through, but cannot hold the layers of another overlay.
		return fmt.Errorf("%w: %s is on overlayfs", errNoReflink, dir)
	}
	src, err := namelessFile(dir)
	if err != nil {
		return fmt.Errorf("probe %s: %w", dir, err)
	}
	defer src.Close()
	dst, err := namelessFile(dir)
	if err != nil {
		return fmt.Errorf("probe %s: %w", dir, err)
	}
	defer dst.Close()
	if _, err := src.Write(make([]byte, 4096)); err != nil {
		return fmt.Errorf("probe %s: %w", dir, err)
	}
	err = unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	if err != nil && isRefused(err) {
		return fmt.Errorf("%w: %s: %w", errNoReflink, dir, err)
	}
	if err != nil {
		return fmt.Errorf("probe %s: %w", dir, err)
	}
	return nil
}

// isRefused says whether a reflink failed because it is not possible here, so
// that copying is the way.
func isRefused(err error) bool {
	for _, e := range []error{unix.EOPNOTSUPP, unix.EXDEV, unix.EINVAL, unix.ENOTTY, unix.ENOSYS, unix.EPERM, unix.ETXTBSY} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func namelessFile(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".slipway-probe-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
