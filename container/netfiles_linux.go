package container

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slipway/network"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// hostGateway stands in --add-host for the host's address on the bridge.
const hostGateway = "host-gateway"

// completeHosts writes the container's own addresses, which are known only when
// it is connected, into its hosts file.
func (m *Manager) completeHosts(r *Record) error {
	addrs := m.addresses(r.ID)
	if len(addrs) == 0 {
		return nil
	}
	hosts, err := m.hosts(r, addrs)
	if err != nil {
		return err
	}
	return rewrite(m.hostsPath(r.ID), hosts)
}

// showConnected adds a running container's new address to its hosts file, and
// points its resolv.conf to its own name server, which it has now if the network is
// a user-defined one. What a program in the container has written there stays.
func (m *Manager) showConnected(r *Record, e network.Endpoint) error {
	if e.Address.IsValid() && r.Config.Hostname != "" {
		hosts, err := os.ReadFile(m.hostsPath(r.ID))
		if err != nil {
			return err
		}
		hosts = append(hosts, network.HostsLine(e.Address.Addr(), r.Config.Hostname, r.Config.Domainname)...)
		if err := rewrite(m.hostsPath(r.ID), hosts); err != nil {
			return err
		}
	}
	path := filepath.Join(m.dir(r.ID), "resolv.conf")
	now, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if hash, err := os.ReadFile(m.resolvHash(r.ID)); err != nil || !bytes.Equal(hash, hashOf(now)) {
		return nil //nolint:nilerr // that there is none means that it is not known whose content it is
	}
	resolv, err := m.resolvConf(r)
	if err != nil || bytes.Equal(resolv, now) {
		return err
	}
	if err := os.WriteFile(m.resolvHash(r.ID), hashOf(resolv), 0o600); err != nil {
		return err
	}
	return rewrite(path, resolv)
}

// showDisconnected takes the lines of addresses that a running container had before,
// and has no more, out of its hosts file.
func (m *Manager) showDisconnected(id string, before []netip.Addr) error {
	now := m.addresses(id)
	hosts, err := os.ReadFile(m.hostsPath(id))
	if err != nil {
		return err
	}
	var kept []byte
	for line := range bytes.Lines(hosts) {
		first, _, _ := strings.Cut(string(line), "\t")
		addr, err := netip.ParseAddr(first)
		if err != nil || !slices.Contains(before, addr) || slices.Contains(now, addr) {
			kept = append(kept, line...)
		}
	}
	if len(kept) == len(hosts) {
		return nil
	}
	return rewrite(m.hostsPath(id), kept)
}

func (m *Manager) hostsPath(id string) string { return filepath.Join(m.dir(id), "hosts") }

// resolvHash is where the hash of what the engine has written to resolv.conf is.
func (m *Manager) resolvHash(id string) string { return filepath.Join(m.dir(id), "resolv.conf.hash") }

func hashOf(content []byte) []byte {
	sum := sha256.Sum256(content)
	return []byte(hex.EncodeToString(sum[:]))
}

// rewrite changes a file that is mounted already, and must keep its inode. A reader
// at this moment never finds it empty.
func rewrite(path string, content []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // every user of the container reads it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Truncate(int64(len(content)))
}

func (m *Manager) hosts(r *Record, addrs []netip.Addr) ([]byte, error) {
	if r.HostConfig.NetworkMode.IsHost() && len(r.HostConfig.ExtraHosts) == 0 {
		content, err := os.ReadFile("/etc/hosts")
		if !errors.Is(err, os.ErrNotExist) {
			return content, err
		}
	}
	var extra []string
	for _, entry := range r.HostConfig.ExtraHosts {
		name, address, ok := strings.Cut(entry, ":")
		if ok && address == hostGateway {
			gateway := m.cfg.Networks.HostGateway()
			if !gateway.IsValid() {
				return nil, errdefs.ErrInvalidArgument.WithMessage("unable to derive the IP value for host-gateway")
			}
			entry = name + ":" + gateway.String()
		}
		extra = append(extra, entry)
	}
	return network.HostsFile(r.Config.Hostname, r.Config.Domainname, addrs, extra)
}

func (m *Manager) resolvConf(r *Record) ([]byte, error) {
	host, resolved, err := network.HostResolvConf()
	if err != nil {
		return nil, err
	}
	var servers []string
	for _, addr := range m.nameServers(r) {
		servers = append(servers, addr.String())
	}
	or := func(own, daemon []string) []string {
		if len(own) > 0 {
			return own
		}
		return daemon
	}
	search, options := or(r.HostConfig.DNSSearch, m.cfg.Defaults.DNSSearch), or(r.HostConfig.DNSOptions, m.cfg.Defaults.DNSOptions)
	for name := range r.Networks {
		if mobycontainer.NetworkMode(name).IsUserDefined() {
			return network.ResolverConf(host, servers, search, options), nil
		}
	}
	return network.ResolvConf(host, resolved, servers, search, options), nil
}
