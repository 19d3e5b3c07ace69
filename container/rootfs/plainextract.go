package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/go-archive/compression"

	"slipway/internal/winpath"
)

// Extract unpacks a tar archive, which may be compressed with gzip, bzip2, xz or zstd, into the folder
// at path. Names are relative to the folder, whatever they begin with; one that leads out of it by "..",
// or that Windows would take for another, is refused. Owners and modes mean nothing on Windows.
//
// It is not atomic: what was extracted before an error stays.
func (r *plain) Extract(ctx context.Context, p string, archive io.Reader, opts ExtractOptions) (err error) {
	place, _, err := inside(p)
	if err != nil {
		return err
	}
	dir, rel := r.at(place)
	info, err := dir.Stat(rel)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errdefs.ErrInvalidArgument.WithMessage("extraction point is not a directory")
	}
	source, err := compression.DecompressStream(archive)
	if err != nil {
		return errdefs.ErrInvalidArgument.WithMessage("cannot decompress the archive: " + err.Error())
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	x := &plainExtractor{root: r, dest: place, opts: opts}
	tr := tar.NewReader(source)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return x.settleFolders()
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", errors.Join(errdefs.ErrInvalidArgument, err))
		}
		if err := x.entry(ctx, header, tr); err != nil {
			return err
		}
	}
}

type plainExtractor struct {
	root    *plain
	dest    string
	opts    ExtractOptions
	folders []plainFolder
}

// plainFolder is one whose time is set when nothing more is put into it.
type plainFolder struct {
	dir  *os.Root
	rel  string
	time time.Time
}

// entryPlace checks a name of the archive and returns where it lies beneath the extraction point.
func entryPlace(name string) (string, error) {
	clean := strings.TrimLeft(path.Clean(strings.ReplaceAll(name, `\`, "/")), "/")
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("archive entry %q is outside of the extraction point", name))
	}
	if clean == "" || clean == "." {
		return ".", nil
	}
	return clean, winpath.CheckPath(clean)
}

func (x *plainExtractor) entry(ctx context.Context, header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := entryPlace(header.Name)
	if err != nil || name == "." {
		return err // the folder itself is the container's
	}
	place := path.Join(x.dest, name)
	dir, rel := x.root.at(path.Dir(place))
	if err := dir.MkdirAll(rel, plainMode); err != nil {
		return err
	}
	if err := x.makeRoom(place, header); err != nil {
		return err
	}
	if err := x.create(ctx, place, header, content); errors.Is(err, fs.ErrExist) {
		// It was not there before, and what is there now is not to be written through.
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("extract %q: something else has made it at the same time", header.Name))
	} else if err != nil {
		return fmt.Errorf("extract %q: %w", header.Name, err)
	}
	return nil
}

// makeRoom removes what an entry replaces.
func (x *plainExtractor) makeRoom(place string, header *tar.Header) error {
	dir, rel := x.root.at(place)
	info, err := dir.Lstat(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	wasDir, isDir := info.IsDir(), header.Typeflag == tar.TypeDir
	switch {
	case wasDir && isDir:
		return nil
	case x.opts.NoOverwriteDirNonDir && wasDir:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("cannot overwrite directory %q with non-directory %q", header.Name, x.dest))
	case x.opts.NoOverwriteDirNonDir && isDir:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("cannot overwrite non-directory %q with directory %q", header.Name, x.dest))
	case x.root.isMount(place):
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("%s is a volume and cannot be replaced by %q", winpath.Absolute(place), header.Name))
	case wasDir:
		return dir.RemoveAll(rel)
	default:
		return dir.Remove(rel)
	}
}

// create makes what an entry describes.
func (x *plainExtractor) create(ctx context.Context, place string, header *tar.Header, content io.Reader) error {
	dir, rel := x.root.at(place)
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return x.file(ctx, dir, rel, header, content)
	case tar.TypeDir:
		if err := dir.Mkdir(rel, plainMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		x.folders = append(x.folders, plainFolder{dir, rel, header.ModTime})
		return nil
	case tar.TypeSymlink:
		return makeLink(dir, rel, header.Linkname)
	case tar.TypeLink:
		target, err := entryPlace(header.Linkname)
		if err != nil {
			return err
		}
		from, fromRel := x.root.at(path.Join(x.dest, target))
		if from != dir {
			return errdefs.ErrInvalidArgument.WithMessage("a hard link cannot lead into another volume")
		}
		return dir.Link(fromRel, rel)
	default:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unhandled tar header type %q: Windows has no such files", header.Typeflag))
	}
}

// makeLink makes a symbolic link and looks whether it is one: not every system that says so has made it.
func makeLink(dir *os.Root, rel, target string) error {
	if err := dir.Symlink(strings.ReplaceAll(target, "/", string(os.PathSeparator)), rel); err != nil {
		return err
	}
	if info, err := dir.Lstat(rel); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return errors.Join(errdefs.ErrNotImplemented.WithMessage("this system makes no symbolic links"), err, dir.RemoveAll(rel))
	}
	return nil
}

func (*plainExtractor) file(ctx context.Context, dir *os.Root, rel string, header *tar.Header, content io.Reader) error {
	f, err := dir.OpenFile(rel, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = copyPlain(ctx, f, content, header.Size)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return dir.Chtimes(rel, header.AccessTime, header.ModTime)
}

// copyPlain writes a file. Blocks of zeros are left out: those of an archive that is sparse can be terabytes.
func copyPlain(ctx context.Context, f *os.File, content io.Reader, size int64) error {
	buf := make([]byte, min(plainCopy, max(size, 1)))
	for pos := int64(0); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(content, buf)
		if n > 0 && !isZero(buf[:n]) {
			if _, err := f.WriteAt(buf[:n], pos); err != nil {
				return err
			}
		}
		pos += int64(n)
		if errors.Is(err, io.EOF) || n < len(buf) && errors.Is(err, io.ErrUnexpectedEOF) && pos == size {
			return f.Truncate(pos)
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", errors.Join(errdefs.ErrInvalidArgument, err))
		}
	}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// settleFolders sets the folders' times, which their content has changed.
func (x *plainExtractor) settleFolders() error {
	for _, f := range x.folders {
		if err := f.dir.Chtimes(f.rel, time.Time{}, f.time); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
