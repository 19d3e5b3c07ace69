package loopback

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"

	"slipway/network/hostport"
)

// Reserve takes a port of the host that is to lead to a port of a container; port 0 of the host is any that is free. It
// is hostport.ErrInUse if the port is another container's or some program's.
//
// A port of TCP listens from then on, since that is what reserves it; clients are sent away until Open. If the container
// listens on the host's addresses and the port is published as itself, it is only noted and found free: to
// listen is the container's part, and a program that is faster gets it.
func (d *Driver) Reserve(req hostport.Request) (*hostport.Reservation, error) {
	proto, at, container, onHost := req.Protocol, req.Addr, req.Container, req.OnHost
	if onHost && at.Port() == 0 && proto != hostport.TCP {
		at = netip.AddrPortFrom(at.Addr(), container)
	}
	itself := onHost && at.Port() == container
	if proto != hostport.TCP && !itself {
		return nil, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(
			"publishing port %d/%s as another port of the host is not possible on Windows: only what listens on the host's addresses can be published, as itself", container, proto))
	}
	if d.isHeld(proto, at) {
		return nil, fmt.Errorf("%s/%s: %w", at, proto, hostport.ErrInUse)
	}
	if itself {
		if err := isFree(proto, at); err != nil && !req.Again {
			return nil, err
		}
		return d.hold(proto, at, &accepting{})
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", at.String())
	if err != nil {
		return nil, inUse(proto, at, err)
	}
	port, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	a := &accepting{listener: listener}
	a.done.Go(a.accept)
	return d.hold(proto, netip.AddrPortFrom(at.Addr(), port.Port()), a)
}

// isFree reports whether a port could be listened on at this moment.
func isFree(proto hostport.Protocol, at netip.AddrPort) error {
	var config net.ListenConfig
	if proto == hostport.UDP {
		conn, err := config.ListenPacket(context.Background(), "udp4", at.String())
		if err != nil {
			return inUse(proto, at, err)
		}
		return conn.Close()
	}
	listener, err := config.Listen(context.Background(), "tcp4", at.String())
	if err != nil {
		return inUse(proto, at, err)
	}
	return listener.Close()
}

// errAddrInUse and errAccess are Windows Sockets' own numbers ("Windows Sockets Error Codes"), which are not those of
// the package syscall. Access is denied where a program has the port for itself alone.
const (
	errAccess    = syscall.Errno(10013)
	errAddrInUse = syscall.Errno(10048)
)

func inUse(proto hostport.Protocol, at netip.AddrPort, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, errAddrInUse) || errors.Is(err, errAccess) {
		return fmt.Errorf("%s/%s: %w", at, proto, hostport.ErrInUse)
	}
	return fmt.Errorf("listening on %s/%s: %w", at, proto, err)
}

// key names a port of the host.
type key struct {
	proto hostport.Protocol
	addr  netip.AddrPort
}

// isHeld reports whether a port of the host is a container's, also if for some of its addresses only.
func (d *Driver) isHeld(proto hostport.Protocol, at netip.AddrPort) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k := range d.held {
		meets := k.addr.Addr() == at.Addr() || k.addr.Addr().IsUnspecified() || at.Addr().IsUnspecified()
		if k.proto == proto && k.addr.Port() == at.Port() && meets {
			return true
		}
	}
	return false
}

// hold notes a reserved port.
func (d *Driver) hold(proto hostport.Protocol, at netip.AddrPort, a *accepting) (*hostport.Reservation, error) {
	k := key{proto, at}
	d.mu.Lock()
	_, taken := d.held[k]
	if !taken {
		d.held[k] = a
	}
	d.mu.Unlock()
	if taken { // two at once
		return nil, errors.Join(fmt.Errorf("%s/%s: %w", at, proto, hostport.ErrInUse), a.close())
	}
	return hostport.New(proto, at, func() error {
		err := a.close()
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.held, k)
		return err
	}), nil
}

// handle sets what is done with the clients of a reserved port, and reports whether it is reserved.
func (d *Driver) handle(proto hostport.Protocol, at netip.AddrPort, handler func(net.Conn)) bool {
	d.mu.Lock()
	a := d.held[key{proto, at}]
	d.mu.Unlock()
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handler = handler
	return true
}

// accepting is a reserved port. The listener is nil if the port is the container's own to listen on.
type accepting struct {
	listener net.Listener
	done     sync.WaitGroup

	mu      sync.Mutex
	handler func(net.Conn)
}

func (a *accepting) accept() {
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.mu.Lock()
		handler := a.handler
		a.mu.Unlock()
		if handler == nil {
			_ = conn.Close()
			continue
		}
		go handler(conn) // it ends with the connection
	}
}

// close returns when the port is free.
func (a *accepting) close() error {
	if a.listener == nil {
		return nil
	}
	err := a.listener.Close()
	a.done.Wait()
	return err
}
