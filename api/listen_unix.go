//go:build unix

package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Modes of the socket before and after it belongs to the right group.
const (
	privateSocket = 0o600
	groupSocket   = 0o660
)

// listenUnix opens a unix socket. A socket that a dead daemon left is replaced;
// one that somebody listens on is not.
func listenUnix(ctx context.Context, path string, opts ListenOptions) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, invalidf("invalid host unix://%s: the path is not absolute", path)
	}
	gid, err := lookupGroup(opts)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // clients must be able to reach the socket
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// The socket's own mode becomes that of the file: at no moment can others
	// than root connect.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmodErr error
		err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), privateSocket) })
		return errors.Join(err, chmodErr)
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if gid >= 0 {
		err = os.Chown(path, -1, gid)
	}
	if err == nil {
		err = os.Chmod(path, groupSocket)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("giving the socket to its group: %w", err), l.Close())
	}
	return l, nil
}

func checkUnix(opts ListenOptions) error {
	_, err := lookupGroup(opts)
	return err
}

// lookupGroup returns the number of the group that may use the socket, or -1 to
// leave it as it is.
func lookupGroup(opts ListenOptions) (int, error) {
	if opts.Group == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(opts.Group)
	if err == nil {
		return strconv.Atoi(g.Gid)
	}
	if gid, err := strconv.Atoi(opts.Group); err == nil && gid >= 0 {
		return gid, nil
	}
	if opts.GroupOptional {
		return -1, nil
	}
	return 0, fmt.Errorf("%w: %w", errdefs.ErrNotFound.WithMessage("group "+opts.Group+" for the socket not found"), err)
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errdefs.ErrAlreadyExists.WithMessage(path + " exists and is not a socket")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close() // nothing was sent
		return errdefs.ErrAlreadyExists.WithMessage("another daemon is listening on " + path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	default:
		return fmt.Errorf("looking for another daemon on %s: %w", path, err)
	}
}

var errNoPipe = errdefs.ErrNotImplemented.WithMessage("named pipes are Windows': use unix:// or tcp://")

func listenPipe(string, ListenOptions) (net.Listener, error) { return nil, errNoPipe }

func checkPipe(ListenOptions) error { return errNoPipe }
