package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// CheckLeaks returns a sentence for everything that belongs to no volume or no
// running container of uses, and for everything that a volume should have and
// has not. It changes nothing.
func (m *Manager) CheckLeaks(ctx context.Context, uses []Use) ([]string, error) {
	var problems []string
	for _, check := range []func(context.Context, []Use) ([]string, error){
		m.checkRecords, m.checkDirs, m.checkMounts, m.checkSnapshots,
	} {
		found, err := check(ctx, uses)
		if err != nil {
			return nil, fmt.Errorf("checking volumes: %w", err)
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

// checkRecords looks for what containers and records name and is not there.
func (m *Manager) checkRecords(ctx context.Context, uses []Use) ([]string, error) {
	var problems []string
	for _, use := range uses {
		for _, p := range use.Points {
			if _, _, _, ok := m.lookup(p.Name); p.Name != "" && !ok {
				problems = append(problems, fmt.Sprintf("volume %s of container %s is missing", p.Name, use.ID))
			}
		}
	}
	stored, err := m.records.All()
	if err != nil && !errdefs.IsDataLoss(err) {
		return nil, err
	}
	for _, c := range m.candidates() {
		if c.damaged {
			problems = append(problems, errDamaged(c.Name).Error())
			continue
		}
		if _, ok := stored[c.Name]; !ok {
			problems = append(problems, fmt.Sprintf("volume %s has no record that can be read", c.Name))
		}
		if c.Filling || c.Copy != "" {
			problems = append(problems, fmt.Sprintf("volume %s was not filled to the end", c.Name))
		}
		if _, err := os.Lstat(m.data(c.Name)); errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, fmt.Sprintf("the data directory of volume %s is missing", c.Name))
		}
		if !c.isOverlay() {
			continue
		}
		if _, err := m.snapshot(ctx, c.record); errdefs.IsNotFound(err) {
			problems = append(problems, fmt.Sprintf("the snapshot of volume %s is missing", c.Name))
		} else if err != nil {
			return nil, err
		}
		if whole, err := m.isWhole(c.Name); err != nil || !whole {
			problems = append(problems, fmt.Sprintf("volume %s is not mounted", c.Name))
		}
	}
	return problems, nil
}

// checkDirs looks for directories without a volume.
func (m *Manager) checkDirs(context.Context, []Use) ([]string, error) {
	entries, err := os.ReadDir(m.cfg.Root)
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, entry := range entries {
		if _, _, _, ok := m.lookup(entry.Name()); !ok {
			problems = append(problems, fmt.Sprintf("directory %s belongs to no volume", filepath.Join(m.cfg.Root, entry.Name())))
			continue
		}
		filling := filepath.Join(m.cfg.Root, entry.Name(), fillDir)
		if _, err := os.Lstat(filling); err == nil {
			problems = append(problems, fmt.Sprintf("directory %s was left when a volume was filled", filling))
		}
	}
	return problems, nil
}

// checkSnapshots looks for snapshots without a volume.
func (m *Manager) checkSnapshots(ctx context.Context, _ []Use) ([]string, error) {
	lister, ok := m.cfg.Layers.(LayerLister)
	if !ok {
		return nil, nil
	}
	keys, err := lister.List(ctx, keyPrefix)
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, key := range keys {
		r, _, _, ok := m.lookup(strings.TrimPrefix(key, keyPrefix))
		if !ok || !r.isOverlay() && !r.damaged {
			problems = append(problems, fmt.Sprintf("snapshot %s belongs to no volume", key))
		}
	}
	return problems, nil
}

// size returns the bytes of the volume's files, each counted once however many
// names it has. Of an overlay only what is its own counts.
func (m *Manager) size(ctx context.Context, r record) (int64, error) {
	root := m.data(r.Name)
	if r.isOverlay() {
		upper, _, err := m.Upper(ctx, r.Name)
		if err != nil {
			return 0, err
		}
		root = upper.Dir
	}
	return treeSize(ctx, root)
}
