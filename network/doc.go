// Package network connects containers: networks, the sandboxes (network
// namespaces) that containers run in, the endpoints between the two, addresses,
// and published ports.
//
// The Manager decides and records; packages bridge, firewall and hostport do what
// the records say; package ipam does the arithmetic of addresses, and package dns
// speaks the protocol of names. The default networks bridge, host and none are always
// there. docs/networks.md says what containers see of all this.
//
// # Records
//
// In the record store, each with a version:
//
//	networks/<network ID>    networkRecord: name, subnet, bridge, options
//	sandboxes/<container ID> sandboxRecord
//	  Endpoints[]            address (the lease), MAC, interfaces, names, published ports
//	  DNS                    servers for what the networks do not know
//	  Gated                  the ports are reserved, but not yet redirected
//	forwarding/host          forwardingRecord: the boot in which we turned forwarding on
//
// A lease of an address or of a host port is part of the record of the endpoint
// that uses it. Records are written before the kernel is changed and removed after
// it was changed back, so whatever a crash leaves behind is described by a record;
// Restore then completes it for sandboxes that live and undoes it for others.
// <ExecRoot>/netns/<container ID> pins a namespace and is not recorded: the file
// is the record.
//
// # Names
//
// Every sandbox on a user-defined network has a name server (package dns), from its
// first such connection to its end. What it answers is an index in memory of the
// endpoints' names, by network (zone), which follows the records; each server sees
// the networks of its own sandbox (view).
//
// # Locks, in the order they are taken
//
//  1. "sandbox/<container ID>" of the Manager's key locks: exclusive for every
//     change of one sandbox.
//  2. "network/<network ID>": shared by changes of endpoints on it, exclusive
//     for its creation and removal.
//  3. "network-removals": shared by interfaces that are being removed in the
//     background, exclusive to wait for them.
//  4. the firewall's and a pool's mutexes: leaves.
//  5. Manager.mu: a leaf, for memory only; no I/O happens under it.
//
// Readers (List, Get, Endpoints) take only Manager.mu: published records are
// never changed in place.
//
// # Several daemons on one host
//
// Everything in the kernel is told apart by the name of the default bridge: other
// bridges by their alias, the firewall by its table. New therefore claims the name
// for the life of the daemon (firewall.Claim), before anything is changed. A bridge
// that another daemon has made is refused too.
//
// # What the host must know
//
// Containers need net.ipv4.ip_forward, which makes the whole host a router. If it
// was off, the firewall keeps dropping what would pass between two interfaces none of
// which is a bridge (firewall.Table.Guard), until the next boot, also if somebody
// else wants forwarding meanwhile; that cannot be seen. A host that is to route has
// the setting in sysctl.d, so that it is on before the daemon starts, and then no
// such rule. Packets of other bridges are left to those who made them; a LAN that is
// on a bridge is one of these.
//
// Other programs' firewall chains
// that drop forwarded packets would cut containers off: iptables' FORWARD, which
// Docker and ufw use, is joined; Conflicts names others.
package network
