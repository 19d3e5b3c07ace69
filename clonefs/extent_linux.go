package clonefs

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ioctlFIEMAP   = 0xc020660b // _IOWR('f', 11, fiemapHeader)
	fiemapSync    = 0x1
	fiemapBatch   = 8192
	fiemapHdrSize = int(unsafe.Sizeof(fiemapHeader{}))

	extentLast      = 0x1
	extentUnknown   = 0x2
	extentDelalloc  = 0x4
	extentEncoded   = 0x8
	extentEncrypted = 0x80
	extentUnaligned = 0x100
	extentInline    = 0x200
	extentTail      = 0x400
	extentUnwritten = 0x800
	extentShared    = 0x2000

	// extentOpaque extents do not say where their content is.
	extentOpaque = extentUnknown | extentDelalloc | extentEncoded | extentEncrypted | extentUnaligned | extentInline | extentTail
)

type fiemapHeader struct {
	start, length                  uint64
	flags, mapped, count, reserved uint32
}

type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

// extent is a run of a file's blocks; offsets and length are bytes.
type extent struct {
	logical, physical, length uint64
	flags                     uint32
}

func (e extent) end() uint64 { return e.logical + e.length }

// span is a range of a file in bytes.
type span struct {
	start, end uint64
}

// mapper reads extent maps. Its buffer is used again and again.
type mapper struct {
	buf []uint64 // for the alignment
}

// read returns the file's extents that hold data, in order; holes and
// unwritten extents, which read as zeros alike, are left out. With flush the
// file's dirty pages are written first, so that every block has its place.
func (m *mapper) read(fd int, flush bool) ([]extent, error) {
	if m.buf == nil {
		m.buf = make([]uint64, (fiemapHdrSize+fiemapBatch*int(unsafe.Sizeof(fiemapExtent{})))/8)
	}
	header := (*fiemapHeader)(unsafe.Pointer(&m.buf[0])) //nolint:gosec // an ioctl's argument
	var out []extent
	var start uint64
	for {
		*header = fiemapHeader{start: start, length: ^uint64(0) - start, count: fiemapBatch}
		if flush && start == 0 {
			header.flags = fiemapSync
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlFIEMAP, uintptr(unsafe.Pointer(header))) //nolint:gosec // an ioctl's argument
		if errno != 0 {
			if errors.Is(errno, unix.EINTR) {
				continue
			}
			return nil, os.NewSyscallError("fiemap", errno)
		}
		if header.mapped == 0 {
			return out, nil
		}
		batch := unsafe.Slice((*fiemapExtent)(unsafe.Pointer(&m.buf[fiemapHdrSize/8])), header.mapped) //nolint:gosec // the kernel wrote so many
		for i := range batch {
			e := &batch[i]
			if e.flags&extentUnwritten == 0 || e.flags&extentDelalloc != 0 {
				out = append(out, extent{e.logical, e.physical, e.length, e.flags})
			}
		}
		last := &batch[len(batch)-1]
		start = last.logical + last.length
		if last.flags&extentLast != 0 {
			return out, nil
		}
	}
}

// differences returns, in order and merged where they touch, the ranges in
// which src and dst do not refer to the same blocks. Where both have a hole
// they are alike.
func differences(src, dst []extent) []span {
	var out []span
	add := func(start, end uint64) {
		if n := len(out); n > 0 && out[n-1].end == start {
			out[n-1].end = end
		} else if start < end {
			out = append(out, span{start, end})
		}
	}
	var s, d int
	var pos uint64
	for s < len(src) || d < len(dst) {
		// Both lists are cut at every border of either: [pos, next) lies within one
		// extent or one hole of each.
		next := ^uint64(0)
		inSrc, inDst := false, false
		if s < len(src) {
			inSrc, next = border(src[s], pos, next)
		}
		if d < len(dst) {
			inDst, next = border(dst[d], pos, next)
		}
		if inSrc != inDst || inSrc && !src[s].sameBlock(dst[d], pos) {
			add(pos, next)
		}
		pos = next
		for s < len(src) && src[s].end() <= pos {
			s++
		}
		for d < len(dst) && dst[d].end() <= pos {
			d++
		}
	}
	return out
}

// border says whether pos is in e, and where that changes next, at most at limit.
func border(e extent, pos, limit uint64) (inside bool, next uint64) {
	if pos < e.logical {
		return false, min(e.logical, limit)
	}
	return true, min(e.end(), limit)
}

// sameBlock says whether both extents have the same block at pos.
func (e extent) sameBlock(o extent, pos uint64) bool {
	if (e.flags|o.flags)&extentOpaque != 0 {
		return false
	}
	return e.physical+(pos-e.logical) == o.physical+(pos-o.logical)
}
