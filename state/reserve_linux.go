package state

import (
	"os"

	"golang.org/x/sys/unix"
)

// preallocate gives the file the blocks of its first size bytes without making
// it longer. It reports whether the file has them: the disk may be full, or its
// file system unable to.
func preallocate(f *os.File, size int64) bool {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size) == nil
}
