package container

import (
	"context"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/database"
	"slipway/database/guestfiles"
	"slipway/image"
	"slipway/internal/span"

	mobycontainer "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// adapter returns the adapter of a container's database engine, or nil if the
// container holds no database.
func (m *Manager) adapter(r *Record) (database.Adapter, error) {
	if r.Data == nil {
		return nil, nil
	}
	a, _, err := m.cfg.Databases.ForImage(map[string]string{database.Label: r.Data.Engine}, r.Config.Env)
	return a, err
}

// detectDatabase sets the record's database part if it is a data image's.
func (m *Manager) detectDatabase(r *Record, requestEnv []string) (warning string, err error) {
	a, warning, err := m.cfg.Databases.ForImage(r.Config.Labels, r.Config.Env)
	if err != nil || a == nil {
		return warning, err
	}
	r.Data = &Data{Engine: a.Name(), RequestEnv: requestEnv}
	r.Data.Paths = a.DataPaths(imageConfig(r.Config))
	return warning, nil
}

func imageConfig(c *mobycontainer.Config) ocispec.ImageConfig {
	return image.FromContainerConfig(c).ImageConfig
}

// isData reports whether a mount belongs to the container's database.
func (r *Record) isData(mount Mount) bool {
	return r.Data != nil && slices.ContainsFunc(r.Data.Paths, func(dir string) bool {
		return beneath(mount.Destination, dir) || beneath(dir, mount.Destination)
	})
}

// beneath reports whether the container path p is dir or lies in it.
func beneath(p, dir string) bool {
	p, dir = path.Clean("/"+p), path.Clean("/"+dir)
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

// firstRequest is what the adapter is told about a clone's first start.
func firstRequest(r *Record) database.Request {
	return database.Request{ID: r.ID, Env: r.Data.RequestEnv, Args: arguments(r.Config), Labels: r.Config.Labels}
}

// quiesce makes a clone harmless before its first start and reports whether its
// ports must stay closed until the database is ready. root is the mounted root,
// on which the mounts will lie.
func (m *Manager) quiesce(ctx context.Context, c *container, root string, mounts []specs.Mount) (gate bool, err error) {
	defer span.Start(ctx, "make clone harmless")()
	r := c.record.Load()
	if r.Data == nil || r.Data.Started {
		return false, nil
	}
	if !m.dataIsCopy(r) {
		if r.Data.Clone { // it was one at a start that was cut short
			err = c.update(func(r *Record) { r.Data.Clone = false })
		}
		return false, err
	}
	a, err := m.adapter(r)
	if err != nil {
		return false, err
	}
	cloner, ok := a.(database.Cloner)
	if !ok {
		return false, nil
	}
	places := []guestfiles.Mount{{Path: "/", Source: root}}
	for _, mount := range mounts {
		if filepath.IsAbs(mount.Source) {
			places = append(places, guestfiles.Mount{Path: mount.Destination, Source: mount.Source})
		}
	}
	files, err := guestfiles.New(places...)
	if err != nil {
		return false, err
	}
	report, err := cloner.BeforeFirstStart(ctx, files, firstRequest(r))
	if err != nil {
		return false, err
	}
	if err := c.update(func(r *Record) { r.Data.Clone, r.Data.Quiesced = true, report }); err != nil {
		return false, err
	}
	return cloner.NeedsGate(files, firstRequest(r)), nil
}

// firstReady waits until the database answers for the first time, finishes
// what makes the clone harmless, and opens its ports.
func (m *Manager) firstReady(ctx context.Context, c *container, r *run, gated bool) {
	rec := c.record.Load()
	a, err := m.adapter(rec)
	if err != nil || a == nil {
		return
	}
	g := guest{m: m, c: c, run: r}
	if !m.awaitReady(ctx, a, g) {
		return
	}
	cloner, ok := a.(database.Cloner)
	first := ok && rec.Data.Clone && !rec.Data.Started
	var report database.Report
	if first {
		if report, err = cloner.AfterFirstReady(ctx, g, firstRequest(rec)); err != nil {
			if ctx.Err() == nil {
				m.log(c).ErrorContext(ctx, "the clone's ports stay closed, because its first start could not be finished", slog.Any("error", err))
				c.updateVolatile(func(r *Record) { r.State.Error = "first start of the database: " + err.Error() })
			}
			return
		}
	}
	if gated {
		if err := m.cfg.Networks.OpenPorts(ctx, c.id); err != nil {
			m.log(c).ErrorContext(ctx, "opening the published ports failed", slog.Any("error", err))
			return
		}
	}
	if !first {
		return
	}
	// Last, since the next daemon repeats a first start that is not recorded, and
	// opens the ports only then.
	if err := m.settleData(ctx, rec); err != nil {
		m.log(c).ErrorContext(ctx, "recording the first start failed", slog.Any("error", err))
		return
	}
	err = c.update(func(r *Record) {
		r.Data.Started = true
		r.Data.Quiesced.Add(report)
	})
	if err != nil {
		m.log(c).ErrorContext(ctx, "recording the first start failed", slog.Any("error", err))
	}
}

// awaitStarted returns when the database's files do not tell any more that there
// is no use in asking it, and after a while even if they do.
func (m *Manager) awaitStarted(ctx context.Context, a database.Adapter, c *container) {
	watcher, ok := a.(database.Watcher)
	if !ok {
		return
	}
	places := []guestfiles.Mount{{Path: "/", Source: m.layers.path(c.id)}}
	for _, mount := range c.record.Load().Mounts {
		if filepath.IsAbs(mount.Source) {
			places = append(places, guestfiles.Mount{Path: mount.Destination, Source: mount.Source})
		}
	}
	files, err := guestfiles.New(places...)
	if err != nil {
		return // asking does without
	}
	look := time.NewTicker(watchInterval)
	defer look.Stop()
	for deadline := time.Now().Add(longestReadyInterval); watcher.Starting(files) && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// awaitReady polls the database until it answers, and reports whether it did
// before ctx ended.
func (m *Manager) awaitReady(ctx context.Context, a database.Adapter, g guest) bool {
	for wait := firstReadyInterval; ; wait = min(2*wait, longestReadyInterval) {
		m.awaitStarted(ctx, a, g.c)
		if err := a.Ready(ctx, g); err == nil {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}
