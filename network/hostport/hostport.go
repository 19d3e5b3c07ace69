// Package hostport reserves ports of the host for containers that publish them.
//
// The firewall redirects a published port before any socket of the host sees the
// traffic, so without a reservation a program on the host could bind the same
// port and silently never be reached. A Reservation is a bound socket, held while
// the container runs: the kernel itself then finds every conflict, in both
// directions and with every other program. The socket does not listen: while the
// firewall does not (yet) redirect the port, connections are refused.
//
// The package has no locks.
package hostport

import (
	"errors"
	"net/netip"
)

// Protocol is the transport protocol of a port, spelled as Docker spells it.
type Protocol string

// The supported protocols.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// ErrInUse says that another socket has the port.
var ErrInUse = errors.New("port is in use")

// Request is a port of the host that is to lead to a port of a container.
type Request struct {
	Protocol Protocol
	// Addr is the host's; port 0 is any that is free.
	Addr netip.AddrPort
	// Container is the container's port.
	Container uint16
	// OnHost says that the container listens on the host's own addresses.
	OnHost bool
	// Again says that the container runs already, and may have the port itself.
	Again bool
}

// Reservation is a port that nobody else on the host can bind until Close.
type Reservation struct {
	Protocol Protocol
	Addr     netip.AddrPort
	release  func() error
}

// New returns a reservation of what release lets go of.
func New(proto Protocol, addr netip.AddrPort, release func() error) *Reservation {
	return &Reservation{Protocol: proto, Addr: addr, release: release}
}

// Close lets go of the port. It may be called again.
func (r *Reservation) Close() error {
	release := r.release
	if release == nil {
		return nil
	}
	r.release = nil
	return release()
}
