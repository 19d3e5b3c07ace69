package network

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	mobyevents "github.com/moby/moby/api/types/events"

	"slipway/internal/cleanup"
	"slipway/internal/failpoint"
)

// NewSandbox makes a network namespace in which only the loopback runs, and
// returns its path. One that exists already is kept.
func (m *Manager) NewSandbox(ctx context.Context, id string) (nsPath string, err error) {
	unlock, err := m.locks.Lock(ctx, sandboxKey(id))
	if err != nil {
		return "", err
	}
	defer unlock()
	failpoint.Hit("network.sandbox.create")
	nsPath, err = m.platform.CreateSandbox(ctx, id)
	failpoint.Hit("network.sandbox.created")
	return nsPath, err
}

// Endpoints returns the sandbox's connections, in the order they were made.
func (m *Manager) Endpoints(sandboxID string) []Endpoint {
	return slices.Clone(m.sandbox(sandboxID).Endpoints)
}

// OpenPorts redirects the published ports of a sandbox that was connected with
// Gate. Open ports stay open.
func (m *Manager) OpenPorts(ctx context.Context, sandboxID string) (err error) {
	unlock, err := m.locks.Lock(ctx, sandboxKey(sandboxID))
	if err != nil {
		return err
	}
	defer unlock()
	before := m.sandbox(sandboxID)
	if !before.Gated {
		return nil
	}
	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	after := before
	after.Gated = false
	undo.Add(func(context.Context) error { return m.storeSandbox(before) })
	failpoint.Hit("network.open.record")
	if err := m.storeSandbox(after); err != nil {
		return err
	}
	failpoint.Hit("network.open.recorded")
	if err := m.platform.Open(ctx, after.forwards()); err != nil {
		return fmt.Errorf("publishing the ports of %s: %w", sandboxID, err)
	}
	failpoint.Hit("network.open.opened")
	return nil
}

// Disconnect takes the sandbox off a network; not being on it is no error. If the
// endpoint was the sandbox's way to the world, another one takes over.
func (m *Manager) Disconnect(ctx context.Context, sandboxID, network string) error {
	unlock, err := m.locks.Lock(ctx, sandboxKey(sandboxID))
	if err != nil {
		return err
	}
	defer unlock()
	n, err := m.lookup(network)
	if err != nil {
		return err
	}
	s := m.sandbox(sandboxID)
	e, connected := s.on(n.ID)
	if !connected {
		return nil
	}
	if err := m.takeDown(ctx, e); err != nil {
		return err
	}
	old, _ := s.primary()
	after := s.without(e.ID).elect(old.Ports, m.internal)
	heir, inherits := after.primary()
	inherits = inherits && heir.ID != old.ID
	failpoint.Hit("network.disconnect.record")
	if err := m.storeSandbox(after); err != nil {
		return err
	}
	failpoint.Hit("network.disconnect.recorded")
	if inherits {
		m.moveReservations(old.ID, heir.ID)
	}
	m.release(ctx, []Endpoint{e})
	m.publish(mobyevents.ActionDisconnect, n, sandboxID)
	if inherits {
		return m.bringUp(ctx, after, heir)
	}
	return nil
}

// Disconnected publishes that a container without a sandbox has left a network,
// which only its record knew.
func (m *Manager) Disconnected(id, network string) {
	if n, err := m.lookup(network); err == nil {
		m.publish(mobyevents.ActionDisconnect, n, id)
	}
}

// DeleteSandbox takes the sandbox off all networks and removes its namespace. It
// may be called again after a failure, and for a sandbox that is not there. No
// process may run in the sandbox any more.
func (m *Manager) DeleteSandbox(ctx context.Context, id string) error {
	unlock, err := m.locks.Lock(ctx, sandboxKey(id))
	if err != nil {
		return err
	}
	defer unlock()
	s := m.sandbox(id)
	failpoint.Hit("network.sandbox.close")
	if err := m.platform.Close(ctx, s.forwards()); err != nil {
		return err
	}
	m.stopResolver(ctx, id)
	failpoint.Hit("network.sandbox.delete")
	if err := m.platform.DeleteSandbox(ctx, id); err != nil {
		return err
	}
	failpoint.Hit("network.sandbox.deleted")
	if len(s.Endpoints) == 0 {
		return nil
	}
	done, err := m.locks.RLock(ctx, removalsKey)
	if err != nil {
		return err
	}
	if err := m.storeSandbox(sandboxRecord{Version: recordVersion, ID: id}); err != nil {
		done()
		return err
	}
	failpoint.Hit("network.sandbox.forgotten")
	m.release(ctx, s.Endpoints)
	for _, e := range s.Endpoints {
		if n, err := m.lookup(e.NetworkID); err == nil {
			m.publish(mobyevents.ActionDisconnect, n, id)
		}
	}
	go m.removeLinks(context.WithoutCancel(ctx), s, done)
	return nil
}

