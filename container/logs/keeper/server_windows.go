package keeper

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func lockPID(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	const exclusive = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	// A byte far beyond the end: what is locked, others cannot read.
	far := &windows.Overlapped{OffsetHigh: 1 << 30}
	if err := windows.LockFileEx(windows.Handle(f.Fd()), exclusive, 0, 1, 0, far); err != nil {
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			err = ErrRunning
		}
		return nil, errors.Join(err, f.Close())
	}
	if err := writePID(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// letGo closes the container's files, since open ones cannot be removed, and keeps in memory what its clients are still
// to get.
func (c *container) letGo() error {
	c.halt()
	<-c.read
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := []error{c.progress.close()}
	for _, s := range c.each() {
		errs = append(errs, s.spool.letGo())
		if s.source != nil {
			errs = append(errs, s.source.close()) // the next run has a pipe of the same name
		}
	}
	if c.sink != nil {
		errs = append(errs, c.sink.close())
	}
	return errors.Join(errs...)
}

// passing reports whether accepting a connection is worth another attempt.
func passing(err error) bool {
	return errors.Is(err, windows.ERROR_NO_SYSTEM_RESOURCES) || errors.Is(err, windows.ERROR_NO_DATA)
}
