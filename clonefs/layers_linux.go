package clonefs

import (
	"golang.org/x/sys/unix"
)

// source is one directory that a directory of the clone is made from: several,
// top first, where layers are merged.
type source struct {
	fd    int
	layer int // 0 is the top
}

func closeSources(srcs []source) {
	for _, s := range srcs {
		closeFD(s.fd)
	}
}

// listed is a name of the result and where it comes from.
type listed struct {
	name   string
	from   []int // indices of the sources; several only for a merged directory
	opaque bool  // a directory that hides those of layers below the given ones
}

var onlySource = []int{0}

// list returns the names of a directory of the result. In a sealed one nothing
// below can show through, and overlayfs would list a whiteout like a file.
func (t *tree) list(srcs []source, sealed bool) ([]listed, error) {
	if !t.layered {
		ents, err := readDir(srcs[0].fd, t.buf)
		if err != nil {
			return nil, err
		}
		out := make([]listed, len(ents))
		for i, e := range ents {
			out[i] = listed{name: e.name, from: onlySource}
		}
		return out, nil
	}
	return t.merge(srcs, t.spec.KeepWhiteouts && !sealed)
}

// merged is a name during a merge.
type merged struct {
	listed
	hidden bool // the topmost is a whiteout that the result does not need
	closed bool // what lies below is hidden
}

// merge lists several layers of one directory as overlayfs would show it, with
// keep including what a layer below them would need.
func (t *tree) merge(srcs []source, keep bool) ([]listed, error) {
	byName := map[string]*merged{}
	var order []*merged
	for i, s := range srcs {
		ents, err := readDir(s.fd, t.buf)
		if err != nil {
			return nil, err
		}
		hasXattrWhiteouts, err := t.hasAttribute(place{s.fd, "."}, overlayOpaque, "x")
		if err != nil {
			return nil, err
		}
		for _, e := range ents {
			m := byName[e.name]
			if m != nil && m.closed {
				continue
			}
			if m == nil {
				m = &merged{listed: listed{name: e.name}}
				byName[e.name] = m
				order = append(order, m)
			}
			if err := t.mergeEntry(m, i, place{s.fd, e.name}, e.typ, hasXattrWhiteouts, keep); err != nil {
				return nil, err
			}
		}
	}
	out := make([]listed, 0, len(order))
	for _, m := range order {
		if m.hidden {
			continue
		}
		m.opaque = m.opaque && keep
		out = append(out, m.listed)
	}
	return out, nil
}

// mergeEntry adds what layer i has at a name that the layers above left open.
func (t *tree) mergeEntry(m *merged, i int, p place, typ uint8, xattrWhiteouts, keep bool) error {
	isDir, whiteout, err := t.classify(p, typ, xattrWhiteouts)
	if err != nil {
		return ignoreVanished(err)
	}
	first := len(m.from) == 0
	if !isDir {
		m.closed = true
		if first {
			m.hidden = whiteout && !keep
			m.from = []int{i}
		} else {
			m.opaque = true
		}
		return nil
	}
	m.from = append(m.from, i)
	opaque, err := t.hasAttribute(p, overlayOpaque, "y")
	if err != nil {
		return err
	}
	if opaque {
		m.closed, m.opaque = true, true
	}
	return nil
}

// classify says what an entry of a layer is to overlayfs. A whiteout is a
// character device 0:0, or an empty file with an attribute in a directory that
// is marked as having such.
func (t *tree) classify(p place, typ uint8, xattrWhiteouts bool) (isDir, whiteout bool, err error) {
	if typ == unix.DT_DIR {
		return true, false, nil
	}
	if typ != unix.DT_CHR && typ != unix.DT_UNKNOWN && (typ != unix.DT_REG || !xattrWhiteouts) {
		return false, false, nil
	}
	var st unix.Statx_t
	t.work.Inspected++
	if err := statAt(p.dir, p.name, &st); err != nil {
		return false, false, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return true, false, nil
	case unix.S_IFCHR:
		return false, isWhiteout(&st), nil
	case unix.S_IFREG:
		if xattrWhiteouts && st.Size == 0 {
			whiteout, err = t.hasAttribute(p, overlayWhiteout, "")
		}
	}
	return false, whiteout, err
}
