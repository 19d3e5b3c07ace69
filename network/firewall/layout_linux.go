package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"

	"slipway/network/hostport"
	"slipway/network/ipam"
)

// layout names the parts of the table.
type layout struct {
	table                          *nftables.Table
	bridges, internal, peers, masq *nftables.Set
	hairpin, addrPorts, anyPorts   *nftables.Set
}

func newLayout(name string) layout {
	table := &nftables.Table{Name: name, Family: nftables.TableFamilyIPv4}
	ifname, addr, proto, port := nftables.TypeIFName, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService
	l := layout{
		table:     table,
		bridges:   &nftables.Set{Name: "bridges", KeyType: ifname, KeyByteOrder: binaryutil.NativeEndian},
		internal:  &nftables.Set{Name: "internal", KeyType: ifname, KeyByteOrder: binaryutil.NativeEndian},
		peers:     &nftables.Set{Name: "peers", KeyType: nftables.MustConcatSetType(ifname, ifname), Concatenation: true},
		masq:      &nftables.Set{Name: "masq", KeyType: addr, Interval: true},
		hairpin:   &nftables.Set{Name: "hairpin", KeyType: nftables.MustConcatSetType(addr, ifname), Interval: true, Concatenation: true},
		addrPorts: &nftables.Set{Name: "addr_ports", KeyType: nftables.MustConcatSetType(addr, proto, port), IsMap: true, Concatenation: true},
		anyPorts:  &nftables.Set{Name: "any_ports", KeyType: nftables.MustConcatSetType(proto, port), IsMap: true, Concatenation: true},
	}
	l.addrPorts.DataType = nftables.MustConcatSetType(addr, port)
	l.anyPorts.DataType = l.addrPorts.DataType
	for i, set := range l.sets() {
		set.Table = table
		set.ID = uint32(i + 1) // the library would number them from a counter that all tables share, unguarded
	}
	return l
}

func (l *layout) sets() []*nftables.Set {
	return []*nftables.Set{l.bridges, l.internal, l.peers, l.masq, l.hairpin, l.addrPorts, l.anyPorts}
}

// elements are members of one set.
type elements struct {
	set    *nftables.Set
	values []nftables.SetElement
}

func (l *layout) elements(networks []Network, forwards []Forward) []elements {
	return append(l.networkElements(networks), l.forwardElements(forwards)...)
}

func (l *layout) networkElements(networks []Network) []elements {
	bridges, internal := elements{set: l.bridges}, elements{set: l.internal}
	peers, masq, hairpin := elements{set: l.peers}, elements{set: l.masq}, elements{set: l.hairpin}
	for _, n := range networks {
		name := ifname(n.Bridge)
		first, last := ipam.Bounds(n.Subnet)
		bridges.values = append(bridges.values, nftables.SetElement{Key: name})
		if n.Internal {
			internal.values = append(internal.values, nftables.SetElement{Key: name})
		}
		if n.ICC {
			peers.values = append(peers.values, nftables.SetElement{Key: append(bytes.Clone(name), name...)})
		}
		if n.Masquerade && !n.Internal {
			masq.values = append(masq.values,
				nftables.SetElement{Key: first.AsSlice()},
				nftables.SetElement{Key: last.Next().AsSlice(), IntervalEnd: true})
		}
		hairpin.values = append(hairpin.values, nftables.SetElement{
			Key:    append(first.AsSlice(), name...),
			KeyEnd: append(last.AsSlice(), name...),
		})
	}
	return []elements{bridges, internal, peers, masq, hairpin}
}

func (l *layout) forwardElements(forwards []Forward) []elements {
	byAddr, byPort := elements{set: l.addrPorts}, elements{set: l.anyPorts}
	for _, f := range forwards {
		key := append([]byte{protocolNumber(f.Protocol), 0, 0, 0}, portField(f.Host.Port())...)
		into := &byPort
		if !f.Host.Addr().IsUnspecified() {
			key = append(f.Host.Addr().AsSlice(), key...)
			into = &byAddr
		}
		into.values = append(into.values, nftables.SetElement{
			Key: key,
			Val: append(f.To.Addr().AsSlice(), portField(f.To.Port())...),
		})
	}
	return []elements{byAddr, byPort}
}

func parseForward(e nftables.SetElement) (Forward, error) {
	key, host := e.Key, netip.IPv4Unspecified()
	if len(key) == 12 {
		host, key = netip.AddrFrom4([4]byte(key[:4])), key[4:]
	}
	if len(key) != 8 || len(e.Val) != 8 {
		return Forward{}, fmt.Errorf("unexpected element of %d and %d bytes", len(e.Key), len(e.Val))
	}
	f := Forward{
		Protocol: hostport.TCP,
		Host:     netip.AddrPortFrom(host, binary.BigEndian.Uint16(key[4:])),
		To:       netip.AddrPortFrom(netip.AddrFrom4([4]byte(e.Val[:4])), binary.BigEndian.Uint16(e.Val[4:])),
	}
	if key[0] == unix.IPPROTO_UDP {
		f.Protocol = hostport.UDP
	}
	return f, nil
}

func protocolNumber(p hostport.Protocol) byte {
	if p == hostport.UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// portField is a port as a field of a concatenation, which pads to four bytes.
func portField(port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, port), 0, 0)
}

func ifname(name string) []byte {
	field := make([]byte, unix.IFNAMSIZ)
	copy(field, name)
	return field
}

func parseName(field []byte) string {
	name, _, _ := bytes.Cut(field, []byte{0})
	return string(name)
}
