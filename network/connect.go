package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	mobyevents "github.com/moby/moby/api/types/events"
	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/internal/cleanup"
	"slipway/internal/failpoint"
	"slipway/network/bridge"
)

// shortID is how much of a container's ID is its default host name.
const shortID = 12

// Connect connects the sandbox to a network, durably. On an error nothing of the
// connection is left.
func (m *Manager) Connect(ctx context.Context, req EndpointRequest) (_ Endpoint, err error) {
	unlock, err := m.locks.Lock(ctx, sandboxKey(req.SandboxID))
	if err != nil {
		return Endpoint{}, err
	}
	defer unlock()
	n, unlockNetwork, err := m.hold(ctx, req.Network)
	if err != nil {
		return Endpoint{}, err
	}
	defer unlockNetwork()
	before := m.sandbox(req.SandboxID)
	if err := checkRequest(req, n, before); err != nil {
		return Endpoint{}, err
	}

	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	e, err := m.allocate(req, n, before, &undo)
	if err != nil {
		return Endpoint{}, err
	}
	after := before.with(e)
	after.Gated = before.Gated || req.Gate
	after.DNS = slices.Clone(req.DNS)
	if after, err = m.chooseGateway(ctx, before, after, req, &undo); err != nil {
		return Endpoint{}, err
	}
	e, _ = after.on(n.ID)
	undo.Add(func(context.Context) error { return m.storeSandbox(before) })
	failpoint.Hit("network.connect.record")
	if err := m.storeSandbox(after); err != nil {
		return Endpoint{}, err
	}
	failpoint.Hit("network.connect.recorded")
	if err := m.plug(ctx, before, after, e, n, &undo); err != nil {
		return Endpoint{}, err
	}
	if err := m.ensureResolver(ctx, after); err != nil {
		return Endpoint{}, err
	}
	m.publish(mobyevents.ActionConnect, n, req.SandboxID)
	return e, nil
}

// chooseGateway decides which endpoint is primary now that there is one more. The
// published ports go with that, and are taken if they were not before.
func (m *Manager) chooseGateway(ctx context.Context, before, after sandboxRecord, req EndpointRequest, undo *cleanup.Stack) (sandboxRecord, error) {
	old, had := before.primary()
	after = after.elect(old.Ports, m.internal)
	now, has := after.primary()
	if !has || had && now.ID == old.ID {
		return after, nil
	}
	if had {
		m.moveReservations(old.ID, now.ID)
		undo.Add(func(context.Context) error { m.moveReservations(now.ID, old.ID); return nil })
		return after, nil
	}
	n, err := m.lookup(now.NetworkID)
	if err != nil {
		return after, err
	}
	if now.Ports, err = m.reservePorts(ctx, req, now, n, undo); err != nil {
		return after, err
	}
	return after.with(now), nil
}

// plug makes the kernel agree with the record of a sandbox that has the new
// endpoint e. If it takes over from another primary one, connections to published
// ports are refused for the moment between two transactions of the firewall.
func (m *Manager) plug(ctx context.Context, before, after sandboxRecord, e Endpoint, n *networkState, undo *cleanup.Stack) error {
	old, had := before.primary()
	now, _ := after.primary()
	moved := had && now.ID != old.ID
	if moved {
		undo.Add(func(ctx context.Context) error { return m.bringUp(ctx, before, old) })
	}
	if e.Interface != "" {
		undo.Add(func(ctx context.Context) error { return m.platform.Detach(ctx, e.HostVeth) })
		if err := m.platform.Attach(ctx, after.ID, m.link(e, n)); err != nil {
			return fmt.Errorf("connecting %s to network %s: %w", e.ContainerName, n.Name, err)
		}
		failpoint.Hit("network.connect.attached")
	}
	if moved {
		if err := m.platform.Close(ctx, old.forwards()); err != nil {
			return err
		}
		failpoint.Hit("network.connect.closed")
	}
	if !after.Gated {
		undo.Add(func(ctx context.Context) error { return m.platform.Close(ctx, e.forwards()) })
		if err := m.platform.Open(ctx, e.forwards()); err != nil {
			return fmt.Errorf("publishing the ports of %s: %w", e.ContainerName, err)
		}
		failpoint.Hit("network.connect.opened")
	}
	return nil
}

// moveReservations gives the host's ports of one endpoint to another.
func (m *Manager) moveReservations(from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if held := m.reserved[from]; held != nil {
		m.reserved[to] = held
		delete(m.reserved, from)
	}
}

// hold finds the network and keeps it from being removed until unlock.
func (m *Manager) hold(ctx context.Context, ref string) (_ *networkState, unlock func(), err error) {
	n, err := m.lookup(ref)
	if err != nil {
		return nil, nil, err
	}
	unlock, err = m.locks.RLock(ctx, networkKey(n.ID))
	if err != nil {
		return nil, nil, err
	}
	if n, err = m.lookup(n.ID); err != nil {
		unlock()
		return nil, nil, err
	}
	return n, unlock, nil
}

