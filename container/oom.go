package container

import (
	"context"
	"log/slog"

	eventstypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	mobyevents "github.com/moby/moby/api/types/events"
)

// oomEvents notes when the kernel kills a process of a container for want of
// memory, until ctx ends.
func (m *Manager) oomEvents(ctx context.Context) {
	events, errs := m.cfg.Client.EventService().Subscribe(ctx, `topic=="/tasks/oom"`)
	for {
		select {
		case envelope := <-events:
			var oom eventstypes.TaskOOM
			if err := typeurl.UnmarshalTo(envelope.Event, &oom); err != nil {
				m.cfg.Logger.WarnContext(ctx, "unreadable event", slog.String("topic", envelope.Topic), slog.Any("error", err))
				continue
			}
			m.mu.RLock()
			c := m.containers[oom.ContainerID]
			m.mu.RUnlock()
			if c == nil {
				continue
			}
			if run := c.run.Load(); run != nil && run.oom.CompareAndSwap(false, true) {
				m.publish(c, mobyevents.ActionOOM, nil)
			}
		case err := <-errs:
			if ctx.Err() == nil {
				m.cfg.Logger.ErrorContext(ctx, "events of the runtime end", slog.Any("error", err))
			}
			return
		case <-ctx.Done():
			return
		}
	}
}
