package clonefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// tree is one Tree being copied: what the passes so far have learnt and made.
type tree struct {
	spec    Tree
	layered bool
	begun   bool // the destination is ours to empty
	made    bool // the destination directory itself is ours
	root    *node
	dst     int              // the destination directory; open during a pass
	index   map[fileID]*node // by source inode; directories and whiteouts are not in it
	cached  int              // extents held by all nodes
	stats   Stats
	work    Work
	trust   trust
	pass    passMode
	limbo   limbo

	buf   []byte // attributes and directory entries
	chunk []byte // content that must pass through memory
	maps  mapper
}

// passMode is what differs from pass to pass.
type passMode struct {
	number int
	sliced bool // a writer is alive and another pass follows
}

// node is a source inode and its clone.
type node struct {
	stamp
	mode    uint16
	trusted bool // an equal stamp proves that the inode has not changed
	copied  bool // content was copied, not reflinked
	pass    int  // the last pass that made it equal

	// Directories: where the clone is, and what it holds.
	parent   *node
	name     string
	children []child
	opaque   bool // hides, with a mark, what layers below the merged ones have
	sealed   bool // so does it or one above it: nothing below can show through

	// All others: the names of the clone, and of a large file the extents it
	// shares with the source, if they are known.
	names   []location
	extents []extent
}

// child is a name in a directory.
type child struct {
	listed
	node *node
	top  int // the layer it comes from
}

// location is a name of a clone.
type location struct {
	dir  *node
	name string
}

func newTree(spec Tree) *tree {
	return &tree{
		spec: spec, layered: len(spec.Layers) > 0, dst: -1, root: &node{},
		index: map[fileID]*node{}, buf: make([]byte, 64<<10),
	}
}

// begin checks the directories and makes the destination.
func (t *tree) begin() error {
	for _, dir := range t.sources() {
		fi, err := os.Lstat(dir)
		if err != nil {
			return fmt.Errorf("source of the copy: %w", err)
		}
		if !fi.IsDir() {
			return errdefs.ErrInvalidArgument.WithMessage(dir + " is not a directory")
		}
	}
	if err := t.trust.learn(t.sources()[0]); err != nil {
		return err
	}
	err := os.Mkdir(t.spec.Dst, 0o700)
	if err == nil {
		t.begun, t.made = true, true
		return nil
	}
	if !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("destination of the copy: %w", err)
	}
	empty, err := isEmptyDir(t.spec.Dst)
	if err != nil {
		return fmt.Errorf("destination of the copy: %w", err)
	}
	if !empty {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the destination %s is not empty", t.spec.Dst))
	}
	t.begun = true
	return nil
}

func (t *tree) sources() []string {
	if t.layered {
		return t.spec.Layers
	}
	return []string{t.spec.Src}
}

// run does one pass: afterwards the clone is what the source was.
func (t *tree) run(ctx context.Context, mode passMode) (err error) {
	t.pass = mode
	t.work.Passes++
	srcs := make([]source, 0, len(t.sources()))
	defer func() { closeSources(srcs) }()
	for i, dir := range t.sources() {
		fd, err := openAt(unix.AT_FDCWD, dir, openDir, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", dir, err)
		}
		srcs = append(srcs, source{fd: fd, layer: i})
	}
	if t.dst, err = openAt(unix.AT_FDCWD, t.spec.Dst, openDir, 0); err != nil {
		return fmt.Errorf("open %s: %w", t.spec.Dst, err)
	}
	defer func() {
		closeFD(t.dst)
		t.dst = -1
	}()
	root := &dstDir{node: t.root, fd: t.dst, borrowed: true}
	if err := t.directory(ctx, t.root, srcs, root); err != nil {
		return fmt.Errorf("clone %s: %w", t.sources()[0], err)
	}
	return t.emptyLimbo()
}

// discard removes what the passes made.
func (t *tree) discard() error {
	if t.made {
		return os.RemoveAll(t.spec.Dst)
	}
	f, err := os.Open(t.spec.Dst)
	if err != nil {
		return ignoreMissing(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(t.spec.Dst, name)))
	}
	return err
}

