package layerstore

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxSocketDir is the longest directory that containerd accepts for shim
// sockets, because a socket's whole path must fit into 107 bytes.
const maxSocketDir = 42

// addresses makes the directory for sockets: in the state directory if its path is
// short enough, else one in /run that is its alone.
func addresses(state string) (address, error) {
	dir := filepath.Join(state, "s")
	if len(dir) > maxSocketDir {
		dir = fmt.Sprintf("/run/slipway-s/%x", sha256.Sum256([]byte(state)))[:15+16]
	}
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // the sockets in it have their own modes
		return address{}, err
	}
	a := address{grpc: filepath.Join(dir, "events"), ttrpc: filepath.Join(dir, "events.ttrpc"), shims: dir}
	// A socket that a killed daemon left is in the way of the next one's.
	if err := os.Remove(a.ttrpc); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return address{}, err
	}
	return a, nil
}

// listening is called when containerd listens.
func (address) listening() (release func(), err error) { return func() {}, nil }