// removeLinks deletes the interfaces of a deleted sandbox, for which the kernel
// takes some 20 ms that the client of a stop need not wait. Nothing depends on it:
// the kernel removes them with the namespace, sooner or later, and Restore sweeps.
func (m *Manager) removeLinks(ctx context.Context, s sandboxRecord, done func()) {
	defer done()
	for _, e := range s.Endpoints {
		if e.HostVeth == "" {
			continue
		}
		if err := m.platform.Detach(ctx, e.HostVeth); err != nil {
			m.log.LogAttrs(ctx, slog.LevelWarn, "an interface of a stopped container could not be removed",
				slog.String("container", s.ID), slog.String("interface", e.HostVeth), logError(err))
		}
	}
}

// awaitRemovals returns when no interface is being removed in the background.
func (m *Manager) awaitRemovals(ctx context.Context) error {
	unlock, err := m.locks.Lock(ctx, removalsKey)
	if err == nil {
		unlock()
	}
	return err
}

// takeDown removes what the endpoint is in the kernel: first nothing new gets in,
// then the interfaces go.
func (m *Manager) takeDown(ctx context.Context, e Endpoint) error {
	failpoint.Hit("network.disconnect.close")
	if err := m.platform.Close(ctx, e.forwards()); err != nil {
		return err
	}
	failpoint.Hit("network.disconnect.detach")
	if e.HostVeth != "" {
		if err := m.platform.Detach(ctx, e.HostVeth); err != nil {
			return err
		}
	}
	failpoint.Hit("network.disconnect.detached")
	return nil
}

// release gives the leases of removed endpoints back.
func (m *Manager) release(ctx context.Context, endpoints []Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range endpoints {
		if n := m.networks[e.NetworkID]; n != nil && n.pool != nil && e.Address.IsValid() {
			n.pool.Release(e.Address.Addr())
		}
		ports := m.reserved[e.ID]
		delete(m.reserved, e.ID)
		if err := closeAll(ports); err != nil {
			m.log.WarnContext(ctx, "a reserved port could not be closed", logError(err))
		}
	}
}

func (m *Manager) internal(networkID string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.networks[networkID]
	return n == nil || n.Internal
}

// bringUp makes the kernel agree with a recorded endpoint.
func (m *Manager) bringUp(ctx context.Context, s sandboxRecord, e Endpoint) error {
	n, err := m.lookup(e.NetworkID)
	if err != nil {
		return err
	}
	if e.Interface != "" {
		if err := m.platform.Attach(ctx, s.ID, m.link(e, n)); err != nil {
			return err
		}
	}
	if s.Gated {
		return nil
	}
	return m.platform.Open(ctx, e.forwards())
}

// Rename changes the name of a container under which others on its networks find
// it, and which inspecting the networks shows. Having it already is no error.
func (m *Manager) Rename(ctx context.Context, sandboxID, containerName string) error {
	unlock, err := m.locks.Lock(ctx, sandboxKey(sandboxID))
	if err != nil {
		return err
	}
	defer unlock()
	s := m.sandbox(sandboxID)
	changed := false
	for _, e := range s.Endpoints {
		if e.ContainerName == containerName {
			continue
		}
		for i, name := range e.DNSNames {
			if name == e.ContainerName {
				e.DNSNames = slices.Clone(e.DNSNames)
				e.DNSNames[i] = containerName
			}
		}
		e.ContainerName = containerName
		s, changed = s.with(e), true
	}
	if !changed {
		return nil
	}
	return m.storeSandbox(s)
}
