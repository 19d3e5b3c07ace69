package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"

	"slipway/internal/failpoint"
)

// Source is the directory of an image that a volume is filled from.
type Source struct {
	Image
	// Path is the directory's absolute path in the image, which may lead
	// through symbolic links.
	Path string
}

// filled is what a record says of a volume that has the source's files.
func (s *Source) filled(method, sub string) *filled {
	return &filled{Method: method, Chain: s.Chain, Parent: s.Parent, SubPath: sub, Fresh: true}
}

// Upper is the part of a volume that is not the image's.
type Upper struct {
	Dir     string // upper directory of the volume's overlay, a tree of the whole image
	Chain   string // chain id of the layers below
	SubPath string // where in the tree the volume is
	// Layers are the directories that the volume's content is merged from, top first.
	Layers []string
}

// Populate fills a volume from a directory of an image, if the volume is empty
// and the image has the directory. The package doc says how. When it returns,
// the content is durable; after a crash before that the volume is empty or whole.
func (m *Manager) Populate(ctx context.Context, name string, source Source) error {
	unlock, err := m.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	r, _, active, ok := m.lookup(name)
	if !ok {
		return errNoSuchVolume(name)
	}
	if r.damaged {
		return errDamaged(name)
	}
	if r.isOverlay() {
		return nil
	}
	if r.Filling && (!source.Data || m.cfg.Layers == nil) {
		return fmt.Errorf("volume %s is to be an overlay, but its source has no data", name)
	}
	return m.populate(ctx, r, active > 0, source)
}

// populate fills the volume r, whose lock is held. inUse says that a running
// container sees it.
func (m *Manager) populate(ctx context.Context, r record, inUse bool, source Source) (err error) {
	if isMount(r.Options) {
		if err := m.mountOptions(r); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.unmountIdle(r)) }()
	}
	if r, err = m.settleCopy(ctx, r); err != nil {
		return err
	}
	entries, err := os.ReadDir(m.data(r.Name))
	if err != nil || len(entries) > 0 {
		return err
	}
	if source.Data && r.Anonymous && m.cfg.Layers != nil && !inUse && !isMount(r.Options) {
		return m.fillOverlay(ctx, r, source)
	}
	view, err := m.openView(source.Mounts)
	if err != nil {
		return fmt.Errorf("opening the image: %w", err)
	}
	defer func() { err = errors.Join(err, view.close()) }()
	dir, err := view.find(source.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !dir.isDir {
		if r.Anonymous {
			return invalid("cannot mount volume over existing file, file exists %s", source.Path)
		}
		return nil
	}
	if inUse || isMount(r.Options) {
		return m.fillInside(ctx, r, dir, source)
	}
	return m.fillCopy(ctx, r, view, dir, source)
}

// fillCopy copies the directory, by reflink where that is possible, beside the
// volume's data and puts it in place when it is complete.
func (m *Manager) fillCopy(ctx context.Context, r record, view *view, dir found, source Source) error {
	filling := filepath.Join(m.dir(r.Name), fillDir)
	if err := os.RemoveAll(filling); err != nil {
		return err
	}
	reflinked, err := m.copyTree(ctx, view, dir, filling, source.Data)
	if err == nil {
		failpoint.Hit("volume.populate.copied")
		err = syncTree(ctx, filling, reflinked)
	}
	if err == nil && source.Data {
		failpoint.Hit("volume.populate.synced")
		// Else, after a crash, the copy would be taken for a database that has had
		// its first start, and would not be made harmless.
		r, err = m.recordCopy(r, source.filled(copyMethod(reflinked), dir.sub))
	}
	if err == nil {
		failpoint.Hit("volume.populate.pending")
		err = m.putInPlace(r.Name, filling)
	}
	if err != nil {
		_, settleErr := m.settleCopy(ctx, r)
		return errors.Join(fmt.Errorf("copying %s: %w", source.Path, err), settleErr, os.RemoveAll(filling))
	}
	failpoint.Hit("volume.populate.renamed")
	if _, err := m.copied(r, r.Filled); err != nil {
		return err
	}
	failpoint.Hit("volume.populate.settled")
	return nil
}

func copyMethod(reflinked bool) string {
	if reflinked {
		return MethodReflink
	}
	return MethodCopy
}

// putInPlace makes the complete copy the volume's data.
func (m *Manager) putInPlace(name, filling string) error {
	if err := replaceEmpty(filling, m.data(name)); err != nil {
		return err
	}
	return syncDir(m.dir(name))
}

// unfill takes back an overlay that was not finished: the volume is empty.
func (m *Manager) unfill(ctx context.Context, r record) error {
	if err := m.unmountAll(r.Name); err != nil {
		return err
	}
	if m.cfg.Layers != nil {
		if err := m.cfg.Layers.Remove(ctx, r.key()); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing an unfinished snapshot: %w", err)
		}
	}
	r.Filling, r.Filled = false, nil
	return m.replace(r)
}

// ensureMounted mounts the volume if it needs that and is not mounted: at a
// container's start, after a reboot, or after somebody unmounted it. What was
// not settled of a copy is.
func (m *Manager) ensureMounted(ctx context.Context, r record) (err error) {
	if r.damaged {
		return errDamaged(r.Name)
	}
	if err := m.makeDirs(r.Name); err != nil {
		return err
	}
	if isMount(r.Options) {
		if err := m.mountOptions(r); err != nil {
			return err
		}
	}
	if r, err = m.settleCopy(ctx, r); err != nil {
		return err
	}
	if !r.isOverlay() {
		return nil
	}
	return m.mountOverlay(ctx, r)
}

// snapshot returns the mounts of an overlay's snapshot, or a NotFound error.
func (m *Manager) snapshot(ctx context.Context, r record) ([]mount.Mount, error) {
	if m.cfg.Layers == nil {
		return nil, errdefs.ErrNotFound
	}
	return m.cfg.Layers.Mounts(ctx, r.key())
}

// Upper returns, of a volume that is an overlay, what a commit takes; ok is false
// for any other volume.
func (m *Manager) Upper(ctx context.Context, name string) (u Upper, ok bool, err error) {
	r, _, _, found := m.lookup(name)
	if !found {
		return Upper{}, false, errNoSuchVolume(name)
	}
	if r.damaged {
		return Upper{}, false, errDamaged(name) // what its directory shows may not be all
	}
	if !r.isOverlay() {
		return Upper{}, false, nil
	}
	u, err = m.overlayUpper(ctx, r)
	if err != nil {
		return Upper{}, false, fmt.Errorf("volume %s: %w", name, err)
	}
	return u, true, nil
}
