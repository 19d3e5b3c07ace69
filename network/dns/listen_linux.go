package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// port is where clients send their queries.
const port = 53

// tableName is the table in the container's network namespace.
const tableName = "slipway-dns"

// Listen opens the sockets in the network namespace of the calling thread, and
// leads queries to them from now on; those of a server before are led there no
// longer. The caller's goroutine must be locked to the thread.
func Listen(ctx context.Context) (_ Sockets, err error) {
	var s Sockets
	var config net.ListenConfig
	if s.UDP, err = config.ListenPacket(ctx, "udp4", net.JoinHostPort(Address, "0")); err != nil {
		return Sockets{}, fmt.Errorf("name server's socket: %w", err)
	}
	if s.TCP, err = config.Listen(ctx, "tcp4", net.JoinHostPort(Address, "0")); err != nil {
		return Sockets{}, errors.Join(fmt.Errorf("name server's socket: %w", err), s.UDP.Close())
	}
	if err := lead(s); err != nil {
		return Sockets{}, errors.Join(err, s.UDP.Close(), s.TCP.Close())
	}
	return s, nil
}

// lead makes, or replaces, the table
//
//	table ip slipway-dns {
//	  chain output { type nat hook output priority dstnat
//	    ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:<port>
//	    ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:<port>
//	  }
//	}
//
// Answers need no rule: the kernel turns the addresses of a redirected flow back.
func lead(s Sockets) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables connection: %w", err)
	}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}
	present, err := conn.ListTablesOfFamily(table.Family)
	if err != nil {
		return fmt.Errorf("listing firewall tables: %w", err)
	}
	// Only then: after a deletion the kernel makes us wait for its clean-up.
	replaced := slices.ContainsFunc(present, func(t *nftables.Table) bool { return t.Name == tableName })
	if replaced {
		conn.DelTable(table)
	}
	conn.AddTable(table)
	chain := conn.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	udp, tcp := s.UDP.LocalAddr(), s.TCP.Addr()
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: redirect(unix.IPPROTO_UDP, udp)})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: redirect(unix.IPPROTO_TCP, tcp)})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("leading name queries to the name server: %w", err)
	}
	if !replaced {
		return nil
	}
	return forgetFlows()
}

// redirect is the rule for one protocol. Register 1 is of 16 bytes.
func redirect(protocol byte, to net.Addr) []expr.Any {
	addr := netip.MustParseAddrPort(to.String())
	own := addr.Addr().AsSlice()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}, // destination address
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: own},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, // destination port
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Immediate{Register: 1, Data: own},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(addr.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
	}
}

// forgetFlows is for clients that keep asking from one port: where their datagrams
// go is decided once a flow, and may be the socket of a daemon that is gone.
func forgetFlows() error {
	filter := &netlink.ConntrackFilter{}
	err := errors.Join(filter.AddProtocol(unix.IPPROTO_UDP), filter.AddPort(netlink.ConntrackOrigDstPort, port))
	if err == nil {
		_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter)
	}
	if err != nil {
		return fmt.Errorf("forgetting the flows of name queries: %w", err)
	}
	return nil
}
