// Package guestfiles gives database adapters the small files of a container that does not run.
//
// Every path is opened beneath the host directory that stands for the container's root or for one of its
// volumes, by the kernel's own resolution (openat2 with RESOLVE_IN_ROOT; on Windows one directory after the other): whatever
// symbolic links a container has left, nothing outside of these directories is read or written. Only regular files are opened. Links that lead from the
// root into a volume, or from one volume into another, are not followed to where the container would see them.
//
// The package takes no locks. Two changes of one file at the same time are the caller's to prevent.
package guestfiles

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// Mount says which host directory is seen at a path of the container.
type Mount struct {
	// Path is absolute in the container; "/" for its root.
	Path string
	// Source is the directory on the host.
	Source string
}

// Tree is a container's files. It implements the database package's Files.
type Tree struct{ mounts []place }

// place is a [Mount] whose path is taken apart.
type place struct {
	at     []string
	source string
}

// New makes a tree of the container's root and its volumes. Nothing is opened before it is used.
func New(mounts ...Mount) (*Tree, error) {
	t := &Tree{}
	for _, m := range mounts {
		if !isAbs(m.Path) || m.Source == "" {
			return nil, errors.New("guestfiles: a mount needs an absolute path and a source")
		}
		at, err := names(m.Path)
		if err != nil {
			return nil, err
		}
		t.mounts = append(t.mounts, place{at: at, source: m.Source})
	}
	// The deepest mount that holds a path decides.
	slices.SortStableFunc(t.mounts, func(a, b place) int { return len(b.at) - len(a.at) })
	return t, nil
}

// locate finds the mount that holds a container path, and the path relative to it, "." for the mount itself.
func (t *Tree) locate(p string) (source, rel string, ok bool) {
	all, err := names(p)
	if err != nil {
		return "", "", false
	}
	for _, m := range t.mounts {
		if len(all) >= len(m.at) && slices.EqualFunc(all[:len(m.at)], m.at, sameName) {
			return m.source, path.Join(append([]string{"."}, all[len(m.at):]...)...), true
		}
	}
	return "", "", false
}

// split takes a clean path apart; "." and "" have no names.
func split(p string) []string {
	if p == "." || p == "" {
		return nil
	}
	return strings.Split(p, "/")
}
