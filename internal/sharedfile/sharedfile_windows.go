package sharedfile

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// Open is [os.OpenFile] for a file that may be renamed and removed meanwhile. It does not follow a link in the last
// place of the path.
func Open(path string, flag int, perm os.FileMode) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	attributes := uint32(windows.FILE_ATTRIBUTE_NORMAL | windows.FILE_FLAG_OPEN_REPARSE_POINT)
	if perm&0o200 == 0 && flag&os.O_CREATE != 0 {
		attributes |= windows.FILE_ATTRIBUTE_READONLY
	}
	h, err := windows.CreateFile(name, access(flag), share, nil, disposition(flag), attributes, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(h), path)
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeSymlink != 0 {
		if err == nil {
			err = &os.PathError{Op: "open", Path: path, Err: errors.New("it is a link")}
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// access is what a handle may do. One for appending has no right to write elsewhere: that is what makes its writes go
// to the end ("File Security and Access Rights": FILE_APPEND_DATA without FILE_WRITE_DATA).
func access(flag int) uint32 {
	const appending = windows.FILE_APPEND_DATA | windows.FILE_WRITE_ATTRIBUTES | windows.FILE_WRITE_EA | windows.STANDARD_RIGHTS_WRITE | windows.SYNCHRONIZE
	writing := uint32(windows.GENERIC_WRITE)
	if flag&os.O_APPEND != 0 {
		writing = appending
	}
	switch flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR) {
	case os.O_WRONLY:
		return writing
	case os.O_RDWR:
		return windows.GENERIC_READ | writing
	default:
		return windows.GENERIC_READ
	}
}

func disposition(flag int) uint32 {
	switch {
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return windows.CREATE_NEW
	case flag&(os.O_CREATE|os.O_TRUNC) == os.O_CREATE|os.O_TRUNC:
		return windows.CREATE_ALWAYS
	case flag&os.O_CREATE != 0:
		return windows.OPEN_ALWAYS
	case flag&os.O_TRUNC != 0:
		return windows.TRUNCATE_EXISTING
	default:
		return windows.OPEN_EXISTING
	}
}

// ID returns the number that the file system knows an open file by, whatever its name.
func ID(f *os.File) (uint64, error) {
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info); err != nil {
		return 0, os.NewSyscallError("GetFileInformationByHandle", err)
	}
	return uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow), nil
}

// Truncate sets the size of a file that Open has opened for appending and that is at path: that handle has not the
// right to.
func Truncate(_ *os.File, path string, size int64) error {
	f, err := Open(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// Remove removes a file, whoever has it open. Its name is free at once, which without the renaming it would be only
// when all have closed it.
func Remove(path string) error {
	gone := path + ".removed-" + rand.Text()
	if err := os.Rename(path, gone); err != nil {
		return err
	}
	return os.Remove(gone)
}

// Rename gives a file another name, and takes that from the file that has it, whoever has it open. Killed in between,
// nobody has it.
func Rename(from, to string) error {
	if _, err := os.Lstat(from); err != nil {
		return err
	}
	if err := Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}
