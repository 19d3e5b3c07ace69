package firewall

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of four bytes each: the kernel numbers them from 8.
const (
	reg0 = 8 + iota
	reg1
	reg2
	_
	reg4 // ifname takes reg0 to reg3; the second one of a pair starts here
)

const (
	offsetSource, offsetDestination = 12, 16 // in the IPv4 header
	offsetPort                      = 2      // destination port, in the TCP and UDP headers
	statusDNAT                      = 1 << 5 // IPS_DST_NAT: the connection was redirected
)

// The kinds of a packet's interfaces, as ip link shows them; the library has no names for these.
const (
	metaIIFKind = expr.MetaKey(26) // NFT_META_IIFKIND
	metaOIFKind = expr.MetaKey(27) // NFT_META_OIFKIND
)

// chainCount is how many chains build makes; each has rules.
const chainCount = 5

// rule is a sequence of expressions.
type rule []expr.Any

// build adds the table with its sets, chains and rules to the batch.
func (l *layout) build(conn *nftables.Conn, guarded bool) error {
	forwardRules := l.forwardRules()
	if guarded {
		forwardRules = append(forwardRules, guardRules()...)
	}
	conn.AddTable(l.table)
	for _, set := range l.sets() {
		if err := conn.AddSet(set, nil); err != nil {
			return err
		}
	}
	filter, nat := nftables.ChainTypeFilter, nftables.ChainTypeNAT
	for _, c := range []struct {
		name     string
		kind     nftables.ChainType
		hook     *nftables.ChainHook
		priority *nftables.ChainPriority
		rules    []rule
	}{
		{"raw", filter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, rawRules()},
		{"prerouting", nat, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, l.redirectRules()},
		{"output", nat, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, l.redirectRules()},
		{"forward", filter, nftables.ChainHookForward, nftables.ChainPriorityFilter, forwardRules},
		{"postrouting", nat, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, l.masqueradeRules()},
	} {
		policy := nftables.ChainPolicyAccept
		chain := conn.AddChain(&nftables.Chain{
			Name: c.name, Table: l.table, Type: c.kind, Hooknum: c.hook, Priority: c.priority, Policy: &policy,
		})
		for _, r := range c.rules {
			conn.AddRule(&nftables.Rule{Table: l.table, Chain: chain, Exprs: r})
		}
	}
	return nil
}

// rawRules drop what claims to be for the loopback network, or from it, but came
// from a wire. The kernel drops it too, unless route_localnet is on, which our
// bridges need. Programs of the host trust such a source to be the host itself. The
// answers of a published port are not among it: the host's own connections reach
// the container from the bridge's address (masqueradeRules).
func rawRules() []rule {
	return []rule{loopbackFromWire(offsetDestination), loopbackFromWire(offsetSource)}
}

func loopbackFromWire(offset uint32) rule {
	return append(rule{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg0},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: ifname("lo")},
	}, append(loopback(offset), verdict(expr.VerdictDrop))...)
}

// loopback matches if the address at the offset is in 127.0.0.0/8.
func loopback(offset uint32) rule {
	return rule{
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{127}},
	}
}

// redirectRules look the destination up in the two maps: first the exact host
// address, then any address that is the host's own.
func (l *layout) redirectRules() []rule {
	redirect := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg0, RegProtoMin: reg1, Specified: true}
	return []rule{
		{
			&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: offsetDestination, Len: 4},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
			&expr.Payload{DestRegister: reg2, Base: expr.PayloadBaseTransportHeader, Offset: offsetPort, Len: 2},
			&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: l.addrPorts.Name, SetID: l.addrPorts.ID},
			redirect,
		},
		{
			&expr.Fib{Register: reg0, FlagDADDR: true, ResultADDRTYPE: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: native(unix.RTN_LOCAL)},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0},
			&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: offsetPort, Len: 2},
			&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: l.anyPorts.Name, SetID: l.anyPorts.ID},
			redirect,
		},
	}
}

