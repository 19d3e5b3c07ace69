// Package firewall keeps one nftables table, in which it redirects published
// ports to containers, masquerades what containers send out, and drops what may
// not reach them. It speaks netlink to the kernel and needs no nft or iptables.
//
// The table belongs to one daemon (its name comes from the daemon's bridge), so that
// several daemons and other tools' rules live side by side. Outside of it, only
// iptables' FORWARD chain gets two rules a bridge, and only while it drops by
// policy, as Docker makes it do: see Table.join.
//
//	table ip <name> {
//	  set bridges   { ifname }                        every bridge of ours
//	  set internal  { ifname }                        those without an outside
//	  set peers     { ifname . ifname }               bridge . same bridge: containers may talk
//	  set masq      { ipv4_addr, interval }           subnets that are masqueraded
//	  set hairpin   { ipv4_addr . ifname, interval }  subnet . its own bridge
//	  map addr_ports { ipv4_addr . proto . port : ipv4_addr . port }  published on one host address
//	  map any_ports  { proto . port : ipv4_addr . port }              published on all of them
//
//	  chain raw          prerouting, raw:   nothing from a wire may be for 127.0.0.0/8, or from it
//	  chain prerouting   dstnat:            the two maps
//	  chain output       dstnat:            the two maps, for the host's own connections
//	  chain forward      filter:            see forwardRules
//	  chain postrouting  srcnat:            masquerade
//	}
//
// Beside it there is an empty table, for as long as the daemon runs, that keeps
// other daemons off its bridge: see Claim.
//
// Rules never change, but for those of Guard, which a host has that forwards
// packets for us alone: networks and ports are set elements, added and removed by
// key, so that the cost of a packet and of a change do not grow with the number
// of containers. Each method is one transaction: all of it happens or nothing.
//
// What reaches a container from outside its bridge is exactly: answers to its own
// connections, and connections that were redirected to it. A neighbour that
// routes straight to a container's address is dropped, and so is one bridge to
// another; a port published on 127.0.0.1 can be entered only through the output
// chain, since the raw chain drops packets for it that arrive from anywhere else.
//
// Locks: the Table's mutex serialises transactions (a few milliseconds each). It
// is a leaf: nothing else is locked while it is held.
package firewall

import (
	"net/netip"

	"slipway/network/hostport"
)

// Network is what the table must know of one bridge.
type Network struct {
	Bridge     string
	Subnet     netip.Prefix
	ICC        bool // containers on the bridge may talk to each other
	Masquerade bool
	Internal   bool // no traffic leaves or enters the bridge
}

// Forward redirects a port of the host to a container. HostIP 0.0.0.0 stands for
// every address of the host. It is comparable.
type Forward struct {
	Protocol hostport.Protocol
	Host     netip.AddrPort
	To       netip.AddrPort
}
