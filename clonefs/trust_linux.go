package clonefs

import (
	"time"

	"golang.org/x/sys/unix"
)

// racyWindow is far more than a tick of the kernel's clock (10 ms at most): an
// inode that changed so recently may change again without its ctime moving.
const racyWindow = 100 * time.Millisecond

// trust decides what an unchanged stamp proves; see the package comment.
type trust struct {
	dev    uint64 // of the source's root; other file systems below it are not trusted
	magic  int64
	synced int64 // when the last sync of the source's file system began; 0 if never
}

// learn looks at the source's file system.
func (t *trust) learn(dir string) error {
	s, err := spaceOf(dir)
	if err != nil {
		return err
	}
	t.magic = s.magic
	var st unix.Statx_t
	if err := statAt(unix.AT_FDCWD, dir, &st); err != nil {
		return err
	}
	t.dev = stampOf(&st).dev
	return nil
}

func (*trust) now() int64 { return time.Now().UnixNano() }

// metadata says whether a stamp read just now is good for everything but the
// content of a regular file.
func (t *trust) metadata(st *unix.Statx_t) bool {
	switch t.magic {
	case unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.EXT4_SUPER_MAGIC, unix.TMPFS_MAGIC:
	default:
		return false
	}
	s := stampOf(st)
	return s.dev == t.dev && s.change < t.now()-int64(racyWindow)
}

// content says whether a stamp, read when the clock said now and before the
// content was taken, is good for the content of a regular file too.
func (t *trust) content(st *unix.Statx_t, now int64, copied bool) bool {
	switch t.magic {
	case unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
	case unix.EXT4_SUPER_MAGIC:
		copied = true
	default:
		return false
	}
	if copied {
		now = min(now, t.synced)
	}
	s := stampOf(st)
	return s.dev == t.dev && s.change < now-int64(racyWindow)
}
