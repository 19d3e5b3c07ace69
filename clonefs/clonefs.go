package clonefs

import (
	"log/slog"
	"time"
)

// The ways a pool can hold its files, as shown by `docker info`.
const (
	MethodReflink = "reflink" // a plain directory on a file system with reflinks
	MethodPool    = "pool"    // an XFS pool file behind a loop device
	MethodCopy    = "copy"    // a plain directory; clones are full copies
	// MethodBlockClone is a plain directory on a ReFS that shares blocks (Windows).
	MethodBlockClone = "block-clone"
)

// Config says where a pool is and how it is made.
type Config struct {
	// DataRoot is the daemon's data root. It must exist. Required.
	DataRoot string
	// Method forces one of the methods; empty chooses the best that works.
	Method string
	// PoolSize is the size in bytes of a new pool file. 0 means nine tenths of
	// the host's free space. A pool file that exists keeps its size.
	PoolSize int64
	// Reserve is the free space in bytes, of the pool and of the host's file
	// system alike, below which [Pool.CheckSpace] refuses new clones. 0 means
	// 5 % of the size, at least 256 MiB and at most 10 GiB.
	Reserve int64
	// Interval is the time between two looks at the free space in [Pool.Run].
	// 0 means 10 seconds.
	Interval time.Duration
	// Logger is required.
	Logger *slog.Logger
}

// Status is what `docker info` shows of a pool. Sizes are bytes.
type Status struct {
	Method     string // MethodReflink, MethodPool or MethodCopy
	Reason     string // why the method is "copy" or was forced; else empty
	FileSystem string // type of the file system that holds the files, such as "xfs"
	PoolFile   string // path of the pool file; empty unless Method is "pool"
	Device     string // loop device; empty unless Method is "pool"
	Size       int64  // of the pool's file system
	Used       int64
	Free       int64
	Reserve    int64 // free bytes of the pool that new clones may not use
	FileSize   int64 // apparent size of the pool file
	FileUsed   int64 // bytes the pool file takes on the host
	HostFree   int64 // free bytes of the file system that holds the data root
}

// Usage is the disk space of one directory tree, in bytes. A file with several
// hard links counts once.
type Usage struct {
	Files     int64 // inodes, directories included
	Apparent  int64 // sum of the file sizes
	Allocated int64 // bytes of blocks the tree refers to
	Shared    int64 // of those, bytes that other files refer to as well
	Unique    int64 // Allocated less Shared: what removing the tree would free
}

// Tree is one directory tree to copy.
type Tree struct {
	// Src is the directory to clone as it is: whiteouts and overlay attributes
	// are files and attributes like any other.
	Src string
	// Layers, if not empty, takes the place of Src: the upper directories of
	// overlayfs layers, top first, merged into one tree as overlayfs would show
	// it. Only the first may change while the copy is made.
	Layers []string
	// KeepWhiteouts keeps in a merged tree the whiteouts and opaque directories
	// that a layer below the given ones would still need. Without it the result
	// stands for itself and has neither.
	KeepWhiteouts bool
	// Dst is the directory to fill. It must be empty or absent; its parent must
	// exist. It takes on the source directory's owner, mode, times and attributes.
	Dst string
}

// Options tune a [Copy]. The zero value is right for nearly everyone.
type Options struct {
	// MaxPasses bounds the passes of Prepare: 0 means 4, 1 takes the first clone only.
	MaxPasses int
	// Logger, if set, gets a debug record per pass.
	Logger *slog.Logger
}

// Stats is what a copy holds and what it took to make it.
type Stats struct {
	Files       int64 // regular files in the result, each inode once
	Directories int64
	Others      int64 // symbolic links, devices, FIFOs, sockets
	HardLinks   int64 // further names of files counted above
	Bytes       int64 // apparent size of the files

	Prepare Work // everything before the last pass
	Finish  Work // the last pass: what is done while the writer is frozen
}

// Work is what was done in one or more passes.
type Work struct {
	Duration    time.Duration
	Passes      int
	Inspected   int64 // inodes whose status was read
	Created     int64 // new names in the result
	Compared    int64 // files of which only what changed was taken
	BytesCloned int64 // asked for by reflink: holes, and what XFS passes over, count too
	BytesCopied int64 // taken by reading and writing
	Ranges      int64 // reflink calls
	Extents     int64 // extents read to find what changed (not on XFS, which needs none)
	Refreshed   int64 // files and directories whose metadata was written
}

// RepairOptions are the choices of [Repair].
type RepairOptions struct {
	// DiscardLog throws away the file system's log if it cannot be replayed.
	// What was written last may be lost.
	DiscardLog bool
}
