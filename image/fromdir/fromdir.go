// Package fromdir makes of a folder the archive from which an image is imported: a tar stream of
// a root file system, written in one pass and in constant memory.
//
// What an image cannot have is left out and named: sockets, devices, and on Windows
// directory junctions, which lead out of the folder. Links are kept as links. A file that
// changes while it is read makes the archive fail, since its header has the old size.
package fromdir

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
)

// Folder is a folder that was looked through.
type Folder struct {
	// Files, Directories and Links are how many of each go in.
	Files, Directories, Links int64
	// Size is the sum of the files' sizes in bytes.
	Size int64
	// LeftOut are the paths, within the folder, of what does not go in.
	LeftOut []string

	dir string
}

// Progress is called as the archive is written: with the bytes of files done so far, of so many.
// It is called at most some ten times a second.
type Progress func(done, total int64)

// Open looks through the folder dir. What it finds is for people, and the total of the progress:
// the archive has what is there when it is written.
//
// Errors: NotFound if there is no such folder, InvalidArgument if it is none.
func Open(ctx context.Context, dir string) (*Folder, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errdefs.ErrNotFound.WithMessage("there is no folder " + dir)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, errdefs.ErrInvalidArgument.WithMessage(dir + " is not a folder")
	}
	// A link to a folder is followed, as anybody means it who names one.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	f := &Folder{dir: dir}
	return f, f.walk(ctx, func(_, name string, info fs.FileInfo) error {
		switch kind(info) {
		case tar.TypeDir:
			f.Directories++
		case tar.TypeReg:
			f.Files++
			f.Size += info.Size()
		case tar.TypeSymlink:
			f.Links++
		default:
			f.LeftOut = append(f.LeftOut, name)
		}
		return nil
	})
}

// kind is the type of an entry in an archive, 0 for none.
func kind(info fs.FileInfo) byte {
	switch mode := info.Mode(); {
	case mode.IsDir():
		return tar.TypeDir
	case mode.IsRegular():
		return tar.TypeReg
	case mode&fs.ModeSymlink != 0:
		return tar.TypeSymlink
	}
	return 0
}

// walk calls fn with everything in the folder, by name, and itself first, as ".".
func (f *Folder) walk(ctx context.Context, fn func(path, name string, info fs.FileInfo) error) error {
	return filepath.WalkDir(f.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name, err := filepath.Rel(f.dir, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return fn(path, filepath.ToSlash(name), info)
	})
}

// WriteTo writes the archive. A file that cannot be read, or changes meanwhile, is an error that
// names it.
func (f *Folder) WriteTo(ctx context.Context, w io.Writer, progress Progress) error {
	out := &writer{tar: tar.NewWriter(w), buffer: make([]byte, 1<<20), report: progress, total: f.Size}
	if err := f.walk(ctx, func(path, name string, info fs.FileInfo) error {
		if kind(info) == 0 {
			return nil
		}
		return out.add(ctx, path, name, info)
	}); err != nil {
		return fmt.Errorf("archiving %s: %w", f.dir, err)
	}
	out.progress(true)
	return out.tar.Close()
}

type writer struct {
	tar         *tar.Writer
	buffer      []byte
	report      Progress
	done, total int64
	last        time.Time
}

func (w *writer) add(ctx context.Context, path, name string, info fs.FileInfo) error {
	var target string
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, filepath.ToSlash(target))
	if err != nil {
		return err
	}
	// "./": an entry that is called Files/ would say that the archive is a layer for Windows.
	header.Name = "./" + name
	if name == "." {
		header.Name = "./"
	} else if info.IsDir() {
		header.Name += "/"
	}
	header.Format, header.Uname, header.Gname = tar.FormatPAX, "", ""
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	if err := w.tar.WriteHeader(header); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	return w.content(ctx, path, name, info.Size())
}

func (w *writer) content(ctx context.Context, path, name string, size int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, &reader{ctx, io.LimitReader(file, size)}, w.buffer)
	if err == nil && n != size {
		err = errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("%s changed while it was read: it had %d bytes and now has %d", name, size, n))
	}
	return err
}

// reader ends with its context.
type reader struct {
	ctx context.Context //nolint:containedctx // of one copy
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// Write takes a file's content, and counts.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.tar.Write(p)
	w.done += int64(n)
	w.progress(false)
	return n, err
}

func (w *writer) progress(end bool) {
	if w.report == nil || !end && time.Since(w.last) < 100*time.Millisecond {
		return
	}
	w.last = time.Now()
	done := w.done
	if end {
		done = w.total // files may have come and gone
	}
	w.report(min(done, w.total), w.total)
}
