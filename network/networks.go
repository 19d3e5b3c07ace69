package network

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	mobyevents "github.com/moby/moby/api/types/events"
	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/internal/cleanup"
	"slipway/internal/failpoint"
	"slipway/network/bridge"
	"slipway/network/ipam"
)

// Create makes a bridge network, durably.
func (m *Manager) Create(ctx context.Context, req mobynetwork.CreateRequest) (id, warning string, err error) {
	n, err := parseCreate(req)
	if err != nil {
		return "", "", err
	}
	n.ID = newID()
	if n.Bridge == "" {
		n.Bridge = "br-" + n.ID[:12]
	}
	if !n.HostIP.IsValid() {
		n.HostIP = m.cfg.HostIP
	}
	unlock, err := m.locks.Lock(ctx, networkKey(n.ID))
	if err != nil {
		return "", "", err
	}
	defer unlock()

	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	undo.Add(func(context.Context) error { m.forgetNetwork(n.ID); return nil })
	if err := m.claim(&n); err != nil {
		return "", "", err
	}
	undo.Add(func(context.Context) error { return m.networkRecords.Delete(n.ID) })
	failpoint.Hit("network.create.record")
	if err := m.networkRecords.Put(n.ID, n); err != nil {
		return "", "", fmt.Errorf("recording network %s: %w", n.Name, err)
	}
	failpoint.Hit("network.create.recorded")
	undo.Add(func(ctx context.Context) error { return m.platform.RemoveBridge(ctx, n.Bridge) })
	if err := m.guardHost(ctx); err != nil {
		return "", "", err
	}
	if err := m.platform.EnableForwarding(); err != nil {
		return "", "", err
	}
	made := n.bridge()
	made.Unrecorded = true
	if err := m.platform.EnsureBridge(ctx, made); err != nil {
		return "", "", fmt.Errorf("network %s: %w", n.Name, err)
	}
	failpoint.Hit("network.create.bridged")
	if err := m.platform.AddNetwork(ctx, n.firewallNetwork()); err != nil {
		return "", "", fmt.Errorf("network %s: %w", n.Name, err)
	}
	failpoint.Hit("network.create.filtered")
	m.publishNetwork(n)
	m.publish(mobyevents.ActionCreate, &networkState{networkRecord: n}, "")
	return n.ID, "", nil
}

// claim takes the name, the bridge and the subnet for a network that is about to
// be made, and chooses a subnet if it has none.
func (m *Manager) claim(n *networkRecord) error {
	var host []netip.Prefix
	if !n.Subnet.IsValid() {
		var err error
		if host, err = m.platform.hostPrefixes(); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.names[n.Name]; taken {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("network with name %s already exists", n.Name))
	}
	if n.Bridge == m.cfg.BridgeName && !n.predefined() {
		return bridgeTaken(n, defaultNetwork)
	}
	others := slices.Collect(maps.Values(m.making))
	for _, other := range m.networks {
		others = append(others, other.networkRecord)
	}
	taken := host
	for _, other := range others {
		if other.Bridge == n.Bridge {
			return bridgeTaken(n, other.Name)
		}
		if other.Subnet.IsValid() && n.Subnet.IsValid() && other.Subnet.Overlaps(n.Subnet) {
			return errdefs.ErrPermissionDenied.WithMessage("invalid pool request: Pool overlaps with other one on this address space")
		}
		if other.Subnet.IsValid() {
			taken = append(taken, other.Subnet)
		}
	}
	if !n.Subnet.IsValid() {
		subnet, err := ipam.Choose(m.cfg.AddressPools, taken)
		if err != nil {
			return err
		}
		n.Subnet, n.Gateway = subnet, ipam.FirstAddress(subnet)
	}
	m.names[n.Name], m.making[n.ID] = n.ID, *n
	return nil
}

func bridgeTaken(n *networkRecord, other string) error {
	return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
		"cannot create network %s (%s): conflicts with network %s: networks have same bridge name", n.ID, n.Bridge, other))
}

func (n networkRecord) bridge() bridge.Bridge {
	return bridge.Bridge{Name: n.Bridge, Address: netip.PrefixFrom(n.Gateway, n.Subnet.Bits()), MTU: n.MTU}
}

// List returns the networks that pass the filters of `docker network ls`, in order
// of creation.
func (m *Manager) List(filters Filters) ([]mobynetwork.Summary, error) {
	if err := checkFilters(filters, listFilters); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []mobynetwork.Summary{}
	for _, n := range m.inOrder() {
		if shown := m.inspect(n); matches(shown, filters, listFilters) {
			all = append(all, mobynetwork.Summary{Network: shown.Network})
		}
	}
	return all, nil
}

