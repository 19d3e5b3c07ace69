package network

import (
	"context"
	"log/slog"
	"time"

	"github.com/containerd/errdefs"
	mobyevents "github.com/moby/moby/api/types/events"
	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/internal/moment"
)

// Prune removes the networks to which nothing is connected and that pass the
// filters label, label! and until. One that somebody is at work on stays. Containers
// that do not run count for nothing, as in Docker, though they may want the network.
func (m *Manager) Prune(ctx context.Context, filters Filters) (mobynetwork.PruneReport, error) {
	if err := checkFilters(filters, pruneFilters); err != nil {
		return mobynetwork.PruneReport{}, err
	}
	until, err := moment.Until(filters, time.Now())
	if err != nil {
		return mobynetwork.PruneReport{}, err
	}
	candidates, ok := m.beginPrune()
	if !ok {
		return mobynetwork.PruneReport{}, errdefs.ErrConflict.WithMessage("a prune operation is already running")
	}
	defer m.endPrune()
	report := mobynetwork.PruneReport{NetworksDeleted: []string{}}
	for _, n := range candidates {
		if ctx.Err() != nil {
			break
		}
		if n.predefined() || !until.IsZero() && !n.Created.Before(until) || !matches(mobynetwork.Inspect{Network: mobynetwork.Network{Labels: n.Labels}}, filters, pruneFilters) {
			continue
		}
		removed, err := m.pruneOne(ctx, n)
		if err != nil {
			m.log.WarnContext(ctx, "cannot prune a network", slog.String("network", n.Name), logError(err))
		}
		if removed {
			report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
		}
	}
	m.cfg.Events.Publish(mobyevents.NetworkEventType, mobyevents.ActionPrune, "", map[string]string{"reclaimed": "0"})
	return report, nil
}

// pruneOne removes the network unless it is locked, connected, or gone.
func (m *Manager) pruneOne(ctx context.Context, n *networkState) (removed bool, err error) {
	unlock, ok := m.locks.TryLock(networkKey(n.ID))
	if !ok {
		return false, nil
	}
	defer unlock()
	if m.refuseActive(n) != nil {
		return false, nil
	}
	err = m.removeLocked(context.WithoutCancel(ctx), n)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func (m *Manager) beginPrune() (all []*networkState, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pruning {
		return nil, false
	}
	m.pruning = true
	return m.inOrder(), true
}

func (m *Manager) endPrune() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pruning = false
}
