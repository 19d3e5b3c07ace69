package hostport

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Reserve binds the address; port 0 takes a free one of the kernel's ephemeral
// range. It returns ErrInUse if the port is taken.
func Reserve(proto Protocol, addr netip.AddrPort) (_ *Reservation, err error) {
	kind := unix.SOCK_STREAM
	if proto == UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket for port %s/%s: %w", addr, proto, err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd) // never used
		}
	}()
	if proto == UDP {
		err = bindUDP(fd, addr)
	} else {
		err = bindTCP(fd, addr)
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%s/%s: %w", addr, proto, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("binding %s/%s: %w", addr, proto, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("name of the socket for %s/%s: %w", addr, proto, err)
	}
	bound, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return nil, fmt.Errorf("socket for %s/%s has a name of type %T", addr, proto, name)
	}
	at := netip.AddrPortFrom(addr.Addr(), uint16(bound.Port)) //nolint:gosec // a port fits
	return New(proto, at, func() error { return unix.Close(fd) }), nil
}

func bind(fd int, addr netip.AddrPort) error {
	return unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
}

// bindTCP must succeed while old connections of an earlier server on the same
// port are in TIME_WAIT, which takes SO_REUSEADDR, and must then keep others out,
// whatever their options are, which SO_REUSEADDR would not. Listening for an
// instant marks the port as exclusive in the kernel's table; shutting down ends
// the listening and keeps the binding, if it was to a certain port. A port that
// the kernel chooses is free of old connections and needs nothing of this.
func bindTCP(fd int, addr netip.AddrPort) error {
	if addr.Port() == 0 {
		return bind(fd, addr)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := bind(fd, addr); err != nil {
		return err
	}
	if err := unix.Listen(fd, 1); err != nil {
		return err
	}
	if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

// bindUDP also keeps the kernel from queueing datagrams that nobody will read.
func bindUDP(fd int, addr netip.AddrPort) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0); err != nil {
		return err
	}
	return bind(fd, addr)
}