// directory makes the clone of one directory, and all below it, equal.
func (t *tree) directory(ctx context.Context, n *node, srcs []source, dst *dstDir) error {
	var st unix.Statx_t
	t.work.Inspected++
	if err := statFD(srcs[0].fd, &st); err != nil {
		return err
	}
	stale := n.pass == 0 || !n.isUnchanged(&st)
	list := n.children
	if stale {
		trusted := t.trust.metadata(&st) // before the listing
		names, err := t.list(srcs, n.sealed)
		if err != nil {
			return err
		}
		list = matchUp(names, n.children)
		n.stamp, n.mode, n.trusted = stampOf(&st), st.Mode, trusted
	}
	before := n.children
	kept := make([]child, 0, len(list))
	var gone []child
	touched := false
	for _, c := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		was := c.node
		ok, err := t.entry(ctx, n, &c, srcs, dst)
		if err != nil {
			return fmt.Errorf("%q: %w", c.name, err)
		}
		if ok {
			kept = append(kept, c)
		} else if was != nil {
			c.node = was
			gone = append(gone, c)
		}
		touched = touched || c.node != was
	}
	if stale {
		gone = append(gone, missing(before, list)...)
	}
	for _, c := range gone {
		touched = true
		if err := t.evict(n, c, dst); err != nil {
			return fmt.Errorf("%q: %w", c.name, err)
		}
	}
	n.children = kept
	if stale || touched {
		fd, err := dst.open()
		if err != nil {
			return err
		}
		if err := t.refresh(n, place{fd, "."}, place{srcs[0].fd, "."}, &st); err != nil {
			return err
		}
	}
	n.pass = t.pass.number
	return nil
}

// entry makes the clone of one name equal. It returns false if the source's
// name has vanished since it was listed; a clone at c.node is then still there.
func (t *tree) entry(ctx context.Context, dir *node, c *child, srcs []source, dst *dstDir) (bool, error) {
	top := srcs[c.from[0]]
	if t.layered && top.layer > 0 && c.node != nil && c.top == top.layer {
		return true, nil // lower layers do not change
	}
	c.top = top.layer
	var st unix.Statx_t
	t.work.Inspected++
	if err := statAt(top.fd, c.name, &st); err != nil {
		return false, ignoreVanished(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return t.subdirectory(ctx, dir, c, srcs, dst, &st)
	}
	return t.file(ctx, dir, c, place{top.fd, c.name}, dst, &st)
}

func (t *tree) subdirectory(ctx context.Context, dir *node, c *child, srcs []source, dst *dstDir, st *unix.Statx_t) (bool, error) {
	below := make([]source, 0, len(c.from))
	defer func() { closeSources(below) }()
	for _, i := range c.from {
		fd, err := openAt(srcs[i].fd, c.name, openDir, 0)
		if err != nil {
			return false, ignoreVanished(err)
		}
		below = append(below, source{fd: fd, layer: srcs[i].layer})
	}
	if c.node != nil && (!c.node.isDir() || !c.node.isSameInode(stampOf(st))) {
		if err := t.evict(dir, *c, dst); err != nil {
			return false, err
		}
		c.node = nil
	}
	if c.node == nil {
		fd, err := dst.open()
		if err != nil {
			return false, err
		}
		if err := unix.Mkdirat(fd, c.name, 0o700); err != nil {
			return false, fmt.Errorf("make directory: %w", err)
		}
		c.node = &node{parent: dir, name: c.name, mode: unix.S_IFDIR}
		t.stats.Directories++
		t.work.Created++
	}
	sub := &dstDir{node: c.node, parent: dst, fd: -1}
	defer sub.close()
	c.node.opaque = c.opaque
	c.node.sealed = c.opaque || dir.sealed
	return true, t.directory(ctx, c.node, below, sub)
}

func (n *node) isDir() bool { return n.mode&unix.S_IFMT == unix.S_IFDIR }

// isUnchanged says whether the inode is for certain what it was when its stamp
// was recorded.
func (n *node) isUnchanged(st *unix.Statx_t) bool {
	return n.trusted && n.stamp == stampOf(st) && n.mode == st.Mode
}

// ignoreVanished drops the errors that a name gives which is gone, or is
// another kind of file by now.
func ignoreVanished(err error) error {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENXIO, unix.ESTALE} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// matchUp gives the names of a new listing the nodes of the old one.
func matchUp(names []listed, old []child) []child {
	known := make(map[string]*child, len(old))
	for i := range old {
		known[old[i].name] = &old[i]
	}
	out := make([]child, len(names))
	for i, l := range names {
		out[i].listed = l
		if c := known[l.name]; c != nil {
			out[i].node, out[i].top = c.node, c.top
		}
	}
	return out
}

// missing returns the children that a new listing lacks.
func missing(old, list []child) []child {
	if len(old) == 0 {
		return nil
	}
	there := make(map[string]struct{}, len(list))
	for i := range list {
		there[list[i].name] = struct{}{}
	}
	var out []child
	for _, c := range old {
		if _, ok := there[c.name]; !ok {
			out = append(out, c)
		}
	}
	return out
}
