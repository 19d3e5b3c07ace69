// Package guestfiles gives database adapters the small files of a container that does not run.
//
// Every path is opened beneath the host directory that stands for the container's root or for one of its
// volumes, by the kernel's own resolution (openat2 with RESOLVE_IN_ROOT): whatever symbolic links a container has
// left, nothing outside of these directories is read or written. Only regular files are opened. Links that lead from the
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
type Tree struct{ mounts []Mount }

// New makes a tree of the container's root and its volumes. Nothing is opened before it is used.
func New(mounts ...Mount) (*Tree, error) {
	t := &Tree{}
	for _, m := range mounts {
		if !path.IsAbs(m.Path) || m.Source == "" {
			return nil, errors.New("guestfiles: a mount needs an absolute path and a source")
		}
		t.mounts = append(t.mounts, Mount{Path: path.Clean(m.Path), Source: m.Source})
	}
	// The deepest mount that holds a path decides.
	slices.SortStableFunc(t.mounts, func(a, b Mount) int { return len(b.Path) - len(a.Path) })
	return t, nil
}

// locate finds the mount that holds a container path, and the path relative to it.
func (t *Tree) locate(p string) (source, rel string, ok bool) {
	p = path.Clean("/" + p)
	for _, m := range t.mounts {
		prefix := strings.TrimSuffix(m.Path, "/")
		if p == m.Path || strings.HasPrefix(p, prefix+"/") {
			return m.Source, strings.TrimPrefix(strings.TrimPrefix(p, prefix), "/"), true
		}
	}
	return "", "", false
}
