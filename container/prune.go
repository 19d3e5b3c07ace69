package container

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"slipway/internal/filter"
	"slipway/internal/moment"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
)

// Prune removes the containers that do not run and pass the filters label, label!
// and until. Those that something is being done with are left alone.
func (m *Manager) Prune(ctx context.Context, filters filter.Set) (mobycontainer.PruneReport, error) {
	var report mobycontainer.PruneReport
	if err := filter.Check(filters, "label", "label!", "until"); err != nil {
		return report, err
	}
	until, err := moment.Until(filters, time.Now())
	if err != nil {
		return report, err
	}
	if !m.pruning.CompareAndSwap(false, true) {
		return report, errdefs.ErrConflict.WithMessage("a prune operation is already running")
	}
	defer m.pruning.Store(false)
	for _, c := range m.all() {
		r := c.record.Load()
		if !until.IsZero() && r.Created.After(until) || !filter.Prunable(r.Config.Labels, filters) {
			continue
		}
		if ctx.Err() != nil {
			break // what is removed already is reported
		}
		size, removed, err := m.pruneOne(context.WithoutCancel(ctx), c)
		if err != nil {
			m.log(c).WarnContext(ctx, "cannot prune a container", slog.Any("error", err))
		}
		if removed {
			report.ContainersDeleted = append(report.ContainersDeleted, c.id)
			report.SpaceReclaimed += uint64(max(size, 0))
		}
	}
	m.cfg.Events.Publish(mobyevents.ContainerEventType, mobyevents.ActionPrune, "",
		map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return report, nil
}

// pruneOne removes the container if it does not run and nobody is at work on it,
// and returns the size of its own files.
func (m *Manager) pruneOne(ctx context.Context, c *container) (size int64, removed bool, err error) {
	unlock, ok := m.locks.TryLock(c.id)
	if !ok {
		return 0, false, nil
	}
	defer unlock()
	select {
	case <-c.removed:
		return 0, false, nil
	default:
	}
	r := c.record.Load()
	if r.State.Running() || r.State.Status == mobycontainer.StateRestarting || c.run.Load() != nil {
		return 0, false, nil
	}
	if size, err = m.ownSize(ctx, r); err != nil {
		// Its files are damaged, which is no reason to keep it.
		m.log(c).WarnContext(ctx, "cannot measure a container", slog.Any("error", err))
	}
	if err := m.removeLocked(ctx, c, RemoveOptions{}); err != nil {
		return 0, false, err
	}
	return size, true, nil
}
