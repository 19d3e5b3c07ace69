package network

import (
	"net/netip"
	"slices"
	"strings"
)

// zone is what the members of a user-defined network are called. Names are in
// lower case.
type zone struct {
	addrs map[string][]netip.Addr
	names map[netip.Addr]string // the first name of each
}

// index makes the names of a record's endpoints known; m.mu is held.
func (m *Manager) index(s sandboxRecord) {
	for _, e := range s.Endpoints {
		if len(e.DNSNames) == 0 {
			continue
		}
		z := m.zones[e.NetworkID]
		if z == nil {
			z = &zone{addrs: map[string][]netip.Addr{}, names: map[netip.Addr]string{}}
			m.zones[e.NetworkID] = z
		}
		for _, name := range e.DNSNames {
			name = strings.ToLower(name)
			if !slices.Contains(z.addrs[name], e.Address.Addr()) {
				z.addrs[name] = append(z.addrs[name], e.Address.Addr())
			}
		}
		z.names[e.Address.Addr()] = e.DNSNames[0]
	}
}

// unindex takes back index of the same record; m.mu is held.
func (m *Manager) unindex(s sandboxRecord) {
	for _, e := range s.Endpoints {
		z := m.zones[e.NetworkID]
		if z == nil {
			continue
		}
		for _, name := range e.DNSNames {
			name = strings.ToLower(name)
			others := slices.DeleteFunc(slices.Clone(z.addrs[name]), func(a netip.Addr) bool { return a == e.Address.Addr() })
			if z.addrs[name] = others; len(others) == 0 {
				delete(z.addrs, name)
			}
		}
		delete(z.names, e.Address.Addr())
		if len(z.names) == 0 {
			delete(m.zones, e.NetworkID)
		}
	}
}

// view is what one sandbox sees of the zones: those of its own networks.
type view struct {
	m       *Manager
	sandbox string
}

// Addresses implements [dns.Zone]. A name may end in that of the network, either
// of which may have dots in it.
func (v view) Addresses(name string) ([]netip.Addr, bool) {
	name = strings.ToLower(name)
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	endpoints := v.endpoints()
	for i := len(name); i >= 0; i = strings.LastIndexByte(name[:i], '.') {
		member, network := name[:i], strings.TrimPrefix(name[i:], ".")
		for _, e := range endpoints {
			if network != "" && network != strings.ToLower(e.NetworkName) {
				continue
			}
			if addrs := v.m.memberAddrs(e, member); len(addrs) > 0 {
				return addrs, true
			}
		}
	}
	return nil, false
}

// Name implements [dns.Zone].
func (v view) Name(addr netip.Addr) string {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	for _, e := range v.endpoints() {
		if z := v.m.zones[e.NetworkID]; z != nil && z.names[addr] != "" {
			return z.names[addr] + "." + e.NetworkName
		}
	}
	return ""
}

// endpoints are the sandbox's, in the order in which their networks are asked.
func (v view) endpoints() []Endpoint {
	return slices.SortedFunc(slices.Values(v.m.sandboxes[v.sandbox].Endpoints), compareGateways)
}

// memberAddrs looks a name in lower case up on the endpoint's network, as seen
// from the endpoint, whose links come first. m.mu is held.
func (m *Manager) memberAddrs(e Endpoint, name string) []netip.Addr {
	z := m.zones[e.NetworkID]
	if z == nil {
		return nil
	}
	for _, link := range e.Links {
		target, alias, ok := strings.Cut(strings.ToLower(link), ":")
		if !ok {
			alias = target
		}
		if alias != name {
			continue
		}
		if addrs := z.addrs[target]; len(addrs) > 0 {
			return addrs
		}
		return z.addrs[target[:min(len(target), shortID)]] // it may be a full ID
	}
	return z.addrs[name]
}
