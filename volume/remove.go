package volume

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	mobyevents "github.com/moby/moby/api/types/events"
	mobyvolume "github.com/moby/moby/api/types/volume"

	"slipway/internal/failpoint"
)

const removedPrefix = ".removed-"

// removedName is what the directories of removed volumes called name begin with.
// It has the name's hash because the name itself may be as long as a directory's.
func removedName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return removedPrefix + hex.EncodeToString(sum[:16])
}

// Remove deletes a volume and its data. A volume that a container names is a
// Conflict error, also by force; force only makes a missing one no error.
func (m *Manager) Remove(ctx context.Context, name string, force bool) error {
	unlock, err := m.locks.Lock(ctx, name)
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	defer unlock()
	r, users, _, ok := m.lookup(name)
	switch {
	case !ok && force:
		return nil
	case !ok:
		return errNoSuchVolume(name)
	case users > 0:
		return errdefs.ErrConflict.WithMessage(
			fmt.Sprintf("remove %s: volume is in use - [%s]", name, strings.Join(m.users(name), ", ")))
	}
	if err := m.remove(ctx, r); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// users returns the ids of the containers that name the volume.
func (m *Manager) users(name string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.volumes[name]; ok {
		return slices.Sorted(maps.Keys(v.users))
	}
	return nil
}

// remove deletes an unused volume. It is complete if it is called again after a
// crash at any of its steps (see Restore). The lock of the name is held.
func (m *Manager) remove(ctx context.Context, r record) error {
	failpoint.Hit("volume.remove.start")
	// Also what somebody mounted inside: it must not be deleted with the volume.
	if err := unmountTree(m.dir(r.Name)); err != nil {
		return err
	}
	failpoint.Hit("volume.remove.unmounted")
	removed := filepath.Join(m.cfg.Root, removedName(r.Name)+"-"+randomName()[:8])
	if err := os.Rename(m.dir(r.Name), removed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The directory must not come back after the record has gone: it would be
	// taken for a volume whose record was lost.
	if err := syncDir(m.cfg.Root); err != nil {
		return err
	}
	failpoint.Hit("volume.remove.renamed")
	if err := m.finishRemoval(ctx, r); err != nil {
		return err
	}
	m.cfg.Events.Publish(mobyevents.VolumeEventType, mobyevents.ActionDestroy, r.Name, map[string]string{"driver": Driver})
	if err := os.RemoveAll(removed); err != nil {
		// The volume is gone; Restore tries again to give back its space.
		m.cfg.Logger.WarnContext(ctx, "a removed volume's data is left",
			slog.String("directory", removed), slog.String("error", err.Error()))
	}
	failpoint.Hit("volume.remove.deleted")
	return nil
}

// finishRemoval deletes what there is of a volume beside its directory.
func (m *Manager) finishRemoval(ctx context.Context, r record) error {
	if (r.isOverlay() || r.Filling || r.damaged) && m.cfg.Layers != nil {
		if err := m.cfg.Layers.Remove(ctx, r.key()); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing its snapshot: %w", err)
		}
		failpoint.Hit("volume.remove.snapshot")
	}
	if err := m.records.Delete(r.Name); err != nil {
		return err
	}
	failpoint.Hit("volume.remove.record")
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.volumes, r.Name)
	return nil
}

// Prune removes the volumes that no container names and that pass the filters
// label and label!: anonymous ones, or with the filter all=true any. Volumes
// made of mount options stay, because removing them frees nothing, and so do
// those with damaged records, of which nobody knows what they are.
func (m *Manager) Prune(ctx context.Context, filters Filters) (mobyvolume.PruneReport, error) {
	matches, err := filters.compile("all", "label", "label!")
	if err != nil {
		return mobyvolume.PruneReport{}, err
	}
	all, _, err := filters.boolean("all")
	if err != nil {
		return mobyvolume.PruneReport{}, err
	}
	if !m.startPrune() {
		return mobyvolume.PruneReport{}, errdefs.ErrConflict.WithMessage("a prune operation is already running")
	}
	defer m.endPrune()

	report := mobyvolume.PruneReport{VolumesDeleted: []string{}}
	for _, c := range m.candidates() {
		_, isAnonymous := c.Labels[AnonymousLabel]
		if c.users > 0 || c.damaged || len(c.Options) > 0 || !all && !isAnonymous || !matches(c) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		size, err := m.pruneOne(ctx, c.Name)
		if err != nil {
			m.cfg.Logger.WarnContext(ctx, "cannot prune a volume", slog.String("volume", c.Name), slog.String("error", err.Error()))
			continue
		}
		if size >= 0 {
			report.VolumesDeleted = append(report.VolumesDeleted, c.Name)
			report.SpaceReclaimed += uint64(size)
		}
	}
	m.cfg.Events.Publish(mobyevents.VolumeEventType, mobyevents.ActionPrune, "",
		map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return report, nil
}

// pruneOne removes the volume unless somebody is at work on it or uses it, and
// returns its size, or -1 if it is still there.
func (m *Manager) pruneOne(ctx context.Context, name string) (int64, error) {
	unlock, ok := m.locks.TryLock(name)
	if !ok {
		return -1, nil
	}
	defer unlock()
	r, users, _, ok := m.lookup(name)
	if !ok || users > 0 {
		return -1, nil
	}
	size, err := m.size(ctx, r)
	if err != nil {
		return -1, err
	}
	return size, m.remove(ctx, r)
}

func (m *Manager) startPrune() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pruning {
		return false
	}
	m.pruning = true
	return true
}

func (m *Manager) endPrune() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pruning = false
}
