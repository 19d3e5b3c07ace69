package network

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"

	mobycontainer "github.com/moby/moby/api/types/container"

	"slipway/network/dns"
)

// dnsPort is where upstream servers are asked.
const dnsPort = 53

// resolves reports whether the sandbox has a name server: its members of
// user-defined networks find each other by name.
func (r sandboxRecord) resolves() bool {
	return slices.ContainsFunc(r.Endpoints, func(e Endpoint) bool {
		return e.Interface != "" && mobycontainer.NetworkMode(e.NetworkName).IsUserDefined()
	})
}

// ensureResolver starts the sandbox's name server if it is to have one and has
// none. Once started it stays, since /etc/resolv.conf names it. The sandbox's lock
// is held.
func (m *Manager) ensureResolver(ctx context.Context, s sandboxRecord) error {
	if m.resolving(s.ID) || !s.resolves() {
		return nil
	}
	var sockets dns.Sockets
	err := m.platform.Enter(s.ID, func() (err error) {
		sockets, err = dns.Listen(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("name server of %s: %w", s.ID, err)
	}
	server := dns.Serve(dns.Config{ //nolint:contextcheck // it lives longer than the request
		Zone:      view{m, s.ID},
		Upstreams: func() []dns.Upstream { return m.upstreams(s.ID) },
		Dial: func(ctx context.Context, network string, to dns.Upstream) (net.Conn, error) {
			return m.dialUpstream(ctx, s.ID, network, to)
		},
	}, sockets)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resolvers[s.ID] = server
	return nil
}

// resolving reports whether the sandbox has a name server.
func (m *Manager) resolving(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.resolvers[id] != nil
}

// stopResolver ends the sandbox's name server, if it has one. Its sockets would
// keep the namespace.
func (m *Manager) stopResolver(ctx context.Context, id string) {
	m.mu.Lock()
	server := m.resolvers[id]
	delete(m.resolvers, id)
	m.mu.Unlock()
	if server == nil {
		return
	}
	if err := server.Close(); err != nil { //nolint:contextcheck // it has a limit of its own
		m.log.WarnContext(ctx, "a container's name server had ended", slog.String("container", id), logError(err))
	}
}

// upstreams are the servers that are asked for names which none of the sandbox's
// networks knows. Those of the host's own file are read anew each time, so that
// they are right after the host has moved to another network. A sandbox without a
// way to the world is not given one by asking from the host's namespace.
func (m *Manager) upstreams(id string) []dns.Upstream {
	s := m.sandbox(id)
	servers := userServers(s.DNS)
	if len(servers) == 0 {
		servers = hostServers(resolvConfPath)
	}
	if _, ok := s.primary(); !ok {
		servers = slices.DeleteFunc(servers, func(u dns.Upstream) bool { return u.Host })
	}
	return slices.DeleteFunc(servers, isResolver)
}

// isResolver reports whether that is the sandbox's own name server.
func isResolver(u dns.Upstream) bool { return !u.Host && u.Addr.Addr().String() == dns.Address }

// userServers are those that a user has named: as seen from the container, but for
// IPv6, which it does not have.
func userServers(addrs []netip.Addr) []dns.Upstream {
	servers := make([]dns.Upstream, len(addrs))
	for i, addr := range addrs {
		servers[i] = dns.Upstream{Addr: netip.AddrPortFrom(addr, dnsPort), Host: !addr.Is4()}
	}
	return servers
}

// hostServers are those of a resolver configuration of the host, some of which
// only the host reaches: on its loopback, and by IPv6.
func hostServers(path string) []dns.Upstream {
	data, _ := os.ReadFile(path) // without one there are the fallback's
	addrs := nameservers(data)
	if len(addrs) == 0 {
		for _, s := range fallbackServers {
			addrs = append(addrs, netip.MustParseAddr(s))
		}
	}
	servers := userServers(addrs)
	for i := range servers {
		servers[i].Host = servers[i].Host || addrs[i].IsLoopback()
	}
	return servers
}

func (m *Manager) dialUpstream(ctx context.Context, id, network string, to dns.Upstream) (conn net.Conn, err error) {
	var dialer net.Dialer
	if to.Host {
		return dialer.DialContext(ctx, network, to.Addr.String())
	}
	err = m.platform.Enter(id, func() (err error) {
		conn, err = dialer.DialContext(ctx, network, to.Addr.String())
		return err
	})
	return conn, err
}
