package wire

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// SocketName is the name of the keeper's socket in the exec root.
const SocketName = "logger.sock"

// maxSocketPath is what fits the kernel's socket address.
const maxSocketPath = 100

// SocketAddr returns the address of the keeper's socket in root, and what to call when it has been
// used. A path too long for a socket address is reached through the folder's descriptor.
func SocketAddr(root string) (*net.UnixAddr, func(), error) {
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
