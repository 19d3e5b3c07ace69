package clonefs

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Measure adds up the disk space of the tree at dir. Files that come and go
// meanwhile are counted or not. Where the file system cannot tell shared from
// unshared blocks, all count as unique.
func Measure(ctx context.Context, dir string) (Usage, error) {
	m := &measure{seen: map[fileID]struct{}{}, buf: make([]byte, 64<<10)}
	fd, err := openAt(unix.AT_FDCWD, dir, openDir, 0)
	if err != nil {
		return Usage{}, fmt.Errorf("measure %s: %w", dir, err)
	}
	defer closeFD(fd)
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		return Usage{}, fmt.Errorf("measure %s: %w", dir, err)
	}
	m.count(&st)
	if err := m.directory(ctx, fd); err != nil {
		return Usage{}, fmt.Errorf("measure %s: %w", dir, err)
	}
	m.usage.Unique = m.usage.Allocated - m.usage.Shared
	return m.usage, nil
}

type measure struct {
	usage Usage
	seen  map[fileID]struct{} // files with several names
	buf   []byte
	maps  mapper
}

func (m *measure) directory(ctx context.Context, fd int) error {
	ents, err := readDir(fd, m.buf)
	if err != nil {
		return err
	}
	var st unix.Statx_t
	for _, e := range ents {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := statAt(fd, e.name, &st); err != nil {
			if ignoreVanished(err) == nil {
				continue
			}
			return fmt.Errorf("%q: %w", e.name, err)
		}
		if !m.count(&st) {
			continue
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			err = m.subdirectory(ctx, fd, e.name)
		case unix.S_IFREG:
			if st.Blocks > 0 {
				err = m.file(fd, e.name, int64(st.Blocks)*512) //nolint:gosec // disk sizes fit
			}
		}
		if err != nil {
			return fmt.Errorf("%q: %w", e.name, err)
		}
	}
	return nil
}

// count adds an inode; false if it was counted under another name.
func (m *measure) count(st *unix.Statx_t) bool {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := stampOf(st).fileID
		if _, ok := m.seen[id]; ok {
			return false
		}
		m.seen[id] = struct{}{}
	}
	m.usage.Files++
	m.usage.Apparent += int64(st.Size)          //nolint:gosec // file sizes fit
	m.usage.Allocated += int64(st.Blocks) * 512 //nolint:gosec // disk sizes fit
	return true
}

func (m *measure) subdirectory(ctx context.Context, dir int, name string) error {
	fd, err := openAt(dir, name, openDir, 0)
	if err != nil {
		return ignoreVanished(err)
	}
	defer closeFD(fd)
	return m.directory(ctx, fd)
}

func (m *measure) file(dir int, name string, allocated int64) error {
	fd, ok, err := openSource(place{dir, name})
	if err != nil || !ok {
		return err
	}
	defer closeFD(fd)
	extents, err := m.maps.read(fd, false)
	if err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
			return nil
		}
		return err
	}
	var shared int64
	for _, e := range extents {
		if e.flags&extentShared != 0 {
			shared += int64(e.length) //nolint:gosec // file sizes fit
		}
	}
	m.usage.Shared += min(shared, allocated)
	return nil
}
