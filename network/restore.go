package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"slipway/internal/failpoint"
	"slipway/network/firewall"
	"slipway/network/hostport"
)

// Restore makes the kernel agree with the records after the daemon, or the whole
// host, was away: sandboxes of the live containers stay connected, everything else
// that is left of earlier sandboxes is removed. It is called once, after New and
// before all other methods. What fails for one container or network is logged and
// does not keep the others from working.
func (m *Manager) Restore(ctx context.Context, live []string) error {
	alive := setOf(live)
	m.dropDead(ctx, alive)
	if err := m.ensureDefaults(ctx); err != nil {
		return err
	}
	failpoint.Hit("network.restore.forwarding")
	if err := m.guardHost(ctx); err != nil {
		return err
	}
	failpoint.Hit("network.restore.guarded")
	var networks []firewall.Network
	for _, n := range m.snapshot() {
		if n.Bridge == "" {
			continue
		}
		networks = append(networks, n.firewallNetwork())
		failpoint.Hit("network.restore.bridge")
		b := n.bridge()
		b.Unrecorded = b.Name == m.cfg.BridgeName // configured, and perhaps not before
		if err := m.platform.EnsureBridge(ctx, b); err != nil {
			if n.Name == defaultNetwork {
				return fmt.Errorf("default network: %w", err)
			}
			m.log.ErrorContext(ctx, "a network could not be restored", slog.String("network", n.Name), logError(err))
		}
	}
	var forwards []firewall.Forward
	for _, s := range m.sandboxSnapshot() {
		m.restoreSandbox(ctx, s)
		if !s.Gated {
			forwards = append(forwards, s.forwards()...)
		}
	}
	failpoint.Hit("network.restore.filter")
	if err := m.platform.Reset(ctx, networks, forwards); err != nil {
		return err
	}
	failpoint.Hit("network.restore.filtered")
	if err := m.platform.EnableForwarding(); err != nil {
		return err
	}
	return m.sweep(ctx, alive)
}

// dropDead removes the sandboxes of containers that no longer run. Their ports are
// left to the firewall's reset.
func (m *Manager) dropDead(ctx context.Context, alive map[string]bool) {
	for _, s := range m.sandboxSnapshot() {
		if alive[s.ID] {
			continue
		}
		if err := m.dropSandbox(ctx, s); err != nil {
			m.log.ErrorContext(ctx, "what is left of a stopped container's network could not be removed", slog.String("container", s.ID), logError(err))
		}
	}
}

func (m *Manager) dropSandbox(ctx context.Context, s sandboxRecord) error {
	for _, e := range s.Endpoints {
		if e.HostVeth == "" {
			continue
		}
		if err := m.platform.Detach(ctx, e.HostVeth); err != nil {
			return err
		}
	}
	if err := m.platform.DeleteSandbox(ctx, s.ID); err != nil {
		return err
	}
	failpoint.Hit("network.restore.forget")
	if err := m.storeSandbox(sandboxRecord{Version: recordVersion, ID: s.ID}); err != nil {
		return err
	}
	m.release(ctx, s.Endpoints)
	return nil
}

// restoreSandbox completes the endpoints of a live container and reserves its
// host ports again.
func (m *Manager) restoreSandbox(ctx context.Context, s sandboxRecord) {
	for _, e := range s.Endpoints {
		if err := m.reserveAgain(e); err != nil {
			m.log.WarnContext(ctx, "a published port could not be reserved again", slog.String("container", s.ID), logError(err))
		}
		n, err := m.lookup(e.NetworkID)
		if err == nil && e.Interface != "" {
			err = m.platform.Attach(ctx, s.ID, m.link(e, n))
		}
		if err != nil {
			m.log.ErrorContext(ctx, "a network connection could not be restored",
				slog.String("container", s.ID), slog.String("network", e.NetworkName), logError(err))
		}
	}
	failpoint.Hit("network.restore.resolver")
	if err := m.ensureResolver(ctx, s); err != nil {
		m.log.ErrorContext(ctx, "a container finds no names, because its name server could not be restored", slog.String("container", s.ID), logError(err))
	}
}