func checkRequest(req EndpointRequest, n *networkState, before sandboxRecord) error {
	if err := checkConnect(req, n); err != nil {
		return err
	}
	if _, connected := before.on(n.ID); connected {
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
			"endpoint with name %s already exists in network %s", req.ContainerName, n.Name))
	}
	exclusive := func(driver string) bool { return driver == "host" || driver == "null" }
	for _, e := range before.Endpoints {
		if exclusive(n.Driver) || exclusive(e.Driver) {
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
				"container cannot be connected to multiple networks with one of the networks in private (none) or host mode: %s and %s", e.NetworkName, n.Name))
		}
	}
	return n.checkEndpoint(req.IPv4, req.MAC, req.Aliases)
}

// CheckEndpoint refuses what Connect would refuse for any sandbox.
func (m *Manager) CheckEndpoint(ref string, settings *mobynetwork.EndpointSettings) error {
	n, err := m.lookup(ref)
	if err != nil {
		return err
	}
	var addr netip.Addr
	if settings.IPAMConfig != nil {
		addr = settings.IPAMConfig.IPv4Address
	}
	if err := n.checkEndpoint(addr, settings.MacAddress, settings.Aliases); err != nil {
		return fmt.Errorf("invalid endpoint settings:\n%w", err)
	}
	return nil
}

func (n networkRecord) checkEndpoint(addr netip.Addr, mac mobynetwork.HardwareAddr, aliases []string) error {
	if addr.IsValid() {
		switch {
		case !addr.Is4():
			return unsupported("the IPv6 address %s of an endpoint", addr)
		case n.predefined():
			return invalid("user specified IP address is supported on user defined networks only")
		case !n.Subnet.Contains(addr):
			return invalid("no configured subnet contains IP address %s", addr)
		case !n.UserSubnet:
			return invalid("user specified IP address is supported only when connecting to networks with user configured subnets")
		}
	}
	if len(mac) != 0 && (len(mac) != 6 || mac[0]&1 != 0) {
		return invalid("invalid MAC address %s for an endpoint", mac)
	}
	if len(aliases) > 0 && n.predefined() {
		return invalid("network-scoped alias is supported only for containers in user defined networks")
	}
	return nil
}

// allocate decides everything about the endpoint but its part among the others,
// and takes the address it needs.
func (m *Manager) allocate(req EndpointRequest, n *networkState, before sandboxRecord, undo *cleanup.Stack) (Endpoint, error) {
	e := Endpoint{
		ID: newID(), NetworkID: n.ID, NetworkName: n.Name, Driver: n.Driver, ContainerName: req.ContainerName,
		Aliases: slices.Clone(req.Aliases), Links: slices.Clone(req.Links), GwPriority: req.GwPriority, OnHost: req.OnHost,
	}
	if n.pool == nil {
		return e, nil
	}
	addr, err := n.pool.Lease(req.IPv4)
	if err != nil {
		return Endpoint{}, err
	}
	undo.Add(func(context.Context) error { n.pool.Release(addr); return nil })
	e.Address = netip.PrefixFrom(addr, n.Subnet.Bits())
	if !n.Internal {
		e.Gateway = n.Gateway
	}
	if e.MAC = slices.Clone(req.MAC); len(e.MAC) == 0 {
		e.MAC = mobynetwork.HardwareAddr(bridge.MACFor(addr))
	}
	e.HostVeth = "veth" + e.ID[:7]
	e.Interface = freeInterface(before)
	e.DNSNames = dnsNames(req, n)
	return e, nil
}

// freeInterface is the first ethN that the sandbox does not have.
func freeInterface(s sandboxRecord) string {
	for i := 0; ; i++ {
		name := "eth" + strconv.Itoa(i)
		if !slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { return e.Interface == name }) {
			return name
		}
	}
}

// dnsNames are the names under which others on a user-defined network know the
// container; the default network has none.
func dnsNames(req EndpointRequest, n *networkState) []string {
	if n.predefined() {
		return nil
	}
	var names []string
	short := req.SandboxID[:min(len(req.SandboxID), shortID)]
	for _, name := range append(append([]string{req.ContainerName}, req.Aliases...), short, req.Hostname) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// link is the endpoint as the kernel must have it. Only the primary endpoint has
// the default route.
func (m *Manager) link(e Endpoint, n *networkState) bridge.Link {
	l := bridge.Link{
		Bridge: n.Bridge, HostName: e.HostVeth, Name: e.Interface, MAC: net.HardwareAddr(e.MAC), Address: e.Address,
		MTU: n.MTU, Isolated: !n.ICC,
	}
	if e.Primary {
		l.Gateway = e.Gateway
	}
	return l
}
