package sharedfile

import (
	"fmt"
	"os"
	"syscall"
)

// Open is [os.OpenFile] for a file that may be renamed and removed meanwhile. It does not follow a link in the last
// place of the path.
func Open(path string, flag int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile(path, flag|syscall.O_NOFOLLOW, perm)
}

// ID returns the number that the file system knows an open file by, whatever its name.
func ID(f *os.File) (uint64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: no inode", f.Name())
	}
	return st.Ino, nil
}

// Truncate sets the size of a file that Open has opened for appending and that is at path.
func Truncate(f *os.File, _ string, size int64) error { return f.Truncate(size) }

// Remove removes a file, whoever has it open.
func Remove(path string) error { return os.Remove(path) }

// Rename gives a file another name, and takes that from the file that has it, whoever has it open.
func Rename(from, to string) error { return os.Rename(from, to) }
