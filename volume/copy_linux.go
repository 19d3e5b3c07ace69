package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

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

// settleCopy completes a copy that a crash or an error cut if it had got its
// place, and else takes it back: the volume is empty. The lock of the name is
// held.
func (m *Manager) settleCopy(r record) (record, error) {
	if r.Copy == "" {
		return r, nil
	}
	isPlaced, err := m.isPlaced(r.Name)
	if err != nil {
		return r, fmt.Errorf("settling the copy in volume %s: %w", r.Name, err)
	}
	filled := r.Filled
	if isPlaced {
		err = syncTree(m.data(r.Name), false)
	} else {
		filled = nil
	}
	if err == nil {
		// Before the copy is deleted: as long as it is there it has no other place.
		r, err = m.copied(r, filled)
	}
	if err == nil {
		err = os.RemoveAll(filepath.Join(m.dir(r.Name), fillDir))
	}
	if err != nil {
		return r, fmt.Errorf("settling the copy in volume %s: %w", r.Name, err)
	}
	return r, nil
}

// isPlaced reports whether a complete copy has become the volume's data.
func (m *Manager) isPlaced(name string) (bool, error) {
	if _, err := os.Lstat(filepath.Join(m.dir(name), fillDir)); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	entries, err := os.ReadDir(m.data(name))
	return len(entries) > 0, err
}
