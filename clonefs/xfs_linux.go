package clonefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctl numbers of XFS, by _IOR and _IOW of type 'X'.
const (
	xfsIOCGeometryV1    = 0x80705864 // _IOR('X', 100, xfsGeometry)
	xfsIOCGrowData      = 0x4010586e // _IOW('X', 110, xfsGrowData)
	xfsIOCFreeEOFBlocks = 0x8080583a // _IOR('X', 58, xfsEOFBlocks)
	ioctlFITRIM         = 0xc0185879 // _IOWR('X', 121, fstrimRange)
)

// xfsMinAG is the size in blocks of the smallest allocation group: a growth
// leaves a remainder smaller than that unused.
const xfsMinAG = 64

type xfsGeometry struct {
	BlockSize, RTExtSize, AGBlocks, AGCount   uint32
	LogBlocks, SectSize, InodeSize, IMaxPct   uint32
	DataBlocks, RTBlocks, RTExtents, LogStart uint64
	UUID                                      [16]byte
	SUnit, SWidth, Version, Flags             uint32
	LogSectSize, RTSectSize, DirBlockSize, _  uint32
}

type xfsGrowData struct {
	NewBlocks uint64
	IMaxPct   uint32
	_         uint32
}

type xfsEOFBlocks struct {
	Version, Flags, UID, GID, ProjID, _ uint32
	MinFileSize                         uint64
	_                                   [12]uint64
}

type fstrimRange struct {
	Start, Len, MinLen uint64
}

func ioctl[T any](f *os.File, request uintptr, arg *T) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(arg))) //nolint:gosec // an ioctl's argument
	if errno != 0 {
		return errno
	}
	return nil
}

// xfsGeometryOf asks a mounted XFS for its geometry; f is any file in it.
func xfsGeometryOf(f *os.File) (xfsGeometry, error) {
	var g xfsGeometry
	if err := ioctl(f, xfsIOCGeometryV1, &g); err != nil {
		return g, fmt.Errorf("geometry of the file system at %s: %w", f.Name(), err)
	}
	return g, nil
}

// growXFS grows a mounted XFS to so many blocks; the file system logs it.
func growXFS(f *os.File, g xfsGeometry, blocks uint64) error {
	arg := xfsGrowData{NewBlocks: blocks, IMaxPct: g.IMaxPct} // 0 here would set it to 0
	if err := ioctl(f, xfsIOCGrowData, &arg); err != nil {
		return fmt.Errorf("grow the file system at %s to %d blocks: %w", f.Name(), blocks, err)
	}
	return nil
}

// settleXFS waits until the blocks of removed files are free: XFS frees them in
// the background, for fragmented files seconds after the removal. The call's
// own purpose, trimming preallocated blocks, is kept from finding any file.
func settleXFS(f *os.File) error {
	const minFileSize = 1 << 4
	arg := xfsEOFBlocks{Version: 1, Flags: minFileSize, MinFileSize: 1 << 62}
	return ioctl(f, xfsIOCFreeEOFBlocks, &arg)
}

var (
	errNotXFS     = errors.New("not an XFS file system")
	errNotReflink = errors.New("an XFS file system without reflinks")
)

// xfsImageSize reads from the superblock how large the file system in an image
// file is, in bytes. It returns errNotXFS and errNotReflink for a file that
// cannot be a pool.
func xfsImageSize(f *os.File) (int64, error) {
	const (
		magicAt     = 0
		blockSizeAt = 4
		blocksAt    = 8
		versionAt   = 100
		roCompatAt  = 212 // features that an old kernel could still read
		reflinkBit  = 1 << 2
		maxBlocks   = 1 << 50
	)
	sb := make([]byte, 512)
	if _, err := f.ReadAt(sb, 0); errors.Is(err, io.EOF) {
		return 0, errNotXFS
	} else if err != nil {
		return 0, err
	}
	blockSize, blocks := binary.BigEndian.Uint32(sb[blockSizeAt:]), binary.BigEndian.Uint64(sb[blocksAt:])
	if string(sb[magicAt:magicAt+4]) != "XFSB" || blockSize < 512 || blockSize > 65536 || blocks > maxBlocks {
		return 0, errNotXFS
	}
	version := binary.BigEndian.Uint16(sb[versionAt:]) & 0xf
	if version < 5 || binary.BigEndian.Uint32(sb[roCompatAt:])&reflinkBit == 0 {
		return 0, errNotReflink
	}
	return int64(blocks) * int64(blockSize), nil
}
