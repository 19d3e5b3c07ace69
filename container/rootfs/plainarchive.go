package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

const (
	// plainDepth bounds the folders that are open at once.
	plainDepth = 1000
	// plainCopy is the unit of copying, after which the context is looked at.
	plainCopy = 1 << 20
	// plainMode is what Docker on Windows gives every file and folder in an archive: Windows has no such modes.
	plainMode = 0o755
)

// Archive writes what is at path as a tar archive. Its names begin with the path's last element. A link
// is archived itself, unless the path ends in a slash. As in Docker on Windows, access control lists, attributes and
// alternate streams are not in it.
//
// What a running container removes meanwhile is left out; a file that shrinks while it is read fails the
// archive, as does one that a program has opened for itself alone.
func (r *plain) Archive(ctx context.Context, p string, w io.Writer) error {
	place, followed, err := inside(p)
	if err != nil {
		return err
	}
	info, err := r.stat(place, followed)
	if err != nil {
		return err
	}
	name := path.Base(place)
	if place == "." {
		name = ""
	}
	a := &plainArchiver{root: r, tw: tar.NewWriter(w)}
	if err := a.add(ctx, place, name, info, 0); err != nil {
		return err
	}
	return a.finish(ctx)
}

// Export writes everything as a tar archive, except for the root folder itself.
func (r *plain) Export(ctx context.Context, w io.Writer) error {
	a := &plainArchiver{root: r, tw: tar.NewWriter(w)}
	if err := a.children(ctx, ".", "", 0); err != nil {
		return err
	}
	return a.finish(ctx)
}

// finish ends the archive, unless ctx ended meanwhile: what was removed for that reason may be missing
// in it.
func (a *plainArchiver) finish(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return a.tw.Close()
}

type plainArchiver struct {
	root *plain
	tw   *tar.Writer
}

// add archives what is at a place under a name.
func (a *plainArchiver) add(ctx context.Context, place, name string, info fs.FileInfo, depth int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	header := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: plainMode, ModTime: info.ModTime().Truncate(time.Second),
	}
	switch kind := info.Mode().Type(); {
	case kind.IsRegular():
		header.Typeflag, header.Size = tar.TypeReg, info.Size()
		return a.file(ctx, place, header)
	case kind.IsDir():
		header.Typeflag = tar.TypeDir
		header.Name += "/"
		if err := a.tw.WriteHeader(header); err != nil {
			return err
		}
		return a.children(ctx, place, name, depth)
	case kind == fs.ModeSymlink:
		dir, rel := a.root.at(place)
		target, err := dir.Readlink(rel)
		if err != nil {
			return err
		}
		header.Typeflag, header.Linkname = tar.TypeSymlink, strings.ReplaceAll(target, `\`, "/")
		return a.tw.WriteHeader(header)
	default:
		return nil // a junction or the like leads out, a socket has no content
	}
}

func (a *plainArchiver) file(ctx context.Context, place string, header *tar.Header) error {
	dir, rel := a.root.at(place)
	f, err := dir.Open(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s was replaced while it was read", header.Name))
	}
	if err := a.tw.WriteHeader(header); err != nil {
		return err
	}
	for left := header.Size; left > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.CopyN(a.tw, f, min(left, plainCopy))
		left -= n
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s shrank while it was read: %w", header.Name, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *plainArchiver) children(ctx context.Context, place, name string, depth int) error {
	if depth >= plainDepth {
		return fmt.Errorf("%s has more than %d folders in each other", name, plainDepth)
	}
	dir, rel := a.root.at(place)
	f, err := dir.Open(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	_ = f.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		sub := path.Join(place, n)
		info, err := a.root.stat(sub, false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := a.add(ctx, sub, strings.TrimPrefix(name+"/"+n, "/"), info, depth+1); err != nil {
			return err
		}
	}
	return nil
}
