package clonefs

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// attempts bounds how often a pass takes a file anew that keeps changing size.
const attempts = 5

// file makes the clone of one name of anything but a directory equal.
func (t *tree) file(ctx context.Context, dir *node, c *child, src place, dst *dstDir, st *unix.Statx_t) (bool, error) {
	known := t.known(st)
	if isWhiteout(st) && c.node != nil && c.node.isUnchanged(st) {
		return true, nil
	}
	if c.node != nil && c.node != known {
		if err := t.evict(dir, *c, dst); err != nil {
			return false, err
		}
		c.node = nil
	}
	switch {
	case c.node != nil:
		return t.update(ctx, known, src, place{-1, c.name}, dst, st)
	case known != nil:
		if err := t.link(known, dir, c.name, dst); err != nil {
			return false, err
		}
		c.node = known
		return t.update(ctx, known, src, place{-1, c.name}, dst, st)
	}
	n, err := t.create(ctx, src, dst, st)
	if err != nil || n == nil {
		return false, err
	}
	c.node = n
	t.enter(n, dir, c.name, isWhiteout(st))
	return true, nil
}

// isWhiteout: overlayfs makes all whiteouts of a layer hard links of one inode.
// They must not become hard links here, where each may go its own way.
func isWhiteout(st *unix.Statx_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev_major == 0 && st.Rdev_minor == 0
}

// known returns the node of an inode that has been cloned under some name.
func (t *tree) known(st *unix.Statx_t) *node {
	if isWhiteout(st) {
		return nil
	}
	s := stampOf(st)
	n := t.index[s.fileID]
	if n == nil || !n.isSameInode(s) || n.mode&unix.S_IFMT != st.Mode&unix.S_IFMT || len(n.names) == 0 {
		return nil
	}
	return n
}

// enter records a new name of a clone.
func (t *tree) enter(n, dir *node, name string, whiteout bool) {
	t.work.Created++
	n.names = append(n.names, location{dir, name})
	switch {
	case len(n.names) > 1:
		t.stats.HardLinks++
		return
	case n.mode&unix.S_IFMT == unix.S_IFREG:
		t.stats.Files++
		t.stats.Bytes += int64(n.size) //nolint:gosec // file sizes fit
	default:
		t.stats.Others++
	}
	if !whiteout {
		t.index[n.fileID] = n
	}
}

// link gives a clone a further name.
func (t *tree) link(n, dir *node, name string, dst *dstDir) error {
	fd, err := dst.open()
	if err != nil {
		return err
	}
	from, err := t.openNode(n.names[0].dir)
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	defer closeFD(from)
	if err := unix.Linkat(from, n.names[0].name, fd, name, 0); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	t.enter(n, dir, name, false)
	return nil
}

// update makes an existing clone equal, once per pass however many names it has.
func (t *tree) update(ctx context.Context, n *node, src, at place, dst *dstDir, st *unix.Statx_t) (bool, error) {
	if n.pass == t.pass.number {
		return true, nil
	}
	if n.isUnchanged(st) {
		n.pass = t.pass.number
		return true, nil
	}
	var err error
	if at.dir, err = dst.open(); err != nil {
		return false, err
	}
	if n.mode&unix.S_IFMT != unix.S_IFREG {
		n.record(st, t.trust.metadata(st))
		n.pass = t.pass.number
		return true, t.refresh(n, at, src, st)
	}
	fd, ok, err := openSource(src)
	if err != nil || !ok {
		return false, err
	}
	defer closeFD(fd)
	out, err := openAt(at.dir, at.name, unix.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("open clone: %w", err)
	}
	defer closeFD(out)
	return true, t.take(ctx, n, fd, out, at, src, t.renew)
}

// create clones an inode that has no clone yet. It returns nil if the source
// has vanished.
func (t *tree) create(ctx context.Context, src place, dst *dstDir, st *unix.Statx_t) (*node, error) {
	dir, err := dst.open()
	if err != nil {
		return nil, err
	}
	at := place{dir, src.name}
	n := &node{pass: t.pass.number}
	n.record(st, t.trust.metadata(st))
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return t.createRegular(ctx, src, at)
	case unix.S_IFLNK:
		target, err := readLink(src)
		if err != nil {
			if errors.Is(err, unix.EINVAL) { // no symbolic link any more
				return nil, nil
			}
			return nil, ignoreVanished(err)
		}
		if err := unix.Symlinkat(target, at.dir, at.name); err != nil {
			return nil, fmt.Errorf("make symbolic link: %w", err)
		}
	default:
		dev := unix.Mkdev(st.Rdev_major, st.Rdev_minor)
		if err := unix.Mknodat(at.dir, at.name, uint32(st.Mode)&unix.S_IFMT|0o600, int(dev)); err != nil { //nolint:gosec // device numbers fit
			return nil, fmt.Errorf("make node: %w", err)
		}
	}
	return n, t.refresh(n, at, src, st)
}

func (t *tree) createRegular(ctx context.Context, src, at place) (*node, error) {
	fd, ok, err := openSource(src)
	if err != nil || !ok {
		return nil, err
	}
	defer closeFD(fd)
	out, err := openAt(at.dir, at.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make file: %w", err)
	}
	defer closeFD(out)
	n := &node{mode: unix.S_IFREG}
	return n, t.take(ctx, n, fd, out, at, src, t.fill)
}

// take makes content and metadata of a clone equal: content first, because
// writing clears set-id bits and capabilities. The stamp is recorded from the
// open file before its content is read (see the package comment).
func (t *tree) take(ctx context.Context, n *node, src, dst int, at, from place, content func(context.Context, *node, int, int) error) error {
	var st unix.Statx_t
	entered := len(n.names) > 0
	for range attempts {
		if err := statFD(src, &st); err != nil {
			return err
		}
		if entered {
			t.stats.Bytes += int64(st.Size) - int64(n.size) //nolint:gosec // file sizes fit
		}
		now := t.trust.now()
		n.record(&st, false)
		err := content(ctx, n, src, dst)
		if errors.Is(err, errChanged) {
			content = t.renewAll
			continue
		}
		if err != nil {
			return fmt.Errorf("clone content: %w", err)
		}
		n.trusted = t.trust.content(&st, now, n.copied)
		t.keepExtents(n, dst)
		n.pass = t.pass.number
		return t.refresh(n, at, from, &st)
	}
	if t.pass.sliced {
		n.pass = t.pass.number // not trusted: the next pass takes it again
		return t.refresh(n, at, from, &st)
	}
	return errdefs.ErrUnavailable.WithMessage("the file changes while it is cloned: freeze or stop its writer")
}

func (n *node) record(st *unix.Statx_t, trusted bool) {
	n.stamp, n.mode, n.trusted = stampOf(st), st.Mode, trusted
}

// openSource opens a regular file. It must not wait for a FIFO, nor follow a
// link, that has just taken the file's place.
func openSource(src place) (fd int, ok bool, err error) {
	fd, err = openAt(src.dir, src.name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, false, ignoreVanished(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		closeFD(fd)
		return -1, false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		closeFD(fd)
		return -1, false, nil
	}
	return fd, true, nil
}

func readLink(src place) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(src.dir, src.name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
