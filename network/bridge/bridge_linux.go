package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// maxListTries is far above what even a host that starts containers all the time needs.
const maxListTries = 100

const forwarding = "net/ipv4/ip_forward"

// Forwarding reports whether the host forwards packets between its interfaces, and
// the identity of this boot of the machine, with which that ends.
func (d *Driver) Forwarding() (on bool, boot string, err error) {
	value, err := os.ReadFile("/proc/sys/" + forwarding)
	if err != nil {
		return false, "", fmt.Errorf("sysctl %s: %w", forwarding, err)
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false, "", fmt.Errorf("identity of this boot: %w", err)
	}
	return string(bytes.TrimSpace(value)) != "0", string(bytes.TrimSpace(id)), nil
}

// EnableForwarding makes the host forward packets, which containers need, between
// all of its interfaces: what may pass is the firewall's to decide.
func (d *Driver) EnableForwarding() error {
	return setSysctl(forwarding, "1")
}

// EnsureBridge makes the bridge, or completes one that is there.
func (d *Driver) EnsureBridge(ctx context.Context, b Bridge) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	link, err := d.findOrAddBridge(b)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", b.Name, err)
	}
	if err := ensureAddress(link, b.Address); err != nil {
		return fmt.Errorf("address of bridge %s: %w", b.Name, err)
	}
	for name, value := range map[string]string{
		"net/ipv6/conf/" + b.Name + "/disable_ipv6": "1",
		// Connections from the host's loopback to published ports leave through the
		// bridge; the firewall drops what comes in by it for the loopback, or as from it.
		"net/ipv4/conf/" + b.Name + "/route_localnet": "1",
	} {
		if err := setSysctl(name, value); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("starting bridge %s: %w", b.Name, err)
	}
	return nil
}

func (d *Driver) findOrAddBridge(b Bridge) (netlink.Link, error) {
	link, err := netlink.LinkByName(b.Name)
	if err == nil {
		if link.Type() != "bridge" {
			return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
				"the interface %s exists and is a %s, not a bridge", b.Name, link.Type()))
		}
		if owner, made := strings.CutPrefix(link.Attrs().Alias, aliasPrefix); b.Unrecorded && made && link.Attrs().Alias != d.alias {
			return nil, errdefs.ErrFailedPrecondition.WithMessage("it belongs to the slipwayd of the bridge " + owner)
		}
		if b.MTU > 0 && link.Attrs().MTU != b.MTU {
			err = netlink.LinkSetMTU(link, b.MTU)
		}
		return link, err
	}
	if !isNoLink(err) {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.Name, b.MTU, MACFor(b.Address.Addr())
	link = &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil {
		return nil, err
	}
	// The alias tells our bridges from one the user had made and named to us.
	if err := netlink.LinkSetAlias(link, d.alias); err != nil {
		return nil, errors.Join(err, netlink.LinkDel(link))
	}
	return link, nil
}

// ensureAddress leaves the wanted address as the link's only one.
func ensureAddress(link netlink.Link, want netip.Prefix) error {
	present, err := list(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return err
	}
	wanted := &netlink.Addr{IPNet: ipNet(want)}
	for _, a := range present {
		if a.IPNet.String() == wanted.IPNet.String() {
			return nil
		}
	}
	for i := range present {
		if err := netlink.AddrDel(link, &present[i]); err != nil {
			return err
		}
	}
	return netlink.AddrReplace(link, wanted)
}

// RemoveBridge deletes the bridge and the host's ends on it; one that we did not
// make stays.
func (d *Driver) RemoveBridge(_ context.Context, name string) error {
	link, err := netlink.LinkByName(name)
	if isNoLink(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	if link.Attrs().Alias != d.alias {
		return nil
	}
	ports, err := portsOf(link.Attrs().Index)
	if err != nil {
		return err
	}
	for _, port := range append(ports, link) {
		if err := netlink.LinkDel(port); err != nil && !isNoLink(err) {
			return fmt.Errorf("removing %s: %w", port.Attrs().Name, err)
		}
	}
	return nil
}

// Attach makes the pair, or completes one that is there.
func (d *Driver) Attach(ctx context.Context, sandbox string, l Link) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ns, err := netns.GetFromPath(d.SandboxPath(sandbox))
	if err != nil {
		return fmt.Errorf("network namespace of %s: %w", sandbox, err)
	}
	defer ns.Close()
	if _, err := netlink.LinkByName(l.HostName); isNoLink(err) {
		if err := addPair(ns, l); err != nil {
			return fmt.Errorf("veth pair %s of %s: %w", l.HostName, sandbox, err)
		}
	} else if err != nil {
		return fmt.Errorf("veth %s: %w", l.HostName, err)
	}
	if err := configure(ns, l); err != nil {
		return fmt.Errorf("interface %s of %s: %w", l.Name, sandbox, err)
	}
	return settle(l.HostName, l.Bridge)
}

