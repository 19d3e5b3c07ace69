package keeper

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// source is the reading end of a container's FIFO.
type source struct {
	fifo *os.File
	conn syscall.RawConn
}

// openSource opens the reading end only, and without waiting for a writer: see the package's comment on the end of
// output.
func openSource(path string, _ bool) (_ *source, err error) {
	fifo, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, fifo.Close())
		}
	}()
	fi, err := fifo.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Mode().Type() != os.ModeNamedPipe {
		return nil, fmt.Errorf("%s is not a FIFO", path)
	}
	conn, err := fifo.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &source{fifo: fifo, conn: conn}, nil
}

// close may be called again.
func (s *source) close() error {
	if err := s.fifo.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// wake makes a read that waits for output look around, until rest.
func (s *source) wake() {
	// A FIFO that cannot be polled would have failed at its first read.
	_ = s.fifo.SetReadDeadline(time.Unix(1, 0))
}

func (s *source) rest() { _ = s.fifo.SetReadDeadline(time.Time{}) }

// receive waits for output and records it, or finds the stream's end.
func (c *container) receive(s *stream) error {
	var failed error
	err := s.source.conn.Read(func(fd uintptr) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.stopped {
			return true
		}
		n, err := s.spool.take(int(fd))
		switch {
		case n > 0:
			c.recovered(s)
			c.record(s, false)
		case errors.Is(err, unix.EAGAIN):
			if !c.force {
				return false
			}
			c.end(s)
		case err != nil:
			failed = err
		default: // no writer
			if !c.finish && !hungUp(int(fd)) {
				return false
			}
			c.end(s)
		}
		c.changed.Broadcast()
		return true
	})
	return errors.Join(failed, err)
}

// hungUp reports whether a FIFO's writers have left, as opposed to not having come yet.
func hungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a file descriptor
	for {
		_, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && fds[0].Revents&unix.POLLHUP != 0 && fds[0].Revents&unix.POLLIN == 0
		}
	}
}
