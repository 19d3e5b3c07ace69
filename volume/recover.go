package volume

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/containerd/errdefs"
)

// recoverRecords makes damaged records again from what else there is of the
// volumes. A volume of which too little is known stays as it is: it may be the
// only place of somebody's data.
func (m *Manager) recoverRecords(ctx context.Context) {
	for _, c := range m.candidates() {
		if !c.damaged {
			continue
		}
		r, err := m.recoverRecord(ctx, c.Name)
		if err == nil {
			err = m.replace(r)
		}
		if err != nil {
			m.cfg.Logger.ErrorContext(ctx, "the record of a volume cannot be read nor made again; the volume is kept and cannot be used: "+
				"save what you need of its directory and snapshot, and remove it with docker volume rm",
				slog.String("volume", c.Name), slog.String("directory", m.dir(c.Name)),
				slog.String("snapshot", c.key()), slog.String("error", err.Error()))
			continue
		}
		m.cfg.Logger.WarnContext(ctx, "made the damaged record of a volume again; its labels are lost", slog.String("volume", c.Name))
	}
}

// recoverRecord returns what a damaged record must have said.
func (m *Manager) recoverRecord(ctx context.Context, name string) (record, error) {
	snapshot, err := m.statSnapshot(ctx, name)
	if err == nil {
		return m.recoverOverlay(ctx, name, snapshot)
	}
	if !errdefs.IsNotFound(err) {
		return record{}, err
	}
	isPlain, err := m.isPlain(name)
	if err != nil {
		return record{}, err
	}
	if !isPlain {
		return record{}, errdefs.ErrDataLoss.WithMessage("its directory does not tell what was mounted there")
	}
	return record{Name: name, Created: time.Now()}, nil
}

// isPlain reports whether the volume's files are in its own directory, and
// nothing is or was mounted there.
func (m *Manager) isPlain(name string) (bool, error) {
	if _, err := os.Lstat(m.layer(name)); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if mounted, err := isMounted(m.data(name)); err != nil || mounted {
		return false, err
	}
	entries, err := os.ReadDir(m.data(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

// statSnapshot returns the volume's snapshot, or a NotFound error.
func (m *Manager) statSnapshot(ctx context.Context, name string) (Snapshot, error) {
	if m.cfg.Layers == nil {
		return Snapshot{}, errdefs.ErrNotFound
	}
	return m.cfg.Layers.Stat(ctx, keyPrefix+name)
}
