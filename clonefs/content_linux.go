package clonefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// sliceSize bounds one reflink call beside a live writer. The call holds the
	// inode's lock for about 18 µs per extent, 40 ms at worst for 8 MiB of 4 KiB
	// extents; a whole fragmented file would take seconds.
	sliceSize = 8 << 20
	// deltaSize is the size from which a changed file is compared by extent map.
	// Below, taking all of it anew is cheaper than comparing.
	deltaSize = 1 << 20
	copyChunk = 4 << 20
	// maxCached bounds the memory for extents that are kept between passes, at 32
	// bytes each.
	maxCached = 4 << 20
)

// errChanged: the file changed under a pass that runs beside the writer. The
// next pass takes it again.
var errChanged = errors.New("file changed while it was cloned")

// fill makes the content of the new, empty file dst that of src.
func (t *tree) fill(ctx context.Context, n *node, src, dst int) error {
	if n.size == 0 {
		return nil
	}
	err := t.reflinkAll(ctx, n, src, dst)
	if err != nil && isRefused(err) {
		n.copied = true
		return t.copyAll(ctx, n, src, dst)
	}
	return err
}

// renew makes the content of dst, which an earlier pass filled, that of src.
func (t *tree) renew(ctx context.Context, n *node, src, dst int) error {
	if n.copied {
		return t.renewAll(ctx, n, src, dst)
	}
	if t.trust.magic == unix.XFS_SUPER_MAGIC {
		return t.reflinkAgain(ctx, n, src, dst)
	}
	if n.size < deltaSize {
		return t.renewAll(ctx, n, src, dst)
	}
	return t.renewChanged(ctx, n, src, dst)
}

// reflinkAgain takes the whole file over its earlier clone. XFS (since Linux
// 5.9) passes over extents that both have already, for 0.65 µs each. That is a
// quarter of what reading one of them costs in an extent map, and a
// twenty-fifth of taking it.
func (t *tree) reflinkAgain(ctx context.Context, n *node, src, dst int) error {
	t.work.Compared++
	if sizeChanged(dst, n.size) {
		if err := unix.Ftruncate(dst, int64(n.size)); err != nil { //nolint:gosec // file sizes fit
			return err
		}
	}
	if n.size == 0 {
		return nil
	}
	err := t.reflinkAll(ctx, n, src, dst)
	if err != nil && isRefused(err) {
		return t.renewAll(ctx, n, src, dst)
	}
	return err
}

// renewChanged takes the ranges whose blocks are not the same.
func (t *tree) renewChanged(ctx context.Context, n *node, src, dst int) error {
	t.work.Compared++
	want, err := t.maps.read(src, true)
	if err != nil {
		return t.renewAll(ctx, n, src, dst)
	}
	if err := unix.Ftruncate(dst, int64(n.size)); err != nil { //nolint:gosec // file sizes fit
		return err
	}
	have := n.extents
	if have == nil {
		if have, err = t.maps.read(dst, true); err != nil {
			return t.renewAll(ctx, n, src, dst)
		}
		t.work.Extents += int64(len(have))
	}
	t.work.Extents += int64(len(want))
	spans := differences(want, have)
	t.forgetExtents(n)
	for _, r := range spans {
		if err := t.reflinkSpan(ctx, n, src, dst, r); err != nil {
			if isRefused(err) {
				return t.renewAll(ctx, n, src, dst)
			}
			return err
		}
	}
	return nil
}

// keepExtents remembers the extents of a clone for the next pass, which then
// needs not read them under the freeze. The clone refers to them, so they are
// not overwritten in place or used again meanwhile.
func (t *tree) keepExtents(n *node, dst int) {
	t.forgetExtents(n)
	if !t.pass.sliced || n.copied || t.trust.magic == unix.XFS_SUPER_MAGIC || n.size < deltaSize || t.cached > maxCached {
		return
	}
	extents, err := t.maps.read(dst, false)
	if err != nil {
		return // the next pass reads them, or does without
	}
	n.extents = slices.Clip(extents)
	t.cached += len(extents)
}

