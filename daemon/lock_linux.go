package daemon

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// lockDataRoot makes this process the only daemon on a data root. The kernel
// frees the lock when the process ends, however it does.
func lockDataRoot(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errdefs.ErrUnavailable.WithMessage("another slipwayd uses the data root " + dir + ": stop it, or choose another one with --data-root")
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
