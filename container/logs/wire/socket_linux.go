package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// SocketName is the name of the keeper's socket in the exec root.
const SocketName = "logger.sock"

// maxSocketPath is what fits the kernel's socket address.
const maxSocketPath = 100

// socketAddr returns the address of the keeper's socket in root, and what to call when it has been
// used. A path too long for a socket address is reached through the folder's descriptor.
func socketAddr(root string) (*net.UnixAddr, func(), error) {
	name := filepath.Join(root, SocketName)
	if len(name) <= maxSocketPath {
		return &net.UnixAddr{Name: name, Net: "unix"}, func() {}, nil
	}
	dir, err := os.Open(root)
	if err != nil {
		return nil, nil, err
	}
	name = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), SocketName)
	return &net.UnixAddr{Name: name, Net: "unix"}, func() { _ = dir.Close() }, nil
}

// Dial connects to the keeper of an exec root.
func Dial(ctx context.Context, root string) (net.Conn, error) {
	addr, release, err := socketAddr(root)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	return d.DialContext(ctx, "unix", addr.Name)
}

// Listen makes the socket of an exec root's keeper, reachable by root only from its first moment.
func Listen(root string) (net.Listener, error) {
	name := filepath.Join(root, SocketName)
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	addr, release, err := socketAddr(root)
	if err != nil {
		return nil, err
	}
	defer release()
	mask := syscall.Umask(0o177)
	defer syscall.Umask(mask)
	l, err := net.ListenUnix("unix", addr)
	if err != nil {
		return nil, err
	}
	// The next keeper removes it; removing it here could remove the next keeper's.
	l.SetUnlinkOnClose(false)
	return l, nil
}
