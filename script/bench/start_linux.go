package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	atOnce       = 30
	atOnceRounds = 3
)

// starts measures `docker run --rm busybox true`.
func (b *bench) starts(ctx context.Context) error {
	var since time.Time
	for _, n := range []struct {
		network string
		limit   float64
	}{{"none", 0.8}, {"bridge", 0.5}} {
		since = time.Now()
		times := map[*engine]*series{b.slipway: {}, b.peer: {}}
		for i := range b.runs + 2 {
			for _, e := range b.engines() {
				took, err := b.once(ctx, e, n.network)
				if err != nil {
					return err
				}
				if i >= 2 { // the first ones fill caches
					times[e].addTime(took)
				}
			}
		}
		b.compare("docker run --rm --network "+n.network+" busybox true", *times[b.slipway], *times[b.peer], n.limit)
	}
	if err := b.trace(ctx, "docker run --rm busybox true", since, "POST /containers/create", "POST /containers/{name}/start", "exit"); err != nil {
		return err
	}
	times := map[*engine]*series{b.slipway: {}, b.peer: {}}
	for range atOnceRounds {
		for _, e := range b.engines() {
			begin := time.Now()
			group, ctx := errgroup.WithContext(ctx)
			for range atOnce {
				group.Go(func() error { _, err := b.once(ctx, e, "bridge"); return err })
			}
			if err := group.Wait(); err != nil {
				return err
			}
			times[e].addTime(time.Since(begin))
		}
	}
	b.report.add(fmt.Sprintf("%d of these at once, until the last ends", atOnce),
		milliseconds(times[b.slipway].median()), milliseconds(times[b.peer].median()))
	return nil
}

func (b *bench) once(ctx context.Context, e *engine, network string) (time.Duration, error) {
	_, took, err := e.docker(ctx, "run", "--rm", "--network", network, b.images.busybox, "true")
	return took, err
}

func (b *bench) compare(what string, ours, theirs series, limit float64) {
	ratio := ours.median() / theirs.median()
	b.report.judge(what, ours.String(), theirs.String(), fmt.Sprintf("≤ %.1f × docker.io; is %.2f", limit, ratio), ratio <= limit)
}
