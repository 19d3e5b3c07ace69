// Package dns answers the name queries of one container.
//
// A [Server] answers for the names that a [Zone] knows: the members of the
// container's networks. Everything else it asks the [Upstream] servers.
//
// # How queries get here
//
// Containers are told, in /etc/resolv.conf, to ask 127.0.0.11, port 53. [Listen]
// opens sockets on that address in the container's own network namespace, at ports
// that the kernel chooses, and has a firewall table in there lead port 53 to them.
// Listening on port 53 itself would be simpler, but then no program in the
// container could bind that port on all addresses, and a name server is a thing
// that people run in containers.
//
// The sockets belong to the daemon. While it is away, queries are refused by the
// kernel at once, and connections that exist are not disturbed. The next daemon
// opens new sockets in every namespace and replaces the table.
//
// # Limits
//
// One query never waits for another. Queries to upstream servers are limited in
// number, since each costs a socket of the daemon's, and so are TCP connections
// from the container; beyond that they are refused.
package dns

import (
	"context"
	"net"
	"net/netip"
)

// Address is where containers find their server, at port 53.
const Address = "127.0.0.11"

// Zone knows names. Its methods may be called concurrently and must not wait.
type Zone interface {
	// Addresses returns the IPv4 addresses of a name, which is without a last dot
	// and matches in any case. A name that is known may have none.
	Addresses(name string) (addrs []netip.Addr, known bool)
	// Name returns the full name of an address, without a last dot, or "".
	Name(addr netip.Addr) string
}

// Upstream is a server that is asked for what the zone does not know.
type Upstream struct {
	Addr netip.AddrPort
	// Host is whether it is asked from the host's network namespace, because it
	// cannot be reached from the container's.
	Host bool
}

// Config of a Server.
type Config struct {
	Zone Zone
	// Upstreams returns the servers in the order in which they are tried. It is
	// called for every query that the zone does not answer.
	Upstreams func() []Upstream
	// Dial connects to an upstream server; network is "udp" or "tcp".
	Dial func(ctx context.Context, network string, to Upstream) (net.Conn, error)
}

// Sockets are what a Server answers on.
type Sockets struct {
	UDP net.PacketConn
	TCP net.Listener
}
