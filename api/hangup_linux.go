package api

import (
	"crypto/tls"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// watchHangup calls gone when the peer has closed the connection, which reading
// cannot tell from closing only its sending half, and closes done when it
// watches no more. It neither reads nor writes, and holds no thread: it waits on
// a duplicate of the descriptor in the runtime's poller. On TCP a closing peer
// shows only once something is sent to it. The returned function ends the watch.
func watchHangup(conn net.Conn, gone func(), done chan<- struct{}) (stop func()) {
	events := int16(unix.POLLHUP | unix.POLLERR)
	if t, ok := conn.(*tls.Conn); ok {
		// TLS has half closing of its own: when TCP's comes, all is over.
		conn, events = t.NetConn(), events|unix.POLLRDHUP
	}
	dup := duplicate(conn)
	if dup == nil {
		close(done)
		return func() {}
	}
	raw, err := dup.(syscall.Conn).SyscallConn()
	if err != nil {
		close(done)
		return func() { _ = dup.Close() }
	}
	go func() {
		defer close(done)
		hung := false
		err := raw.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: events}} //nolint:gosec // descriptors are small
			_, err := unix.Poll(fds, 0)
			hung = err == nil && fds[0].Revents&events != 0
			return hung
		})
		if err == nil && hung {
			gone()
		}
	}()
	return func() { _ = dup.Close() }
}

// duplicate makes a second connection object for the same connection, so that it
// can be waited on beside readers and writers of the first. It returns nil for
// connections without a descriptor.
func duplicate(conn net.Conn) net.Conn {
	filer, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return nil
	}
	f, err := filer.File()
	if err != nil {
		return nil
	}
	defer f.Close()
	dup, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	if _, ok := dup.(syscall.Conn); !ok {
		_ = dup.Close()
		return nil
	}
	return dup
}