// forwardRules decide about packets that pass through the host to or from one of
// our bridges, in this order; other packets are not our business. With
// br_netfilter, packets between two ports of one bridge come by as well.
func (l *layout) forwardRules() []rule {
	iif, oif := expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	return []rule{
		// Containers of one bridge among themselves.
		append(member(l.peers, iif, oif), accept),
		// An internal network has no outside, not even through another's published port.
		append(member(l.internal, iif), drop),
		append(member(l.internal, oif), drop),
		// Answers to what a container started, and the rest of what was let in.
		append(append(member(l.bridges, oif), established()...), accept),
		// Connections to published ports: the maps have redirected them here.
		append(append(member(l.bridges, oif), redirected()...), accept),
		append(member(l.bridges, oif), drop),
	}
}

// guardRules leave the host what it was before we made it forward packets: no
// router between its own interfaces. They come after forwardRules. All bridges may
// pass packets on, not only ours: other daemons and engines whose containers or
// machines are on one find forwarding turned on already, and decide about it in
// rules of their own.
func guardRules() []rule {
	return []rule{
		append(isBridge(metaIIFKind), verdict(expr.VerdictAccept)),
		append(isBridge(metaOIFKind), verdict(expr.VerdictAccept)),
		append(established(), verdict(expr.VerdictAccept)), // from before, if single interfaces did forward
		{verdict(expr.VerdictDrop)},
	}
}

// isBridge cannot be inverted: no condition on its kind is true of an interface
// that has none, such as a network card.
func isBridge(kind expr.MetaKey) rule {
	return rule{
		&expr.Meta{Key: kind, Register: reg0},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: ifname("bridge")},
	}
}

// masqueradeRules give a connection the host's address where the answer would
// otherwise not come back through the host.
func (l *layout) masqueradeRules() []rule {
	oif := expr.MetaKeyOIFNAME
	source := &expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: offsetSource, Len: 4}
	return []rule{
		// From a container to the world. Between our bridges both ends know the way.
		append(stranger(l.bridges, oif), source, &expr.Lookup{SourceRegister: reg0, SetName: l.masq.Name, SetID: l.masq.ID}, &expr.Masq{}),
		// From a container through a published port to itself or a neighbour.
		append(redirected(),
			source,
			&expr.Meta{Key: oif, Register: reg1},
			&expr.Lookup{SourceRegister: reg0, SetName: l.hairpin.Name, SetID: l.hairpin.ID},
			&expr.Masq{}),
		// From the host's loopback to a published port.
		append(append(member(l.bridges, oif), loopback(offsetSource)...), &expr.Masq{}),
	}
}

// member matches if the concatenation of one or two interface names is in the set.
func member(set *nftables.Set, keys ...expr.MetaKey) rule {
	var r rule
	for i, key := range keys {
		r = append(r, &expr.Meta{Key: key, Register: []uint32{reg0, reg4}[i]})
	}
	return append(r, &expr.Lookup{SourceRegister: reg0, SetName: set.Name, SetID: set.ID})
}

// stranger matches if the interface is not in the set.
func stranger(set *nftables.Set, key expr.MetaKey) rule {
	return rule{
		&expr.Meta{Key: key, Register: reg0},
		&expr.Lookup{SourceRegister: reg0, SetName: set.Name, SetID: set.ID, Invert: true},
	}
}

func established() rule {
	return ct(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

func redirected() rule {
	return ct(expr.CtKeySTATUS, statusDNAT)
}

// ct matches if any of the bits is set in the connection's word.
func ct(key expr.CtKey, bits uint32) rule {
	return rule{
		&expr.Ct{Key: key, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: native(bits), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: native(0)},
	}
}

func verdict(kind expr.VerdictKind) expr.Any {
	return &expr.Verdict{Kind: kind}
}

func native(v uint32) []byte {
	return binaryutil.NativeEndian.PutUint32(v)
}
