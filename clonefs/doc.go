// Package clonefs gives Slipway cheap copies of files: the pool, where image
// layers and volumes live, and the cloning of directory trees within it.
//
// # The pool
//
// The pool is the directory <data-root>/pool on a file system with reflinks.
// Where the data root's own file system has them, the pool is a plain
// directory (method "reflink"). Where it has not, it is a sparse XFS file
// mounted through a loop device with direct I/O (method "pool"). Where
// neither can be had, it is a plain directory in which a clone is a full copy
// (method "copy", with the reason in [Status]).
//
//	<data-root>/
//	  pool.img       sparse XFS image (mode 0600); method "pool" only
//	  pool.img.new   a pool file being made; a leftover of a crash is made anew
//	  pool/          mount point of pool.img, or a plain directory
//
// Every step of making or growing the pool may be cut by a crash. A pool file
// gets its name only when it is complete and on disk. Growth is three steps
// (file, loop device, file system), and [Open] takes up those that are
// missing. A pool that is mounted is adopted, one that is not is mounted,
// which replays its log. It is never repaired on its own account: see
// [Repair]. [Pool.Close] never unmounts it, because containers outlive the
// daemon.
//
// The mount must live in the host's mount namespace. Under systemd the unit
// must not use PrivateMounts, PrivateTmp, ProtectSystem or anything else that
// gives the daemon a namespace of its own: a pool mounted there vanishes with
// the daemon. Open warns when it finds itself in another namespace than
// process 1.
//
// # Cloning
//
// A [Copy] clones trees in passes. The first pass clones every file; each
// later one looks at every inode once and clones only what changed, of a
// large file only the extents that moved. [Copy.Prepare] runs passes
// beside the live writer, [Copy.Finish] runs the last one while the caller
// keeps the writer frozen, [Copy.Sync] makes the result durable after the
// thaw. So the freeze costs one status call per file and the few extents
// written since Prepare, not the extents of the database.
//
// # Why an unchanged ctime proves unchanged content
//
// A pass skips a file whose identity (device, inode, birth time), size and
// ctime are as recorded before the earlier pass took its content. Three
// things make that safe:
//
//   - ctime has the granularity of the kernel's tick. A ctime that was younger
//     than racyWindow when it was recorded is not trusted, and the file's
//     content is compared again.
//   - A store through a shared mapping changes ctime only when it faults. Taking
//     a reflink writes back the range it takes, and writeback makes its pages
//     read-only again, so the first store afterwards faults and changes ctime.
//     The recorded ctime is read before that, never after.
//   - Where content had to be copied rather than reflinked, nothing makes the
//     pages read-only. There the copy starts with a sync of the file system, and
//     a ctime is trusted only if it is older than that sync.
//
// It holds on XFS and btrfs, and for copies on ext4 too. On every other file
// system (tmpfs does not even change ctime on a store through a mapping) the
// content of every file is taken anew in every pass. It does not hold for
// pages pinned by the kernel for a device (a direct read or RDMA whose buffer
// is a mapping of the file): such a store changes no ctime; no database that
// is known here does it to its data files.
//
// # A large file of which little changed
//
// A reflink costs 18 µs per extent on XFS, and a database that was cloned and
// then written to at random has 100,000 extents and more. After the first pass
// source and copy share every block, so a later pass needs to take only those
// that moved. On XFS the file is simply taken again over its earlier copy:
// extents that both have are passed over, for 0.65 µs each. Elsewhere the
// extent maps are compared first. That is sound because the copy's reference
// keeps a shared block from being overwritten in place or used again: the same
// physical blocks have the same content. What the map does not say plainly
// (inline, encoded, delayed or unknown extents) is taken anew. The copy's map
// is read when a pass has taken the file and is kept for the next, so nothing
// else may move the blocks of an unfinished copy there (no deduplication).
//
// # Locks
//
// Growing and trimming have a lock each, held over the work; neither is taken
// under the other. Who waits for one stops when its context ends.
// Setting up the pool holds an exclusive flock on the data root's directory,
// so that two daemons that start at once do it one after the other. A Copy
// has no lock: its methods are called one after the other.
package clonefs
