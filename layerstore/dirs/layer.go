package dirs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"slipway/internal/winpath"
)

const (
	filesDir       = "Files" // beneath which a layer has the file system
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// WriteLayer writes what has to be done to the tree lower to make it the tree upper
// as a layer's tar archive; an empty lower is an empty tree. The same trees always
// give the same bytes: that is what allows an archive to be hashed in one pass and
// sent in another. Whoever changes the bytes changes the version in package image.
//
// A file whose name the archive or Windows cannot have is an error that names it.
func WriteLayer(ctx context.Context, w io.Writer, lower, upper string) error {
	l := &layerWriter{tar: tar.NewWriter(w), upper: upper, buffer: make([]byte, 1<<20)}
	root, err := os.Lstat(upper)
	if err == nil {
		err = l.header(".", root)
	}
	if err == nil {
		err = Changes(ctx, lower, upper, true, func(change Change) error { return l.add(ctx, change) })
	}
	if err == nil {
		err = l.tar.Close()
	}
	if err != nil {
		return fmt.Errorf("archiving a layer: %w", err)
	}
	return nil
}

type layerWriter struct {
	tar    *tar.Writer
	upper  string
	dir    string // the last directory that was written
	buffer []byte
}

func (l *layerWriter) add(ctx context.Context, change Change) error {
	dir, base := path.Split(change.Path)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("%s: a name that begins with %q cannot be in an image archive", change.Path, whiteoutPrefix))
	}
	if err := winpath.CheckName(base); err != nil && change.Kind != Deleted {
		return fmt.Errorf("%s: %w", change.Path, err)
	}
	if err := l.parents(path.Clean(dir)); err != nil {
		return err
	}
	if change.Kind == Deleted {
		return l.tar.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: path.Join(filesDir, dir, whiteoutPrefix+base), Format: tar.FormatPAX, Mode: 0o644,
		})
	}
	if err := l.header(change.Path, change.Info); err != nil {
		return err
	}
	if change.Info.IsDir() {
		l.dir = change.Path
		return nil
	}
	if !change.Info.Mode().IsRegular() || change.Info.Size() == 0 {
		return nil
	}
	return l.content(ctx, change.Path, change.Info.Size())
}

// parents writes the directories that lead to what comes next, unless they were.
func (l *layerWriter) parents(dir string) error {
	if dir == "." || dir == l.dir || strings.HasPrefix(l.dir, dir+"/") {
		return nil
	}
	if err := l.parents(path.Dir(dir)); err != nil {
		return err
	}
	info, err := os.Lstat(filepath.Join(l.upper, filepath.FromSlash(dir)))
	if err != nil {
		return err
	}
	l.dir = dir
	return l.header(dir, info)
}

func (l *layerWriter) header(name string, info fs.FileInfo) error {
	var target string
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		var err error
		if target, err = os.Readlink(filepath.Join(l.upper, filepath.FromSlash(name))); err != nil {
			return err
		}
	case !info.IsDir() && !info.Mode().IsRegular() && !isJunction(info):
		return errdefs.ErrNotImplemented.WithMessage(name + ": only files, directories and links can be in a layer for Windows")
	}
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: path.Join(filesDir, name), Size: info.Size(), Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Format: tar.FormatPAX,
	}
	switch {
	case info.IsDir(), isJunction(info):
		// Not the time: it changes with every entry, and says nothing.
		header.Typeflag, header.Size, header.ModTime = tar.TypeDir, 0, time.Time{}
		header.Name += "/"
	case target != "":
		header.Typeflag, header.Size, header.Linkname = tar.TypeSymlink, 0, filepath.ToSlash(target)
	}
	setHeader(header, info)
	return l.tar.WriteHeader(header)
}

func (l *layerWriter) content(ctx context.Context, name string, size int64) error {
	f, err := os.Open(filepath.Join(l.upper, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	// The length is in the header: a file that shrank would shift the rest.
	n, err := io.CopyBuffer(struct{ io.Writer }{l.tar}, &contextReader{ctx.Err, io.LimitReader(f, size)}, l.buffer)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, expected %d: %w", name, n, size, errdefs.ErrDataLoss)
	}
	return errors.Join(err, f.Close())
}

// contextReader ends with the context of its Err method.
type contextReader struct {
	err func() error
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Wrap returns r, a tar archive of a root file system without compression, as a
// layer for Windows: everything is beneath "Files/". An archive that is one already
// is given out as it is.
func Wrap(r io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(wrap(pw, r)) }()
	return pr
}

func wrap(w io.Writer, r io.Reader) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	isLayer, first := false, true
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if first {
			isLayer = path.Clean(header.Name) == filesDir && header.Typeflag == tar.TypeDir
			first = false
			if !isLayer {
				if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: filesDir + "/", Mode: 0o755, Format: tar.FormatPAX}); err != nil {
					return err
				}
			}
		}
		if !isLayer && header.Typeflag != tar.TypeXGlobalHeader {
			isDir := strings.HasSuffix(header.Name, "/")
			header.Name = filesDir + "/" + strings.TrimPrefix(strings.TrimPrefix(header.Name, "./"), "/")
			if isDir && !strings.HasSuffix(header.Name, "/") {
				header.Name += "/"
			}
			if header.Typeflag == tar.TypeLink {
				header.Linkname = filesDir + "/" + strings.TrimPrefix(strings.TrimPrefix(header.Linkname, "./"), "/")
			}
			header.Format = tar.FormatPAX
		}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil { //nolint:gosec // streamed: its size is the reader's to bound
			return err
		}
	}
}
