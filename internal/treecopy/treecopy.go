// Package treecopy copies directory trees of plain files, for systems without
// overlayfs.
//
// How the content of one file is copied is the business of a [Backend]: reading
// and writing it anywhere, sharing its blocks where the file system can. The rest
// is the same for all: files are copied by several workers, because the time of a
// small one is that of opening it, which a virus scanner makes long; nothing is
// held in memory but the directories' times.
//
// A copy has the content, names, times and attributes of its original, and the
// owner and mode where a system has them. Its access control comes from the directory it is made in: on Windows each
// container gives its own. Several names of one file become files of their own. A
// directory junction becomes an empty directory, since what is mounted in a tree
// is no part of it.
package treecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
)

// The names of backends, as [Backend.Name] gives them and docker info shows them.
const (
	MethodCopy       = "copy"        // reads and writes; works everywhere
	MethodBlockClone = "block-clone" // ReFS shares the blocks until one side writes
)

// Backend copies the content of single files. It is safe for concurrent use.
type Backend interface {
	// Name is one of the Method constants.
	Name() string
	// CopyFile makes dst, which must not exist, a copy of the regular file src
	// with its times and attributes. It says how many bytes the two files share
	// and how many were copied. What is left of dst after an error is the caller's
	// to remove.
	CopyFile(ctx context.Context, dst, src string, info fs.FileInfo) (shared, copied int64, err error)
}

// Stats is what a tree holds and how it was copied. Sizes are bytes.
type Stats struct {
	Files       int64
	Directories int64 // the tree's root included
	Links       int64 // symbolic links
	Shared      int64 // of files whose blocks were shared
	Copied      int64 // read and written
}

// Bytes is the size of all files.
func (s Stats) Bytes() int64 { return s.Shared + s.Copied }

// workers is how many files are copied at once.
var workers = min(max(runtime.GOMAXPROCS(0), 4), 16)

// Copy copies the directory src to dst, which is absent or an empty directory and
// whose parent exists. What is there of dst after an error is the caller's to
// remove. Nothing is flushed to the disk: see [Sync].
//
// Errors: FailedPrecondition if a file is in use in a way that forbids reading it,
// NotImplemented for a file that is neither a regular one, a directory nor a link,
// InvalidArgument for a name that this system can have and not work with (see
// [slipway/internal/winpath]).
func Copy(ctx context.Context, backend Backend, dst, src string) (Stats, error) {
	info, err := os.Lstat(src)
	if err != nil {
		return Stats{}, err
	}
	if !info.IsDir() {
		return Stats{}, &fs.PathError{Op: "copy", Path: src, Err: errors.New("not a directory")}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	c := &copier{backend: backend, src: src, dst: dst, group: group}
	walkErr := filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return c.add(ctx, path, entry)
	})
	if err := group.Wait(); err != nil { // the first error, of which walkErr is a consequence
		return Stats{}, err
	}
	if walkErr != nil {
		return Stats{}, walkErr
	}
	// Last, and from below: making an entry changes its directory's time.
	for _, d := range slices.Backward(c.directories) {
		if err := copyDirectory(d.path, d.info); err != nil {
			return Stats{}, err
		}
	}
	return c.stats(), nil
}

type copier struct {
	backend     Backend
	src, dst    string
	group       *errgroup.Group
	directories []directory

	files, links, shared, copied atomic.Int64
}

type directory struct {
	path string // of the copy
	info fs.FileInfo
}

func (c *copier) stats() Stats {
	return Stats{
		Files: c.files.Load(), Directories: int64(len(c.directories)), Links: c.links.Load(),
		Shared: c.shared.Load(), Copied: c.copied.Load(),
	}
}

// add copies one entry of the tree, a file's content by one of the workers.
func (c *copier) add(ctx context.Context, path string, entry fs.DirEntry) error {
	rel, err := filepath.Rel(c.src, path)
	if err != nil {
		return err
	}
	if rel != "." {
		if err := checkName(entry.Name()); err != nil {
			return fmt.Errorf("copying %s: %w", path, err)
		}
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	target := filepath.Join(c.dst, rel)
	switch {
	case isJunction(path, info):
		return c.addDirectory(target, info, false)
	case info.IsDir():
		return c.addDirectory(target, info, rel == ".")
	case info.Mode().IsRegular():
		c.group.Go(func() error {
			shared, copied, err := c.backend.CopyFile(ctx, target, path, info)
			if err != nil {
				return fmt.Errorf("copying %s: %w", path, err)
			}
			c.files.Add(1)
			c.shared.Add(shared)
			c.copied.Add(copied)
			return nil
		})
		return nil
	case info.Mode()&fs.ModeSymlink != 0:
		c.links.Add(1)
		return copyLink(target, path, info)
	case info.Mode()&fs.ModeSocket != 0:
		return nil // has no meaning without the process that listens
	}
	return errdefs.ErrNotImplemented.WithMessage(path + " is neither a file, a directory nor a link")
}

func (c *copier) addDirectory(target string, info fs.FileInfo, mayExist bool) error {
	if err := os.Mkdir(target, 0o700); err != nil && (!mayExist || !errors.Is(err, fs.ErrExist)) {
		return err
	}
	c.directories = append(c.directories, directory{target, info})
	return nil
}

// Link makes a symbolic link and reads it back: there are systems that report
// links as made which are not.
func Link(target, path string) error {
	if err := os.Symlink(target, path); err != nil {
		return err
	}
	got, err := os.Readlink(path)
	if err != nil || filepath.Clean(got) != filepath.Clean(filepath.FromSlash(target)) {
		return errors.Join(errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(
			"the symbolic link %s to %s could not be made: the system reported it as made, and it is not there", path, target)), os.RemoveAll(path))
	}
	return nil
}

// setTime gives a copy the time of its original's last change.
func setTime(path string, info fs.FileInfo) error {
	return os.Chtimes(path, time.Time{}, info.ModTime())
}