// settle makes interfaces work at once whose carrier has just come: the pair's end
// on the bridge, and the bridge if that is its first port. The kernel puts such
// news on a queue that it works off up to a second later, and loses what is sent
// until then; asking for an interface takes its news off the queue (Linux 6.8 on).
func settle(names ...string) error {
	for _, name := range names {
		if _, err := netlink.LinkByName(name); err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
	}
	return nil
}

// addPair makes both ends in one request, each where it belongs.
func addPair(ns netns.NsHandle, l Link) error {
	master, err := netlink.LinkByName(l.Bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", l.Bridge, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = l.HostName, l.MTU, master.Attrs().Index, net.FlagUp
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = l.Name, l.MAC, netlink.NsFd(ns)
	veth.PeerMTU = uint32(max(l.MTU, 0)) //nolint:gosec // a positive int32 by the manager's check
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	if err := setPortFlags(veth, l); err != nil {
		return errors.Join(err, netlink.LinkDel(veth))
	}
	return nil
}

func setPortFlags(port netlink.Link, l Link) error {
	if l.Isolated {
		if err := netlink.LinkSetIsolated(port, true); err != nil {
			return err
		}
	}
	// With br_netfilter, the bridge itself turns round what a container sends to its
	// own published port, and must be allowed to. Without, the host routes it.
	if active, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables"); err == nil && string(active) != "0\n" {
		return netlink.LinkSetHairpin(port, true)
	}
	return nil
}

// configure sets up the sandbox's end, through a socket that lives in there.
func configure(ns netns.NsHandle, l Link) error {
	nl, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	link, err := nl.LinkByName(l.Name)
	if err != nil {
		return err
	}
	if err := nl.AddrReplace(link, &netlink.Addr{IPNet: ipNet(l.Address)}); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if err := nl.LinkSetUp(link); err != nil {
		return err
	}
	return setDefaultRoute(nl, link, l.Gateway)
}

func setDefaultRoute(nl *netlink.Handle, link netlink.Link, gateway netip.Addr) error {
	if !gateway.IsValid() {
		return nil
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()}
	if err := nl.RouteReplace(route); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return nil
}

// Detach deletes the pair, if it is there.
func (d *Driver) Detach(_ context.Context, hostName string) error {
	link, err := netlink.LinkByName(hostName)
	if isNoLink(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("veth %s: %w", hostName, err)
	}
	if err := netlink.LinkDel(link); err != nil && !isNoLink(err) {
		return fmt.Errorf("removing veth %s: %w", hostName, err)
	}
	return nil
}

// Leftovers lists what is there: every sandbox, and every bridge of ours, or of
// the names given, with its ports.
func (d *Driver) Leftovers(_ context.Context, names []string) (Leftovers, error) {
	found := Leftovers{Ports: map[string][]string{}}
	entries, err := os.ReadDir(d.netns)
	if err != nil {
		return found, fmt.Errorf("listing the network namespaces: %w", err)
	}
	for _, e := range entries {
		found.Sandboxes = append(found.Sandboxes, e.Name())
	}
	links, err := list(netlink.LinkList)
	if err != nil {
		return found, fmt.Errorf("listing interfaces: %w", err)
	}
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	bridges := map[int]string{}
	for _, l := range links {
		if a := l.Attrs(); l.Type() == "bridge" && (a.Alias == d.alias || known[a.Name]) {
			bridges[a.Index] = a.Name
			found.Ports[a.Name] = nil
		}
	}
	for _, l := range links {
		if name, ours := bridges[l.Attrs().MasterIndex]; ours && l.Type() == "veth" {
			found.Ports[name] = append(found.Ports[name], l.Attrs().Name)
		}
	}
	return found, nil
}

// HostPrefixes returns every IPv4 network that the host has a route or an address
// in, other than the default route.
func HostPrefixes() ([]netip.Prefix, error) {
	routes, err := list(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	addrs, err := list(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	var prefixes []netip.Prefix
	add := func(n *net.IPNet) {
		if n == nil {
			return
		}
		addr, ok := netip.AddrFromSlice(n.IP.To4())
		if ones, _ := n.Mask.Size(); ok && ones > 0 {
			prefixes = append(prefixes, netip.PrefixFrom(addr, ones).Masked())
		}
	}
	for _, r := range routes {
		add(r.Dst)
	}
	for _, a := range addrs {
		add(a.IPNet)
	}
	return prefixes, nil
}

func portsOf(index int) ([]netlink.Link, error) {
	links, err := list(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	var ports []netlink.Link
	for _, l := range links {
		if l.Attrs().MasterIndex == index && l.Type() == "veth" {
			ports = append(ports, l)
		}
	}
	return ports, nil
}

// list repeats a listing that changes of the same kind have interrupted: what the
// kernel returned then is not complete.
func list[T any](dump func() ([]T, error)) ([]T, error) {
	for tries := 1; ; tries++ {
		all, err := dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || tries == maxListTries {
			return all, err
		}
	}
}

func isNoLink(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: bytes.Clone(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