func (m *Manager) reserveAgain(e Endpoint) error {
	var held []*hostport.Reservation
	var errs []error
	for _, f := range e.forwards() {
		r, err := m.platform.reserve(hostport.Request{Protocol: f.Protocol, Addr: f.Host, Container: f.To.Port(), OnHost: e.OnHost, Again: true})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		held = append(held, r)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(held) > 0 {
		m.reserved[e.ID] = held
	}
	return errors.Join(errs...)
}

// ensureDefaults records the networks that are always there, and brings the
// default one up to the daemon's configuration as far as nothing is connected to it.
func (m *Manager) ensureDefaults(ctx context.Context) error {
	for name, driver := range alwaysThere {
		if _, err := m.lookup(name); err == nil {
			continue
		}
		n := networkRecord{Version: recordVersion, ID: newID(), Name: name, Driver: driver, Created: time.Now().UTC()}
		if err := m.recordNetwork(n); err != nil {
			return err
		}
	}
	n := m.defaultNetwork()
	old, err := m.lookup(defaultNetwork)
	if err != nil {
		return m.adoptDefault(n)
	}
	n.ID, n.Created = old.ID, old.Created
	if !n.Subnet.IsValid() { // not configured: what was chosen once stays
		n.Subnet, n.Gateway = old.Subnet, old.Gateway
	}
	if n.Bridge == old.Bridge && n.Subnet == old.Subnet && n.Gateway == old.Gateway && n.Range == old.Range && n.MTU == old.MTU &&
		n.ICC == old.ICC && n.Masquerade == old.Masquerade && n.HostIP == old.HostIP {
		return nil
	}
	if m.refuseActive(old) != nil {
		m.log.WarnContext(ctx, "running containers are connected to the default network: its new configuration is applied when the daemon starts without them")
		if old.Bridge == m.cfg.BridgeName {
			return nil
		}
		return m.claimBridge(old.Bridge)
	}
	m.forgetNetwork(old.ID)
	return m.adoptDefault(n)
}

// defaultNetwork is the default network as configured.
func (m *Manager) defaultNetwork() networkRecord {
	mtu := m.cfg.MTU
	shown := mtu
	if shown == 0 {
		shown = 1500
	}
	return networkRecord{
		Version: recordVersion, ID: newID(), Name: defaultNetwork, Driver: defaultDriver, Created: time.Now().UTC(),
		Bridge: m.cfg.BridgeName, Subnet: m.defaults.subnet, Gateway: m.defaults.gateway, Range: m.defaults.within, MTU: mtu,
		ICC: !m.cfg.DisableICC, Masquerade: !m.cfg.DisableMasquerade, HostIP: m.cfg.HostIP,
		Options: map[string]string{
			optionDefaultBridge: "true",
			optionICC:           strconv.FormatBool(!m.cfg.DisableICC),
			optionMasquerade:    strconv.FormatBool(!m.cfg.DisableMasquerade),
			optionHostIP:        m.cfg.HostIP.String(),
			optionBridge:        m.cfg.BridgeName,
			optionMTU:           strconv.Itoa(shown),
		},
	}
}

func (m *Manager) adoptDefault(n networkRecord) error {
	if err := m.claim(&n); err != nil {
		return fmt.Errorf("default network: %w", err)
	}
	return m.recordNetwork(n)
}

func (m *Manager) recordNetwork(n networkRecord) error {
	if err := m.networkRecords.Put(n.ID, n); err != nil {
		return fmt.Errorf("recording network %s: %w", n.Name, err)
	}
	m.publishNetwork(n)
	return nil
}

// sweep removes what no record describes.
func (m *Manager) sweep(ctx context.Context, alive map[string]bool) error {
	found, err := m.compare(ctx, alive)
	if err != nil {
		return err
	}
	for _, id := range found.sandboxes {
		m.logSweep(ctx, "network namespace", id, m.platform.DeleteSandbox(ctx, id))
	}
	for _, name := range found.veths {
		m.logSweep(ctx, "veth", name, m.platform.Detach(ctx, name))
	}
	for _, name := range found.bridges {
		m.logSweep(ctx, "bridge", name, m.platform.RemoveBridge(ctx, name))
	}
	return nil
}

func (m *Manager) logSweep(ctx context.Context, kind, name string, err error) {
	if err != nil {
		m.log.ErrorContext(ctx, "something left over could not be removed", slog.String("kind", kind), slog.String("name", name), logError(err))
		return
	}
	m.log.InfoContext(ctx, "removed something left over", slog.String("kind", kind), slog.String("name", name))
}

func (m *Manager) snapshot() []*networkState {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*networkState, 0, len(m.networks))
	for _, n := range m.networks {
		all = append(all, n)
	}
	return all
}

func (m *Manager) sandboxSnapshot() []sandboxRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]sandboxRecord, 0, len(m.sandboxes))
	for _, s := range m.sandboxes {
		all = append(all, s)
	}
	return all
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}
