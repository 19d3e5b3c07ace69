package clonefs

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limbo is a directory in the destination for what has lost its name. It
// exists from the first eviction of a pass to the pass's end. A clone waits
// there, because the source file may have been renamed rather than removed:
// then it is found by its inode and linked to the new name, not cloned again.
type limbo struct {
	node    *node // nil when there is none
	count   int
	evicted []child
}

// evict takes a name out of the clone.
func (t *tree) evict(dir *node, c child, dst *dstDir) error {
	from, err := dst.open()
	if err != nil {
		return err
	}
	if t.limbo.node == nil {
		name := ".slipway-limbo-" + rand.Text()
		if err := unix.Mkdirat(t.dst, name, 0o700); err != nil {
			return fmt.Errorf("make limbo: %w", err)
		}
		t.limbo.node = &node{parent: t.root, name: name}
	}
	to, err := t.openNode(t.limbo.node)
	if err != nil {
		return fmt.Errorf("open limbo: %w", err)
	}
	defer closeFD(to)
	t.limbo.count++
	name := strconv.Itoa(t.limbo.count)
	if err := unix.Renameat(from, c.name, to, name); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	if c.node.isDir() {
		c.node.parent, c.node.name = t.limbo.node, name
	} else if i := slices.Index(c.node.names, location{dir, c.name}); i >= 0 {
		c.node.names[i] = location{t.limbo.node, name}
	}
	c.name = name
	t.limbo.evicted = append(t.limbo.evicted, c)
	return nil
}

// emptyLimbo ends a pass: what is still in limbo is gone from the source.
func (t *tree) emptyLimbo() error {
	if t.limbo.node == nil {
		return nil
	}
	for _, c := range t.limbo.evicted {
		t.forget(t.limbo.node, c)
	}
	name := t.limbo.node.name
	t.limbo = limbo{}
	if err := os.RemoveAll(filepath.Join(t.spec.Dst, name)); err != nil {
		return fmt.Errorf("empty limbo: %w", err)
	}
	// The limbo has changed the root's times.
	var st unix.Statx_t
	src, err := openAt(unix.AT_FDCWD, t.sources()[0], openDir, 0)
	if err != nil {
		return err
	}
	defer closeFD(src)
	if err := statFD(src, &st); err != nil {
		return err
	}
	return t.refresh(t.root, place{t.dst, "."}, place{src, "."}, &st)
}

// forget drops a name that has left the clone, and all below it.
func (t *tree) forget(dir *node, c child) {
	n := c.node
	if n.isDir() {
		t.stats.Directories--
		for _, below := range n.children {
			t.forget(n, below)
		}
		return
	}
	if i := slices.Index(n.names, location{dir, c.name}); i >= 0 {
		n.names = slices.Delete(n.names, i, i+1)
	}
	switch {
	case len(n.names) > 0:
		t.stats.HardLinks--
		return
	case n.mode&unix.S_IFMT == unix.S_IFREG:
		t.stats.Files--
		t.stats.Bytes -= int64(n.size) //nolint:gosec // file sizes fit
	default:
		t.stats.Others--
	}
	if t.index[n.fileID] == n {
		delete(t.index, n.fileID)
	}
}

// dstDir is a directory of the clone, opened when it is first needed: the last
// pass needs few.
type dstDir struct {
	node     *node
	parent   *dstDir
	fd       int
	borrowed bool
}

func (d *dstDir) open() (int, error) {
	if d.fd >= 0 {
		return d.fd, nil
	}
	up, err := d.parent.open()
	if err != nil {
		return -1, err
	}
	if d.fd, err = openAt(up, d.node.name, openDir, 0); err != nil {
		return -1, fmt.Errorf("open directory of the clone: %w", err)
	}
	return d.fd, nil
}

func (d *dstDir) close() {
	if !d.borrowed {
		closeFD(d.fd)
	}
}

// openNode opens a directory of the clone by its place in the tree, in pieces
// that the kernel's limit of a path's length allows.
func (t *tree) openNode(n *node) (int, error) {
	const pathLimit = 3500
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	fd := -1
	at := t.dst
	for first := true; first || len(names) > 0; first = false {
		length, count := 0, 0
		for count < len(names) && (count == 0 || length+len(names[count]) < pathLimit) {
			length += len(names[count]) + 1
			count++
		}
		path := "."
		if count > 0 {
			path = strings.Join(names[:count], "/")
		}
		next, err := openAt(at, path, openDir, 0)
		closeFD(fd)
		if err != nil {
			return -1, err
		}
		fd, at, names = next, next, names[count:]
	}
	return fd, nil
}