// inOrder are the networks in order of creation; m.mu is held.
func (m *Manager) inOrder() []*networkState {
	return slices.SortedFunc(maps.Values(m.networks), func(a, b *networkState) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
	})
}

// Get returns one network, by name, ID or a unique prefix of an ID.
func (m *Manager) Get(ref string) (mobynetwork.Inspect, error) {
	n, err := m.lookup(ref)
	if err != nil {
		return mobynetwork.Inspect{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inspect(n), nil
}

// Resolve returns the name and the driver of a network.
func (m *Manager) Resolve(ref string) (name, driver string, err error) {
	n, err := m.lookup(ref)
	if err != nil {
		return "", "", err
	}
	return n.Name, n.Driver, nil
}

// inspect requires m.mu.
func (m *Manager) inspect(n *networkState) mobynetwork.Inspect {
	result := mobynetwork.Inspect{
		Network: mobynetwork.Network{
			Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: true,
			IPAM:     mobynetwork.IPAM{Driver: "default", Config: []mobynetwork.IPAMConfig{}},
			Internal: n.Internal, Attachable: n.Attachable,
			Options: nonNil(n.Options), Labels: nonNil(n.Labels),
		},
		Containers: map[string]mobynetwork.EndpointResource{},
	}
	if n.Subnet.IsValid() {
		result.IPAM.Config = append(result.IPAM.Config, mobynetwork.IPAMConfig{
			Subnet: n.Subnet, Gateway: n.Gateway, IPRange: n.Range, AuxAddress: maps.Clone(n.Aux),
		})
	}
	for id, s := range m.sandboxes {
		if e, ok := s.on(n.ID); ok {
			result.Containers[id] = mobynetwork.EndpointResource{
				Name: e.ContainerName, EndpointID: e.ID, MacAddress: slices.Clone(e.MAC), IPv4Address: e.Address,
			}
		}
	}
	return result
}

func nonNil(labels map[string]string) map[string]string {
	if labels == nil {
		return map[string]string{}
	}
	return maps.Clone(labels)
}

// Remove deletes a network that no sandbox is connected to.
func (m *Manager) Remove(ctx context.Context, ref string) error {
	n, err := m.lookup(ref)
	if err != nil {
		return err
	}
	if n.predefined() {
		return errdefs.ErrPermissionDenied.WithMessage(n.Name + " is a pre-defined network and cannot be removed")
	}
	unlock, err := m.locks.Lock(ctx, networkKey(n.ID))
	if err != nil {
		return err
	}
	defer unlock()
	return m.removeLocked(ctx, n)
}

// removeLocked deletes a network whose lock is held.
func (m *Manager) removeLocked(ctx context.Context, n *networkState) (err error) {
	if _, err := m.lookup(n.ID); err != nil {
		return err // somebody was faster
	}
	if err := m.refuseActive(n); err != nil {
		return err
	}
	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	undo.Add(func(ctx context.Context) error { return m.platform.AddNetwork(ctx, n.firewallNetwork()) })
	failpoint.Hit("network.remove.filter")
	if err := m.platform.RemoveNetwork(ctx, n.firewallNetwork()); err != nil {
		return fmt.Errorf("removing network %s: %w", n.Name, err)
	}
	undo.Add(func(ctx context.Context) error { return m.platform.EnsureBridge(ctx, n.bridge()) })
	failpoint.Hit("network.remove.bridge")
	if err := m.platform.RemoveBridge(ctx, n.Bridge); err != nil {
		return fmt.Errorf("removing network %s: %w", n.Name, err)
	}
	failpoint.Hit("network.remove.record")
	if err := m.networkRecords.Delete(n.ID); err != nil {
		return fmt.Errorf("removing the record of network %s: %w", n.Name, err)
	}
	failpoint.Hit("network.remove.removed")
	m.forgetNetwork(n.ID)
	m.publish(mobyevents.ActionDestroy, n, "")
	return nil
}

func (m *Manager) refuseActive(n *networkState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var active []string
	for _, s := range m.sandboxes {
		if e, ok := s.on(n.ID); ok {
			active = append(active, fmt.Sprintf("name:%q id:%q", e.ContainerName, e.ID[:12]))
		}
	}
	if len(active) == 0 {
		return nil
	}
	slices.Sort(active)
	return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
		"error while removing network: network %s has active endpoints (%s)", n.Name, strings.Join(active, ", ")))
}

func (n networkRecord) predefined() bool { return predefined(n.Name) }

func predefined(name string) bool {
	switch name {
	case defaultNetwork, mobynetwork.NetworkHost, mobynetwork.NetworkNone:
		return true
	}
	return false
}
