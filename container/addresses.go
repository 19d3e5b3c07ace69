package container

import "net/netip"

// addresses are those that the container has on its networks.
func (m *Manager) addresses(id string) []netip.Addr {
	var addrs []netip.Addr
	for _, e := range m.cfg.Networks.Endpoints(id) {
		if e.Address.IsValid() {
			addrs = append(addrs, e.Address.Addr())
		}
	}
	return addrs
}

// nameServers are those that the request, or else the daemon's configuration, names.
func (m *Manager) nameServers(r *Record) []netip.Addr {
	if len(r.HostConfig.DNS) > 0 {
		return r.HostConfig.DNS
	}
	return m.cfg.Defaults.DNS
}
