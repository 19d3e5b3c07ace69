package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// ReadFile returns a regular file's content. One of more than limit bytes is an error.
func (r *Root) ReadFile(path string, limit int64) ([]byte, error) {
	f, err := r.openRegular(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, errdefs.ErrOutOfRange.WithMessage(fmt.Sprintf("%s is larger than %d bytes", path, limit))
	}
	return b, nil
}

// WriteFile replaces a regular file's content, durably, and creates it with the mode if it is not there.
// An existing file keeps its owner and mode. It is not atomic.
func (r *Root) WriteFile(path string, data []byte, mode fs.FileMode) error {
	return r.write(path, data, mode, unix.O_TRUNC)
}

// AppendFile appends to a regular file, durably, and creates it with the mode if it is not there.
func (r *Root) AppendFile(path string, data []byte, mode fs.FileMode) error {
	return r.write(path, data, mode, unix.O_APPEND)
}

func (r *Root) write(path string, data []byte, mode fs.FileMode, flag int) error {
	f, err := r.openRegular(path, unix.O_WRONLY|flag)
	if errors.Is(err, fs.ErrNotExist) {
		var fd int
		fd, err = r.openat2(absolute(path), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NONBLOCK, uint32(mode.Perm()))
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), path)
		err = f.Chmod(mode.Perm()) // whatever the daemon's umask
	}
	if f == nil {
		return err
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// openRegular opens what path leads to if it is a regular file.
func (r *Root) openRegular(path string, flags int) (*os.File, error) {
	fd, err := r.openat2(absolute(path), unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	st, err := fstat(fd)
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errdefs.ErrInvalidArgument.WithMessage(path + " is not a regular file")
	}
	return reopen(fd, flags, path)
}

// Remove removes a file or link, or an empty folder. What is not there is no error.
func (r *Root) Remove(path string) error {
	abs := absolute(path)
	dir, base := splitPath(abs)
	if base == "" {
		return errdefs.ErrInvalidArgument.WithMessage("cannot remove the root")
	}
	fd, err := r.openat2(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Unlinkat(fd, base, 0)
	if errors.Is(err, unix.EISDIR) {
		err = unix.Unlinkat(fd, base, unix.AT_REMOVEDIR)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}
