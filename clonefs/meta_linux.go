package clonefs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	overlayPrefix   = "trusted.overlay."
	overlayEscaped  = "trusted.overlay.overlay." // an attribute of an overlay inside the container
	overlayOpaque   = "trusted.overlay.opaque"
	overlayWhiteout = "trusted.overlay.whiteout"
	overlayRedirect = "trusted.overlay.redirect"
	overlayMetacopy = "trusted.overlay.metacopy"
	selinuxLabel    = "security.selinux"
)

// errVanished: the source has lost its name since its status was read.
var errVanished = errors.New("source vanished")

// place is a name in an open directory.
type place struct {
	dir  int
	name string
}

// refresh makes owner, mode, attributes and times of dst those of src, in the
// order in which one does not undo another: changing the owner clears set-id
// bits and capabilities, writing an attribute changes nothing before it.
func (t *tree) refresh(n *node, dst, src place, st *unix.Statx_t) error {
	t.work.Refreshed++
	if err := unix.Fchownat(dst.dir, dst.name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dst.dir, dst.name, uint32(st.Mode)&0o7777, 0); err != nil {
			return fmt.Errorf("mode: %w", err)
		}
	}
	err := t.copyAttributes(procPath(dst.dir, dst.name), procPath(src.dir, src.name), n.opaque)
	if errors.Is(err, errVanished) {
		n.trusted = false
	} else if err != nil {
		return err
	}
	times := []unix.Timespec{
		{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)},
		{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
	}
	if err := unix.UtimesNanoAt(dst.dir, dst.name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}

// copyAttributes makes dst's extended attributes those of src. opaque marks a
// merged directory that hides what is below it.
func (t *tree) copyAttributes(dst, src string, opaque bool) error {
	want, err := t.listAttributes(src)
	if err != nil && ignoreVanished(err) == nil {
		return errVanished
	}
	if err != nil {
		return err
	}
	if want, err = t.filterAttributes(want); err != nil {
		return err
	}
	have, err := t.listAttributes(dst)
	if err != nil {
		return err
	}
	for _, name := range have {
		if name == selinuxLabel || slices.Contains(want, name) || (opaque && name == overlayOpaque) {
			continue // a label cannot be removed, only replaced
		}
		if err := unix.Lremovexattr(dst, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("remove attribute %s: %w", name, err)
		}
	}
	for _, name := range want {
		value, err := t.attribute(src, name)
		if errors.Is(err, unix.ENODATA) {
			continue // gone since it was listed
		}
		if err != nil && ignoreVanished(err) == nil {
			return errVanished
		}
		if err == nil {
			err = unix.Lsetxattr(dst, name, value, 0)
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	if opaque {
		if err := unix.Lsetxattr(dst, overlayOpaque, []byte("y"), 0); err != nil {
			return fmt.Errorf("attribute %s: %w", overlayOpaque, err)
		}
	}
	return nil
}

// filterAttributes drops from a merged tree what only has a meaning in the
// layer it came from, and refuses what says that the data is elsewhere.
func (t *tree) filterAttributes(names []string) ([]string, error) {
	if !t.layered {
		return names, nil
	}
	for _, name := range names {
		if name == overlayRedirect || name == overlayMetacopy {
			return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("a layer has the attribute %s, so its files are not complete by themselves: it was mounted with redirect_dir or metacopy, which cannot be merged", name))
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, overlayPrefix) && !strings.HasPrefix(name, overlayEscaped)
	}), nil
}

// listAttributes lists the attributes of a path, not following a symbolic link
// at its end.
func (t *tree) listAttributes(path string) ([]string, error) {
	for {
		n, err := unix.Llistxattr(path, t.buf)
		switch {
		case errors.Is(err, unix.ERANGE):
			t.buf = make([]byte, 2*len(t.buf))
			continue
		case errors.Is(err, unix.EOPNOTSUPP), n == 0 && err == nil:
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("list attributes: %w", err)
		}
		var names []string
		for name := range bytes.SplitSeq(bytes.TrimRight(t.buf[:n], "\x00"), []byte{0}) {
			names = append(names, string(name))
		}
		return names, nil
	}
}

// attribute returns a value that is valid until the next use of t.buf.
func (t *tree) attribute(path, name string) ([]byte, error) {
	for {
		n, err := unix.Lgetxattr(path, name, t.buf)
		if errors.Is(err, unix.ERANGE) {
			t.buf = make([]byte, 2*len(t.buf))
			continue
		}
		if err != nil {
			return nil, err
		}
		return t.buf[:n], nil
	}
}

// hasAttribute says whether an attribute has this value; any value if empty.
func (t *tree) hasAttribute(p place, name, value string) (bool, error) {
	got, err := t.attribute(procPath(p.dir, p.name), name)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("attribute %s of %q: %w", name, p.name, err)
	}
	return value == "" || string(got) == value, nil
}
