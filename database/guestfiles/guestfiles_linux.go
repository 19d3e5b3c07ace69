package guestfiles

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"slipway/database"

	"golang.org/x/sys/unix"
)

var _ database.Files = (*Tree)(nil)

// names splits a path of a container.
func names(p string) ([]string, error) { return split(strings.Trim(path.Clean("/"+p), "/")), nil }

// isAbs tells whether a path of a container is absolute.
func isAbs(p string) bool { return path.IsAbs(p) }

func sameName(a, b string) bool { return a == b }

// Read returns a regular file's content; see [database.Files].
func (t *Tree) Read(p string, limit int64) ([]byte, error) {
	f, err := t.openRegular(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes: %w", p, limit, database.ErrOutput)
	}
	return data, nil
}

// List returns the names in a directory, sorted; see [database.Files].
func (t *Tree) List(p string, limit int) ([]string, error) {
	f, err := t.open(p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(limit + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > limit {
		return nil, fmt.Errorf("%s: more than %d entries: %w", p, limit, database.ErrOutput)
	}
	slices.Sort(names)
	return names, nil
}

// Size returns a regular file's size in bytes.
func (t *Tree) Size(p string) (int64, error) {
	f, err := t.openRegular(p)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Replace writes a file as a whole, durably; see [database.Files]. If the name is a symbolic link, the link is replaced.
func (t *Tree) Replace(p string, data []byte) (err error) {
	dir, err := t.openDir(p)
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Stat_t
	mode := uint32(0o600)
	err = unix.Fstatat(fd(dir), path.Base(p), &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG:
		mode = st.Mode & 0o7777
	case err == nil || errors.Is(err, fs.ErrNotExist):
		if err := unix.Fstat(fd(dir), &st); err != nil {
			return err
		}
	default:
		return err
	}
	tmp := ".slipway-" + rand.Text()
	n, err := unix.Openat(fd(dir), tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: p, Err: err}
	}
	f := os.NewFile(uintptr(n), tmp)
	defer f.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Unlinkat(fd(dir), tmp, 0))
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err = unix.Fchmod(fd(f), mode); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = unix.Renameat(fd(dir), tmp, fd(dir), path.Base(p)); err != nil {
		return &fs.PathError{Op: "replace", Path: p, Err: err}
	}
	return dir.Sync()
}

// Rename moves a file within its directory, durably.
func (t *Tree) Rename(p, newName string) error {
	if newName != path.Base(newName) || newName == "." || newName == ".." || newName == "/" {
		return &fs.PathError{Op: "rename", Path: newName, Err: fs.ErrInvalid}
	}
	dir, err := t.openDir(p)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Renameat(fd(dir), path.Base(p), fd(dir), newName); err != nil {
		return &fs.PathError{Op: "rename", Path: p, Err: err}
	}
	return dir.Sync()
}

// Remove removes a file or a link, durably; that it does not exist is no error.
func (t *Tree) Remove(p string) error {
	dir, err := t.openDir(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Unlinkat(fd(dir), path.Base(p), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: p, Err: err}
	}
	return dir.Sync()
}

// openDir opens the directory that holds a path.
func (t *Tree) openDir(p string) (*os.File, error) {
	return t.open(path.Dir(path.Clean("/"+p)), unix.O_RDONLY|unix.O_DIRECTORY)
}

// openRegular opens a regular file for reading. What it is, is looked at before it is opened, because opening a
// device or a FIFO has effects.
func (t *Tree) openRegular(p string) (*os.File, error) {
	f, err := t.open(p, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: p, Err: errors.New("not a regular file")}
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd(f)))
}

func (t *Tree) open(p string, flags uint64) (*os.File, error) {
	source, rel, ok := t.locate(p)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	root, err := unix.Open(source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: source, Err: err}
	}
	defer unix.Close(root)
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 10 {
		var n int
		// The kernel says "again" when something was renamed while it resolved.
		if n, err = unix.Openat2(root, rel, &how); !errors.Is(err, unix.EAGAIN) {
			if err == nil {
				return os.NewFile(uintptr(n), p), nil
			}
			break
		}
	}
	return nil, &fs.PathError{Op: "open", Path: p, Err: err}
}

func fd(f *os.File) int { return int(f.Fd()) }
