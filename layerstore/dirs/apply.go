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
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"slipway/internal/winpath"
)

// otherDirs are what a layer may have beside its files: the registry and a virtual
// machine's files, which concern Microsoft's own containers only.
var otherDirs = map[string]bool{"Hives": true, "UtilityVM": true}

// Apply unpacks a layer, a tar archive without compression, into the directory dir,
// which has the files of the layers below. Nothing is written outside of dir,
// whatever the archive says.
//
// A layer that Windows would unpack to something else than it says is refused, with
// the class InvalidArgument and the entry's name: names of devices, alternate
// streams, names that end in a dot or space, two names that differ only in case,
// and paths that lead out. Across layers, names that differ only in case are the
// same file on Windows, and the upper one's replaces the other.
func Apply(ctx context.Context, r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	a := &applier{root: root, made: map[string]string{}, buffer: make([]byte, 1<<20)}
	archive := tar.NewReader(r)
	for {
		header, nextErr := archive.Next()
		if errors.Is(nextErr, io.EOF) {
			break
		}
		if err = nextErr; err != nil {
			break
		}
		if err = a.apply(ctx, header, archive); err != nil {
			err = fmt.Errorf("%s: %w", header.Name, err)
			break
		}
	}
	if err == nil {
		err = a.finish()
	}
	return errors.Join(err, root.Close())
}

type applier struct {
	root *os.Root
	// made has the paths of this layer, folded, as they are written.
	made   map[string]string
	dirs   []*tar.Header // with their paths in the tree as Name
	buffer []byte
}

// apply makes one entry.
func (a *applier) apply(ctx context.Context, header *tar.Header, content io.Reader) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, ok, err := place(header.Name)
	if err != nil || !ok {
		return err
	}
	dir, base := path.Dir(name), path.Base(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		if err := winpath.CheckPath(dir); err != nil {
			return err
		}
		return a.whiteout(dir, base)
	}
	if err := winpath.CheckPath(name); err != nil {
		return err
	}
	if err := a.note(name); err != nil {
		return err
	}
	if name != "." {
		if err := a.makeParents(dir); err != nil {
			return err
		}
	}
	return a.make(ctx, name, header, content)
}

// place returns where in the tree an entry of the archive belongs; ok is false if
// it belongs to what is passed over.
func place(entry string) (name string, ok bool, err error) {
	for part := range strings.SplitSeq(entry, "/") {
		if part == ".." {
			return "", false, invalid("the path leads out of the layer")
		}
	}
	top, rest, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+entry), "/"), "/")
	switch {
	case top == filesDir && rest == "":
		return ".", true, nil
	case top == filesDir:
		return rest, true, nil
	case top == "", otherDirs[top]:
		return "", false, nil
	}
	return "", false, invalid("it is not beneath Files/, so this is no layer of an image for Windows")
}

func invalid(text string) error { return errdefs.ErrInvalidArgument.WithMessage(text) }

// note records that the layer has the path, and its directories. It is an error if
// it has one that Windows takes for the same.
func (a *applier) note(name string) error {
	for ; name != "."; name = path.Dir(name) {
		folded := winpath.Fold(name)
		switch other, known := a.made[folded]; {
		case !known:
			a.made[folded] = name
		case other == name:
			return nil // so are its directories
		default:
			return invalid(fmt.Sprintf("the layer has %s too, and for Windows both are the same name", other))
		}
	}
	return nil
}

func (a *applier) makeParents(dir string) error {
	if dir == "." {
		return nil
	}
	info, err := a.root.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil: // a file of a layer below
		if err := a.root.Remove(dir); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return a.root.MkdirAll(dir, 0o755)
}

func (a *applier) make(ctx context.Context, name string, header *tar.Header, content io.Reader) error {
	switch header.Typeflag {
	case tar.TypeDir:
		return a.makeDir(name, header)
	case tar.TypeReg:
		if err := a.clear(name); err != nil {
			return err
		}
		return a.makeFile(ctx, name, header, content)
	case tar.TypeSymlink:
		if err := a.clear(name); err != nil {
			return err
		}
		return a.makeLink(name, header)
	case tar.TypeLink:
		target, ok, err := place(header.Linkname)
		if err == nil && !ok {
			err = invalid("it is a link to " + header.Linkname + ", which is not in the layer")
		}
		if err == nil {
			err = winpath.CheckPath(target)
		}
		if err == nil {
			err = a.clear(name)
		}
		if err != nil {
			return err
		}
		return a.root.Link(target, name)
	}
	return invalid("only files, directories and links can be in a layer for Windows")
}

// clear removes what is at name.
func (a *applier) clear(name string) error {
	if name == "." {
		return invalid("the root can only be a directory")
	}
	info, err := a.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return a.root.RemoveAll(name)
	}
	return a.root.Remove(name)
}

func (a *applier) makeDir(name string, header *tar.Header) error {
	info, err := a.root.Lstat(name)
	if err == nil && !info.IsDir() {
		if err := a.clear(name); err != nil {
			return err
		}
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = a.root.Mkdir(name, 0o755)
	}
	if err != nil {
		return err
	}
	header.Name = name
	a.dirs = append(a.dirs, header)
	return nil
}

func (a *applier) makeFile(ctx context.Context, name string, header *tar.Header, content io.Reader) error {
	f, err := a.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, &contextReader{ctx.Err, content}, a.buffer)
	if err := errors.Join(err, setFile(f, header), f.Close()); err != nil {
		return err
	}
	return a.root.Chtimes(name, time.Time{}, header.ModTime)
}

// makeLink makes a symbolic link, and reads it back: there are systems that report
// links as made which are not. Where it leads is its own affair, as long as nobody
// follows it out of a root.
func (a *applier) makeLink(name string, header *tar.Header) error {
	if err := a.root.Symlink(header.Linkname, name); err != nil {
		return err
	}
	if _, err := a.root.Readlink(name); err != nil {
		return errdefs.ErrNotImplemented.WithMessage("the system cannot make symbolic links here")
	}
	return nil
}

// whiteout removes what the layers below have: a file, or with the opaque marker
// everything in a directory. What this layer has made stays.
func (a *applier) whiteout(dir, base string) error {
	if base == opaqueMarker {
		entries, err := fs.ReadDir(a.root.FS(), dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := a.removeLower(path.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
		return nil
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if err := winpath.CheckName(name); err != nil {
		return err
	}
	return a.removeLower(path.Join(dir, name))
}

func (a *applier) removeLower(name string) error {
	if _, ok := a.made[winpath.Fold(name)]; ok {
		return nil
	}
	return a.root.RemoveAll(name)
}

// finish gives the directories what their headers say, which what was made in them
// has changed.
func (a *applier) finish() error {
	for _, header := range slices.Backward(a.dirs) {
		err := setDir(a.root, header.Name, header)
		if err == nil && !header.ModTime.IsZero() && header.ModTime.Unix() != 0 {
			err = a.root.Chtimes(header.Name, time.Time{}, header.ModTime)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a later entry took its place
			return err
		}
	}
	return nil
}
