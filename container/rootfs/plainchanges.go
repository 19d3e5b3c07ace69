package rootfs

import (
	"context"
	"path"
	"slices"
	"strings"

	mobycontainer "github.com/moby/moby/api/types/container"

	"slipway/internal/winpath"
	"slipway/layerstore/dirs"
)

// plainChanges lists what differs between a container's directory and that of the snapshot it was made on, by path, as
// docker diff does: what was added, what was changed, with every folder above a change, and what was deleted. A file
// counts as unchanged if its size and time are the same.
//
// exclude are paths (mount points) that were made for the container, not by it: they, and what was made only to hold
// them, are left out. own are folders that every container is given; they are left out if the container put nothing
// into them.
func plainChanges(ctx context.Context, lower, upper string, exclude, own []string) ([]mobycontainer.FilesystemChange, error) {
	d := &plainDiffer{kinds: map[string]mobycontainer.ChangeType{}, names: map[string]string{}, excluded: map[string]bool{}, held: map[string]bool{}}
	for _, list := range [][]string{exclude, own} {
		for _, p := range list {
			place, _, err := inside(p)
			if err != nil {
				continue // what is no path is no change
			}
			for up := winpath.Fold(place); up != "."; up = path.Dir(up) {
				d.held[up] = true
			}
		}
	}
	for _, p := range exclude {
		if place, _, err := inside(p); err == nil {
			d.excluded[winpath.Fold(place)] = true
		}
	}
	if err := dirs.Changes(ctx, lower, upper, false, d.note); err != nil {
		return nil, err
	}
	return d.list(), nil
}

type plainDiffer struct {
	excluded map[string]bool // not looked at
	held     map[string]bool // made for the container
	kinds    map[string]mobycontainer.ChangeType
	names    map[string]string // as they are written, by how they are compared
}

// note takes one difference, a folder's before those of what is in it.
func (d *plainDiffer) note(c dirs.Change) error {
	key := winpath.Fold(c.Path)
	for up := key; up != "."; up = path.Dir(up) {
		if d.excluded[up] {
			return nil
		}
	}
	kind := map[dirs.Kind]mobycontainer.ChangeType{
		dirs.Added: mobycontainer.ChangeAdd, dirs.Modified: mobycontainer.ChangeModify, dirs.Deleted: mobycontainer.ChangeDelete,
	}[c.Kind]
	d.kinds[key], d.names[key] = kind, c.Path
	for up := path.Dir(c.Path); up != "."; up = path.Dir(up) {
		if _, ok := d.kinds[winpath.Fold(up)]; ok {
			break
		}
		d.kinds[winpath.Fold(up)], d.names[winpath.Fold(up)] = mobycontainer.ChangeModify, up
	}
	return nil
}

// list is what is left without the folders that were made for the container and have nothing else in them.
func (d *plainDiffer) list() []mobycontainer.FilesystemChange {
	keys := make([]string, 0, len(d.kinds))
	for key := range d.kinds {
		keys = append(keys, key)
	}
	// What is deeper comes first, so that a folder is looked at when what is in it has been.
	slices.SortFunc(keys, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	filled := map[string]bool{}
	changes := []mobycontainer.FilesystemChange{}
	for _, key := range keys {
		// A folder above that is listed only because of it was noted when it came.
		if d.held[key] && d.kinds[key] != mobycontainer.ChangeDelete && !filled[key] {
			continue
		}
		filled[path.Dir(key)] = true
		changes = append(changes, mobycontainer.FilesystemChange{Kind: d.kinds[key], Path: winpath.Absolute(d.names[key])})
	}
	slices.SortFunc(changes, func(a, b mobycontainer.FilesystemChange) int { return strings.Compare(a.Path, b.Path) })
	return changes
}
