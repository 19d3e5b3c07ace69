package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	mobycontainer "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// Changes lists what differs between an overlay's upper folder and the lower ones (top first), by path,
// as docker diff does: what was added, what was changed, with every folder above a change, and what was
// deleted. exclude are paths (mount points) that were made for the container, not by it: they, and what
// was made only to hold them, are left out.
func Changes(ctx context.Context, upper string, lowers, exclude []string) ([]mobycontainer.FilesystemChange, error) {
	d := &differ{exclude: map[string]bool{}}
	for _, p := range exclude {
		d.exclude[path.Clean("/"+p)] = true
	}
	var below []int
	defer func() { closeAll(below) }()
	for _, dir := range append([]string{upper}, lowers...) {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
		}
		below = append(below, fd)
	}
	if _, err := d.folder(ctx, below[0], below[1:], "/", 0); err != nil {
		return nil, err
	}
	slices.SortFunc(d.changes, func(a, b mobycontainer.FilesystemChange) int { return strings.Compare(a.Path, b.Path) })
	return d.changes, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

type differ struct {
	exclude map[string]bool
	changes []mobycontainer.FilesystemChange
}

func (d *differ) note(kind mobycontainer.ChangeType, path string) {
	d.changes = append(d.changes, mobycontainer.FilesystemChange{Kind: kind, Path: path})
}

// outcome is what a folder's content says about the folder.
type outcome struct {
	changed  bool // something beneath it is listed
	excluded bool // something in it was left out
}

// folder compares the content of an upper folder with that of the lower ones of the same name.
func (d *differ) folder(ctx context.Context, upper int, lowers []int, name string, depth int) (out outcome, err error) {
	if err := context.Cause(ctx); err != nil {
		return out, err
	}
	if depth >= maxDepth {
		return out, fmt.Errorf("%s: %w", name, unix.ENAMETOOLONG)
	}
	names, err := list(upper, name)
	if err != nil {
		return out, err
	}
	for _, n := range names {
		full := path.Join(name, n)
		if d.exclude[full] {
			out.excluded = true
			continue
		}
		changed, err := d.entry(ctx, upper, lowers, n, full, depth)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a running container removed it
		}
		if err != nil {
			return out, err
		}
		out.changed = out.changed || changed
	}
	if !opaque(upper) {
		return out, nil
	}
	hidden, err := merged(lowers, name)
	if err != nil {
		return out, err
	}
	for _, n := range hidden {
		if _, found := slices.BinarySearch(names, n); !found && !d.exclude[path.Join(name, n)] {
			d.note(mobycontainer.ChangeDelete, path.Join(name, n))
			out.changed = true
		}
	}
	return out, nil
}

// entry compares one name and reports whether it is listed.
func (d *differ) entry(ctx context.Context, upper int, lowers []int, n, full string, depth int) (bool, error) {
	fd, st, err := child(upper, n)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	old, existed, err := lookup(lowers, n)
	if err != nil {
		return false, err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case whiteout(&st):
		if existed {
			d.note(mobycontainer.ChangeDelete, full)
		}
		return existed, nil
	case !isDir:
		kind := mobycontainer.ChangeAdd
		if existed {
			kind = mobycontainer.ChangeModify
		}
		d.note(kind, full)
		return true, nil
	}
	below, err := descend(lowers, n)
	if err != nil {
		return false, err
	}
	defer closeAll(below)
	out, err := d.folder(ctx, fd, below, full, depth+1)
	if err != nil {
		return false, err
	}
	switch {
	case !existed:
		if out.excluded && !out.changed {
			return false, nil // made to hold a mount point
		}
		d.note(mobycontainer.ChangeAdd, full)
	case out.changed || differs(&st, &old, out.excluded):
		d.note(mobycontainer.ChangeModify, full)
	default:
		return false, nil
	}
	return true, nil
}

// differs compares a folder with the one that it covers. Its time says nothing if a mount point was made
// in it.
func differs(st, old *unix.Stat_t, anyTime bool) bool {
	return st.Mode != old.Mode || st.Uid != old.Uid || st.Gid != old.Gid || !anyTime && st.Mtim != old.Mtim
}

func whiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// opaque reports whether a folder hides the lower ones.
func opaque(fd int) bool {
	var b [2]byte
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Getxattr(procPath(fd), attr, b[:]); err == nil && n == 1 && b[0] == 'y' {
			return true
		}
	}
	return false
}

// lookup finds a name in lower folders as the overlay does.
func lookup(lowers []int, n string) (st unix.Stat_t, found bool, err error) {
	for _, fd := range lowers {
		err := unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return st, false, &fs.PathError{Op: "stat", Path: n, Err: err}
		}
		return st, !whiteout(&st), nil
	}
	return st, false, nil
}

// descend opens the lower folders of a name that the overlay merges.
func descend(lowers []int, n string) (below []int, err error) {
	for _, dir := range lowers {
		fd, err := unix.Openat(dir, n, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return below, nil // a file, a link or a whiteout hides what is beneath
		case err != nil:
			closeAll(below)
			return nil, &fs.PathError{Op: "open", Path: n, Err: err}
		}
		below = append(below, fd)
		if opaque(fd) {
			return below, nil
		}
	}
	return below, nil
}

// merged returns the names that lower folders show together.
func merged(lowers []int, name string) ([]string, error) {
	seen := map[string]bool{}
	for _, fd := range lowers {
		names, err := list(fd, name)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			seen[n] = true
		}
	}
	var all []string
	for n := range seen {
		_, found, err := lookup(lowers, n)
		if err != nil {
			return nil, err
		}
		if found {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}
