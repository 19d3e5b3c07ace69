package network

import (
	"context"
	"fmt"
	"slices"

	"slipway/network/firewall"
)

// orphans are things in the kernel that belong to nothing known.
type orphans struct {
	sandboxes []string
	veths     []string
	bridges   []string
}

// compare looks for namespaces of no live container, interfaces of no recorded
// endpoint, and bridges of no recorded network.
func (m *Manager) compare(ctx context.Context, alive map[string]bool) (orphans, error) {
	bridges, veths := map[string]bool{}, map[string]bool{}
	var names []string
	for _, n := range m.snapshot() {
		if n.Bridge != "" {
			bridges[n.Bridge] = true
			names = append(names, n.Bridge)
		}
	}
	for _, s := range m.sandboxSnapshot() {
		for _, e := range s.Endpoints {
			if e.HostVeth != "" && alive[s.ID] {
				veths[e.HostVeth] = true
			}
		}
	}
	left, err := m.platform.Leftovers(ctx, names)
	if err != nil {
		return orphans{}, err
	}
	var found orphans
	for _, id := range left.Sandboxes {
		if !alive[id] {
			found.sandboxes = append(found.sandboxes, id)
		}
	}
	for bridge, ports := range left.Ports {
		if !bridges[bridge] {
			found.bridges = append(found.bridges, bridge)
		}
		for _, port := range ports {
			if !veths[port] {
				found.veths = append(found.veths, port)
			}
		}
	}
	return found, nil
}

// CheckLeaks reports, one sentence each, what is there and belongs to no live
// container, and what a live container has lost. It changes nothing. Operations
// that run at the same time may show.
func (m *Manager) CheckLeaks(ctx context.Context, live []string) ([]string, error) {
	if err := m.awaitRemovals(ctx); err != nil {
		return nil, err
	}
	alive := setOf(live)
	found, err := m.compare(ctx, alive)
	if err != nil {
		return nil, err
	}
	var report []string
	for _, id := range found.sandboxes {
		report = append(report, fmt.Sprintf("network namespace %s belongs to no running container", m.platform.SandboxPath(id)))
	}
	for _, name := range found.veths {
		report = append(report, fmt.Sprintf("interface %s belongs to no running container", name))
	}
	for _, name := range found.bridges {
		report = append(report, fmt.Sprintf("bridge %s belongs to no network", name))
	}
	wanted := map[firewall.Forward]bool{}
	for _, s := range m.sandboxSnapshot() {
		if !alive[s.ID] {
			for _, e := range s.Endpoints {
				report = append(report, fmt.Sprintf("endpoint %s on network %s (address %s) belongs to container %s, which does not run",
					e.ID[:shortID], e.NetworkName, e.Address, s.ID))
			}
			continue
		}
		for _, f := range s.forwards() {
			wanted[f] = !s.Gated
		}
		if s.resolves() && !m.resolving(s.ID) {
			report = append(report, fmt.Sprintf("container %s has no name server", s.ID))
		}
	}
	rules, err := m.compareFirewall(ctx, wanted)
	report = append(report, rules...)
	slices.Sort(report)
	return report, err
}

func (m *Manager) compareFirewall(ctx context.Context, wanted map[firewall.Forward]bool) ([]string, error) {
	present, err := m.platform.Forwards(ctx)
	if err != nil {
		return nil, err
	}
	var report []string
	for _, f := range present {
		if !wanted[f] {
			report = append(report, fmt.Sprintf("firewall redirects %s/%s to %s, which no running container publishes", f.Host, f.Protocol, f.To))
		}
	}
	for f, open := range wanted {
		if open && !slices.Contains(present, f) {
			report = append(report, fmt.Sprintf("firewall does not redirect the published port %s/%s to %s", f.Host, f.Protocol, f.To))
		}
	}
	bridges := map[string]bool{}
	for _, n := range m.snapshot() {
		bridges[n.Bridge] = true
	}
	filtered, err := m.platform.Bridges(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range filtered {
		if !bridges[name] {
			report = append(report, fmt.Sprintf("firewall knows bridge %s, which belongs to no network", name))
		}
		delete(bridges, name)
	}
	for name := range bridges {
		if name != "" {
			report = append(report, "firewall does not know bridge "+name)
		}
	}
	return report, nil
}
