package guestfiles

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"slipway/database"
	"slipway/internal/winpath"
)

var _ database.Files = (*Tree)(nil)

// names splits a path of a container, as C:\data, \data or /data.
func names(p string) ([]string, error) {
	inside, err := winpath.Inside(p)
	if err != nil {
		return nil, err
	}
	return split(inside), nil
}

// isAbs tells whether a path of a container is absolute.
func isAbs(p string) bool {
	_, err := winpath.Inside(p)
	return err == nil
}

func sameName(a, b string) bool { return winpath.Fold(a) == winpath.Fold(b) }

// Read returns a regular file's content; see [database.Files].
func (t *Tree) Read(p string, limit int64) (data []byte, err error) {
	return data, t.in(p, func(root *os.Root, rel string) error {
		f, err := openRegular(root, rel)
		if err != nil {
			return err
		}
		defer f.Close()
		if data, err = io.ReadAll(io.LimitReader(f, limit+1)); err != nil {
			return err
		}
		if int64(len(data)) > limit {
			data = nil
			return fmt.Errorf("%s: more than %d bytes: %w", p, limit, database.ErrOutput)
		}
		return nil
	})
}

// List returns the names in a directory, sorted; see [database.Files].
func (t *Tree) List(p string, limit int) (list []string, err error) {
	return list, t.in(p, func(root *os.Root, rel string) error {
		f, err := root.Open(rel)
		if err != nil {
			return err
		}
		defer f.Close()
		if list, err = f.Readdirnames(limit + 1); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(list) > limit {
			list = nil
			return fmt.Errorf("%s: more than %d entries: %w", p, limit, database.ErrOutput)
		}
		slices.Sort(list)
		return nil
	})
}

// Size returns a regular file's size in bytes.
func (t *Tree) Size(p string) (size int64, err error) {
	return size, t.in(p, func(root *os.Root, rel string) error {
		info, err := root.Stat(rel)
		if err == nil && !info.Mode().IsRegular() {
			err = &fs.PathError{Op: "open", Path: p, Err: errNotRegular}
		}
		if err == nil {
			size = info.Size()
		}
		return err
	})
}

// Replace writes a file as a whole, durably; see [database.Files]. If the name is a symbolic link, the link is replaced.
func (t *Tree) Replace(p string, data []byte) error {
	return t.in(p, func(root *os.Root, rel string) error {
		made := path.Join(path.Dir(rel), ".slipway-"+rand.Text())
		f, err := root.OpenFile(made, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		err = errors.Join(err, f.Sync(), f.Close())
		if err == nil {
			err = root.Rename(made, rel)
		}
		if err != nil {
			err = errors.Join(err, root.Remove(made))
		}
		return err
	})
}

// Rename moves a file within its directory. NTFS and ReFS journal it before what follows.
func (t *Tree) Rename(p, newName string) error {
	if err := winpath.CheckName(newName); err != nil {
		return &fs.PathError{Op: "rename", Path: newName, Err: fs.ErrInvalid}
	}
	return t.in(p, func(root *os.Root, rel string) error { return root.Rename(rel, path.Join(path.Dir(rel), newName)) })
}

// Remove removes a file or a link; that it does not exist is no error.
func (t *Tree) Remove(p string) error {
	err := t.in(p, func(root *os.Root, rel string) error { return root.Remove(rel) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// in calls fn with the directory that holds a container's path, out of which no link leads, and the path in it.
func (t *Tree) in(p string, fn func(root *os.Root, rel string) error) error {
	source, rel, ok := t.locate(p)
	if !ok {
		return &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	root, err := os.OpenRoot(source)
	if err != nil {
		return err
	}
	return errors.Join(fn(root, filepath.ToSlash(rel)), root.Close())
}

var errNotRegular = errors.New("not a regular file")

// openRegular opens a regular file for reading. What it is, is looked at first.
func openRegular(root *os.Root, rel string) (*os.File, error) {
	info, err := root.Stat(rel)
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: rel, Err: errNotRegular}
	}
	if err != nil {
		return nil, err
	}
	return root.Open(rel)
}
