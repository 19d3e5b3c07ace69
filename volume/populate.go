package volume

import (
	"context"
	"fmt"
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

// labels are what a snapshot remembers of the source.
func (s *Source) labels() map[string]string {
	labels := map[string]string{parentLabel: s.Parent}
	if len(s.Path) <= maxLabel {
		labels[pathLabel] = s.Path
	}
	return labels
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
