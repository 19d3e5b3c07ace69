package container

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"slipway/container/rootfs"
	"slipway/network"
	"slipway/shim"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// hostGateway stands in --add-host for the host's address on the bridge.
const hostGateway = "host-gateway"

// ownFiles are the container's files that the engine writes and mounts.
var ownFiles = []string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}

// writeFiles writes /etc/hostname, /etc/hosts and /etc/resolv.conf of the
// container and returns their mounts. What the user mounts there wins.
func (m *Manager) writeFiles(r *Record) ([]specs.Mount, error) {
	hosts, err := m.hosts(r, nil)
	if err != nil {
		return nil, err
	}
	resolv, err := m.resolvConf(r)
	if err != nil {
		return nil, err
	}
	var mounts []specs.Mount
	for name, content := range map[string][]byte{"hostname": []byte(r.Config.Hostname + "\n"), "hosts": hosts, "resolv.conf": resolv} {
		path := filepath.Join(m.dir(r.ID), name)
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // every user of the container reads them
			return nil, err
		}
		target := "/etc/" + name
		if mountedAt(r, target) {
			continue
		}
		mounts = append(mounts, specs.Mount{Destination: target, Type: "bind", Source: path, Options: []string{"rbind", "rprivate"}})
	}
	return mounts, nil
}

func mountedAt(r *Record, target string) bool {
	for _, mount := range r.Mounts {
		if mount.Destination == target {
			return true
		}
	}
	return false
}

// completeHosts writes the container's own addresses, which are known only when
// it is connected, into its hosts file. It keeps the file's inode, as the file
// is mounted already.
func (m *Manager) completeHosts(r *Record) error {
	var addrs []netip.Addr
	for _, e := range m.cfg.Networks.Endpoints(r.ID) {
		if e.Address.IsValid() {
			addrs = append(addrs, e.Address.Addr())
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	hosts, err := m.hosts(r, addrs)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.dir(r.ID), "hosts"), hosts, 0o644) //nolint:gosec // every user of the container reads it
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
	dns := make([]string, 0, len(r.HostConfig.DNS))
	for _, addr := range r.HostConfig.DNS {
		dns = append(dns, addr.String())
	}
	or := func(own, daemon []string) []string {
		if len(own) > 0 {
			return own
		}
		return daemon
	}
	d := m.cfg.Defaults
	return network.ResolvConf(host, resolved, or(dns, d.DNS), or(r.HostConfig.DNSSearch, d.DNSSearch), or(r.HostConfig.DNSOptions, d.DNSOptions)), nil
}

// resolveUser finds the numbers of the container's user and groups in its own
// files, whose root is mounted at root.
func (m *Manager) resolveUser(r *Record, root string) (user shim.User, err error) {
	return lookup(root, r.Config.User, r.HostConfig.GroupAdd)
}

// lookupUser is resolveUser for a container whose root is mounted.
func (m *Manager) lookupUser(id, spec string, groups []string) (shim.User, error) {
	return lookup(m.layers.path(id), spec, groups)
}

func lookup(root, spec string, groups []string) (_ shim.User, err error) {
	dir, err := rootfs.Open(root)
	if err != nil {
		return shim.User{}, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	found, err := dir.LookupUser(spec, groups)
	if err != nil {
		return shim.User{}, err
	}
	user := shim.User{UID: uint32(found.UID), GID: uint32(found.GID)} //nolint:gosec // ids are checked by the look-up
	for _, gid := range found.Groups {
		user.AdditionalGIDs = append(user.AdditionalGIDs, uint32(gid)) //nolint:gosec // likewise
	}
	return user, nil
}
