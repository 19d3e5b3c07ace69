package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
)

// restoreParallel bounds how many overlays are mounted at once after a reboot.
const restoreParallel = 8

// Restore compares the records with what is there and settles each difference.
// uses are all containers; the mounts of the running ones stay. It is called
// once, before any other method. A volume that cannot be mounted is logged: the
// start of a container that needs it fails with the reason.
func (m *Manager) Restore(ctx context.Context, uses []Use) error {
	if err := m.finishRemovals(ctx); err != nil {
		return fmt.Errorf("restoring volumes: %w", err)
	}
	if err := m.adoptOrphans(ctx); err != nil {
		return fmt.Errorf("restoring volumes: %w", err)
	}
	m.recoverRecords(ctx)
	m.register(ctx, uses)
	var group errgroup.Group
	group.SetLimit(restoreParallel)
	for _, c := range m.candidates() {
		if c.damaged {
			continue
		}
		group.Go(func() error {
			if err := m.restoreOne(ctx, c.record); err != nil {
				m.cfg.Logger.ErrorContext(ctx, "cannot restore a volume",
					slog.String("volume", c.Name), slog.String("error", err.Error()))
			}
			return nil
		})
	}
	_ = group.Wait() // each has logged its own
	if err := m.sweepRunDir(uses); err != nil {
		return fmt.Errorf("restoring volumes: %w", err)
	}
	return nil
}

// restoreOne brings one volume into the state that its record says.
func (m *Manager) restoreOne(ctx context.Context, r record) error {
	if r.Copy == "" { // else it tells whether the copy was put in place
		if err := os.RemoveAll(filepath.Join(m.dir(r.Name), fillDir)); err != nil {
			return err
		}
	}
	if r.Filling {
		if err := m.makeDirs(r.Name); err != nil {
			return err
		}
		return m.unfill(ctx, r)
	}
	if isMount(r.Options) {
		if err := m.makeDirs(r.Name); err != nil {
			return err
		}
		if err := m.unmountIdle(r); err != nil {
			return err
		}
		if _, _, active, _ := m.lookup(r.Name); active == 0 && r.Copy == "" {
			return nil
		}
	}
	return errors.Join(m.ensureMounted(ctx, r), m.unmountIdle(r))
}

// finishRemovals completes removals that a crash cut: a directory was put aside,
// and its record may be there still.
func (m *Manager) finishRemovals(ctx context.Context) error {
	entries, err := os.ReadDir(m.cfg.Root)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !strings.HasPrefix(e.Name(), removedPrefix) })
	if len(entries) == 0 {
		return nil
	}
	recorded := map[string]record{}
	for _, c := range m.candidates() {
		recorded[removedName(c.Name)] = c.record
	}
	for _, entry := range entries {
		name := entry.Name()
		if r, ok := recorded[name[:strings.LastIndex(name, "-")]]; ok {
			if _, err := os.Lstat(m.dir(r.Name)); errors.Is(err, fs.ErrNotExist) {
				if err := m.finishRemoval(ctx, r); err != nil {
					return err
				}
			}
		}
		if err := os.RemoveAll(filepath.Join(m.cfg.Root, name)); err != nil {
			return err
		}
	}
	return nil
}

// adoptOrphans removes directories that a create left, and records those that
// have data. One with a snapshot is a volume whose record was lost.
func (m *Manager) adoptOrphans(ctx context.Context) error {
	entries, err := os.ReadDir(m.cfg.Root)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if _, _, _, ok := m.lookup(name); ok || !entry.IsDir() || validateName(name) != nil {
			continue
		}
		if _, err := m.statSnapshot(ctx, name); err == nil {
			m.mu.Lock()
			m.volumes[name] = newVolume(record{Name: name, damaged: true})
			m.mu.Unlock()
			continue
		} else if !errdefs.IsNotFound(err) {
			return err
		}
		if err := m.unmountAll(name); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(m.dir(name), fillDir)); err != nil {
			return err
		}
		if m.dropEmpty(name) == nil {
			continue
		}
		if err := m.makeDirs(name); err != nil {
			return err
		}
		m.cfg.Logger.WarnContext(ctx, "recorded a volume that had lost its record", slog.String("volume", name))
		if err := m.replace(record{Name: name, Created: time.Now()}); err != nil {
			return err
		}
	}
	return nil
}
