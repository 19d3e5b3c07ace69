package container

import (
	"context"
	"runtime"
	"time"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// statsInterval is the time between two samples of a stream.
const statsInterval = time.Second

// Stats samples what the container uses, and passes the sample and the processor
// times of the one before to emit: with stream about once a second until ctx ends
// or the container is removed, else once, when there are two samples, or with
// oneShot at once. As in Docker, the sample of a container that does not run is
// empty, and a stream outlives the run.
//
// Everything is done by the caller's goroutine: an emit that blocks delays nobody
// else.
func (m *Manager) Stats(ctx context.Context, ref string, stream, oneShot bool, emit func(mobycontainer.StatsResponse) error) error {
	if stream && oneShot {
		return errdefs.ErrInvalidArgument.WithMessage("cannot have stream=true and one-shot=true")
	}
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(statsInterval)
	defer ticker.Stop()
	var before mobycontainer.StatsResponse
	for first := true; ; first = false {
		now, err := m.sample(ctx, c)
		if err != nil {
			return err
		}
		if !first {
			now.PreRead, now.PreCPUStats = before.Read, before.CPUStats
		}
		before = now
		if stream || oneShot || !first || now.Read.IsZero() {
			if err := emit(now); err != nil || !stream {
				return err
			}
		}
		select {
		case <-ticker.C:
		case <-c.removed:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// sample is what the container uses now; of one that does not run, only who it is.
func (m *Manager) sample(ctx context.Context, c *container) (mobycontainer.StatsResponse, error) {
	r := c.record.Load()
	empty := mobycontainer.StatsResponse{ID: r.ID, Name: "/" + r.Name, OSType: runtime.GOOS}
	run := c.run.Load()
	if run == nil {
		return empty, nil
	}
	stats := empty
	if err := run.measure(ctx, r, &stats); err != nil {
		if run.ending(ctx) {
			return empty, nil
		}
		return empty, err
	}
	return stats, nil
}
