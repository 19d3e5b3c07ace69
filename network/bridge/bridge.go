// Package bridge makes the kernel's side of networks and containers: bridges,
// network namespaces, and the veth pairs between them, over netlink in process.
//
// Every operation is idempotent and describes a wanted state: doing it twice, or
// again after a crash half-way, ends in the same place. The package keeps nothing
// in memory and locks nothing: callers serialise operations on the same bridge or
// the same sandbox; operations on different ones may run at once.
//
// What it leaves in the system, all of it recognisable for Leftovers:
//
//	<ExecRoot>/netns/<sandbox>    a bind mount of the namespace
//	bridges                       with the alias "slipway:<owner>"
//	veth<7 hex digits>            the host's end of a pair, always a port of a bridge
package bridge

import (
	"net"
	"net/netip"
)

// Bridge is a bridge of the host and its address there.
type Bridge struct {
	Name    string
	Address netip.Prefix // the containers' gateway, with the subnet's length
	MTU     int          // bytes; 0 leaves the kernel's default
	// Unrecorded is a bridge that was not known to be ours: one that another daemon
	// has made is refused. Otherwise it is ours, though its alias may be of a time
	// when the daemon had another default bridge.
	Unrecorded bool
}

// Link is a veth pair between a bridge and a sandbox.
type Link struct {
	Bridge   string
	HostName string // the end on the bridge
	Name     string // the end in the sandbox
	MAC      net.HardwareAddr
	Address  netip.Prefix
	Gateway  netip.Addr // default route; none if not valid
	MTU      int        // bytes; 0 leaves the kernel's default
	Isolated bool       // may not talk to other isolated ports of the bridge
}

// Config of a Driver.
type Config struct {
	// ExecRoot is the directory, on a tmpfs, under which netns/ is made.
	ExecRoot string
	// Owner distinguishes the bridges of several daemons on one host.
	Owner string
}

// Leftovers is everything of ours that is in the system.
type Leftovers struct {
	Sandboxes []string            // names of files in netns/
	Ports     map[string][]string // bridge → names of the veths on it
}

// MACFor derives a stable, locally administered hardware address from an IPv4
// address, so that a neighbour's ARP entry stays right when an address is used again.
func MACFor(addr netip.Addr) net.HardwareAddr {
	b := addr.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}
