package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"slipway/internal/cleanup"
	"slipway/internal/failpoint"
)

// fillInside copies the directory into a volume whose own directory cannot be
// replaced, because it is mounted somewhere. The copy is made in one directory
// of the volume, whose entries are moved up when it is complete: so what is
// taken back is never what somebody else has put there.
func (m *Manager) fillInside(ctx context.Context, r record, dir found, source Source) error {
	r.Copy = copyPartial
	if err := m.replace(r); err != nil {
		return err
	}
	failpoint.Hit("volume.populate.inside.intent")
	complete, err := m.stageCopy(ctx, r, dir, source)
	if err == nil {
		failpoint.Hit("volume.populate.inside.complete")
		err = placeStaged(ctx, m.data(r.Name))
	}
	if err != nil {
		_, settleErr := m.settleCopy(ctx, r)
		return errors.Join(fmt.Errorf("copying %s: %w", source.Path, err), settleErr)
	}
	failpoint.Hit("volume.populate.inside.placed")
	if err := syncTree(ctx, m.data(r.Name), false); err != nil {
		return err // is settled by whoever comes next
	}
	if _, err := m.copied(complete, complete.Filled); err != nil {
		return err
	}
	failpoint.Hit("volume.populate.inside.settled")
	return nil
}

// stageCopy makes the durable copy inside of the volume and records that it is
// complete.
func (m *Manager) stageCopy(ctx context.Context, r record, dir found, source Source) (record, error) {
	data := m.data(r.Name)
	if err := copyInto(ctx, filepath.Join(data, stageDir), dir.path); err != nil {
		return r, err
	}
	entries, err := os.ReadDir(data)
	if err != nil {
		return r, err
	}
	if len(entries) != 1 {
		return r, errdefs.ErrConflict.WithMessage(fmt.Sprintf("somebody has written to volume %s while it was filled", r.Name))
	}
	if err := syncTree(ctx, data, false); err != nil {
		return r, err
	}
	failpoint.Hit("volume.populate.inside.staged")
	if !source.Data {
		return m.recordCopy(r, nil)
	}
	return m.recordCopy(r, source.filled(MethodCopy, dir.sub))
}

// placeStaged moves a complete copy to where it belongs, if it is there. It can
// be repeated after a crash; when it fails, what it has moved is back.
func placeStaged(ctx context.Context, data string) (err error) {
	staged := filepath.Join(data, stageDir)
	entries, err := os.ReadDir(staged)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	for _, entry := range entries {
		from, to := filepath.Join(staged, entry.Name()), filepath.Join(data, entry.Name())
		err := moveNew(from, to)
		if errors.Is(err, fs.ErrExist) { // somebody has made it meanwhile: it stays
			if err := os.RemoveAll(from); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		undo.Add(func(context.Context) error { return os.Rename(to, from) })
		failpoint.Hit("volume.populate.inside.moved")
	}
	if err := copyInto(ctx, data, staged); err != nil { // only owner, mode and so on are left in it
		return err
	}
	return os.Remove(staged)
}

// recordCopy notes that a copy of the volume's content is complete and durable,
// and what it is, before it gets its place.
func (m *Manager) recordCopy(r record, filled *filled) (record, error) {
	pending := r
	pending.Copy, pending.Filled = copyComplete, filled
	if err := m.replace(pending); err != nil {
		return r, err
	}
	return pending, nil
}

// copied notes that nothing of a copy is left to do. It writes nothing if the
// record says so already.
func (m *Manager) copied(r record, filled *filled) (record, error) {
	if r.Copy == "" && r.Filled == filled {
		return r, nil
	}
	r.Copy, r.Filled = "", filled
	return r, m.replace(r)
}

// settleCopy completes a copy that a crash or an error cut if it was complete and
// had begun to get its place, and else takes it back: the volume is empty. The
// lock of the name is held, and what the volume's options say is mounted.
func (m *Manager) settleCopy(ctx context.Context, r record) (record, error) {
	if r.Copy == "" {
		return r, nil
	}
	settled, err := m.settle(ctx, r)
	if err != nil {
		return r, fmt.Errorf("settling the copy in volume %s: %w", r.Name, err)
	}
	return settled, nil
}

func (m *Manager) settle(ctx context.Context, r record) (record, error) {
	data := m.data(r.Name)
	var isPlaced bool
	var err error
	if r.Copy == copyComplete {
		if err = placeStaged(ctx, data); err == nil {
			isPlaced, err = m.isPlaced(r.Name)
		}
	} else {
		err = os.RemoveAll(filepath.Join(data, stageDir))
	}
	if err != nil {
		return r, err
	}
	// Before the record: without it nobody would know whose the files are.
	if err := syncTree(ctx, data, false); err != nil {
		return r, err
	}
	filled := r.Filled
	if !isPlaced {
		filled = nil
	}
	if r, err = m.copied(r, filled); err != nil {
		return r, err
	}
	// After the record: as long as it is there it has no other place.
	return r, os.RemoveAll(filepath.Join(m.dir(r.Name), fillDir))
}

// isPlaced reports whether a complete copy has become the volume's data.
func (m *Manager) isPlaced(name string) (bool, error) {
	if _, err := os.Lstat(filepath.Join(m.dir(name), fillDir)); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	entries, err := os.ReadDir(m.data(name))
	return len(entries) > 0, err
}
