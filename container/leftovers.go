package container

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"slipway/layerstore"
	"slipway/shim"

	"github.com/containerd/containerd/v2/core/snapshots"
)

// sweep removes names, directories and layers that no record owns: what
// a create or a removal that was cut left behind.
func (m *Manager) sweep(ctx context.Context) error {
	// The streams of execs: their readers ended with the daemon.
	if err := os.RemoveAll(m.execDir()); err != nil {
		return err
	}
	leftovers, err := m.leftovers(ctx)
	if err != nil {
		return err
	}
	for _, l := range leftovers {
		m.cfg.Logger.InfoContext(ctx, "removing what an interrupted operation left", slog.String("kind", l.Kind), slog.String("id", l.ID))
		if err := l.remove(ctx); err != nil {
			return fmt.Errorf("removing the left-over %s %s: %w", l.Kind, l.ID, err)
		}
	}
	return nil
}

// Leftover is something of a container that does not exist.
type Leftover struct {
	Kind, ID string
	remove   func(context.Context) error
}

// Leftovers lists what no container owns. It is meant for checks while nothing
// is being created or removed.
func (m *Manager) Leftovers(ctx context.Context) ([]Leftover, error) {
	return m.leftovers(ctx)
}

func (m *Manager) leftovers(ctx context.Context) ([]Leftover, error) {
	var found []Leftover
	add := func(kind, id string, remove func(context.Context) error) {
		m.mu.RLock()
		_, owned := m.containers[id]
		m.mu.RUnlock()
		if !owned && !slices.Contains(m.unreadable, id) {
			found = append(found, Leftover{Kind: kind, ID: id, remove: remove})
		}
	}
	names, err := m.names.All()
	if err != nil {
		return nil, err
	}
	for name, id := range names {
		add("name", id, func(context.Context) error { return m.names.Release(name) })
	}
	records, err := m.cfg.Client.ContainerService().List(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range records {
		add("task", c.ID, func(ctx context.Context) error { return m.dropTask(ctx, c.ID) })
	}
	for kind, dir := range map[string]string{
		"directory": filepath.Join(m.cfg.DataRoot, "containers"), "root mount": m.layers.mounts,
		"stream": filepath.Join(m.cfg.ExecRoot, "io"), "shared memory": filepath.Join(m.cfg.ExecRoot, "shm"),
	} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if len(e.Name()) != idLength {
				continue
			}
			add(kind, e.Name(), func(context.Context) error {
				switch kind {
				case "root mount":
					return m.layers.forget(e.Name())
				case "shared memory":
					return shim.UnmountShm(filepath.Join(dir, e.Name()))
				}
				return os.RemoveAll(filepath.Join(dir, e.Name()))
			})
		}
	}
	stray, err := m.strayShims(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range stray {
		found = append(found, Leftover{Kind: "shim", ID: s.ID, remove: func(context.Context) error { return m.cfg.Shims.KillShim(s) }})
	}
	return found, m.layers.snapshotter().Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if len(info.Name) == idLength && info.Kind == snapshots.KindActive {
			add("layer", info.Name, func(ctx context.Context) error { return m.layers.remove(ctx, info.Name) })
		}
		return nil
	})
}

// shimExit is how long a shim may be behind the end of its task.
const shimExit = time.Second

// strayShims are the shims without a task: a daemon that was killed while one
// started leaves it behind, and nobody would ever end it.
func (m *Manager) strayShims(ctx context.Context) ([]layerstore.Shim, error) {
	for began := time.Now(); ; {
		shims, err := m.cfg.Shims.Shims()
		if err != nil {
			return nil, err
		}
		stray := slices.DeleteFunc(shims, func(s layerstore.Shim) bool {
			task, err := m.loadTask(ctx, s.ID)
			return task != nil || err != nil // with an error it is at least known
		})
		if len(stray) == 0 || time.Since(began) > shimExit {
			return stray, nil
		}
		select {
		case <-time.After(cleanupPoll):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// idLength is the number of digits of a container's id.
const idLength = 64