func (t *tree) forgetExtents(n *node) {
	t.cached -= len(n.extents)
	n.extents = nil
}

// renewAll takes a file anew.
func (t *tree) renewAll(ctx context.Context, n *node, src, dst int) error {
	if err := unix.Ftruncate(dst, 0); err != nil {
		return err
	}
	n.copied = false
	return t.fill(ctx, n, src, dst)
}

// reflinkAll takes a whole file: in one piece, which is atomic, or beside a
// live writer that a later pass follows in slices.
func (t *tree) reflinkAll(ctx context.Context, n *node, src, dst int) error {
	if n.size > sliceSize && t.pass.sliced {
		if err := unix.Ftruncate(dst, int64(n.size)); err != nil { //nolint:gosec // file sizes fit
			return err
		}
		return t.reflinkSpan(ctx, n, src, dst, span{0, n.size})
	}
	t.work.Ranges++
	for {
		err := unix.IoctlFileClone(dst, src)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil {
			t.work.BytesCloned += int64(n.size) //nolint:gosec // file sizes fit
		}
		return err
	}
}

// reflinkSpan takes one range. Its ends are block borders or the end of file.
func (t *tree) reflinkSpan(ctx context.Context, n *node, src, dst int, r span) error {
	r.end = min(r.end, n.size)
	for start := r.start; start < r.end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		end := r.end
		if t.pass.sliced {
			end = min(end, start+sliceSize)
		}
		arg := unix.FileCloneRange{Src_fd: int64(src), Src_offset: start, Src_length: end - start, Dest_offset: start}
		t.work.Ranges++
		err := unix.IoctlFileCloneRange(dst, &arg)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL) && sizeChanged(src, n.size):
			return errChanged
		case err != nil:
			return err
		}
		t.work.BytesCloned += int64(end - start) //nolint:gosec // file sizes fit
		start = end
	}
	return nil
}

func sizeChanged(fd int, size uint64) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && uint64(st.Size) != size //nolint:gosec // file sizes are positive
}

// copyAll copies the data of a file, not its holes.
func (t *tree) copyAll(ctx context.Context, n *node, src, dst int) error {
	size := int64(n.size) //nolint:gosec // file sizes fit
	if err := unix.Ftruncate(dst, size); err != nil {
		return err
	}
	for pos := int64(0); pos < size; {
		data, err := unix.Seek(src, pos, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return nil // a hole up to the end
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return t.copyRange(ctx, src, dst, pos, size) // knows no holes
		case err != nil:
			return fmt.Errorf("seek data: %w", err)
		}
		hole, err := unix.Seek(src, data, unix.SEEK_HOLE)
		if err != nil {
			if errors.Is(err, unix.ENXIO) {
				return errChanged // cut off behind data
			}
			return fmt.Errorf("seek hole: %w", err)
		}
		if err := t.copyRange(ctx, src, dst, data, min(hole, size)); err != nil {
			return err
		}
		pos = hole
	}
	return nil
}

// copyRange copies [pos, end) by the kernel where it can, else through memory.
func (t *tree) copyRange(ctx context.Context, src, dst int, pos, end int64) error {
	for pos < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		in, out := pos, pos
		n, err := unix.CopyFileRange(src, &in, dst, &out, int(min(end-pos, copyChunk)), 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil && isRefused(err) {
			n, err = t.copyThrough(src, dst, pos, end)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errChanged // shorter than it was
		}
		pos += int64(n)
		t.work.BytesCopied += int64(n)
	}
	return nil
}

func (t *tree) copyThrough(src, dst int, pos, end int64) (int, error) {
	if t.chunk == nil {
		t.chunk = make([]byte, 1<<20)
	}
	n, err := unix.Pread(src, t.chunk[:min(end-pos, int64(len(t.chunk)))], pos)
	if err != nil || n == 0 {
		return 0, err
	}
	written, err := unix.Pwrite(dst, t.chunk[:n], pos)
	if err == nil && written == 0 {
		err = io.ErrShortWrite
	}
	return written, err
}
