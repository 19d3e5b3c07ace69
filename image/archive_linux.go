package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	xattrRecord    = "SCHILY.xattr."
)

// writeLayer writes the overlayfs upper directory dir as a layer's tar archive.
// The same directory always gives the same bytes: that is what allows an
// archive to be hashed in one pass and sent in another. Whoever changes the
// bytes changes layerFormat.
func writeLayer(ctx context.Context, w io.Writer, dir string) error {
	a := &layerArchive{dir: dir, tar: tar.NewWriter(w), links: map[inode]string{}, buffer: make([]byte, 1<<20)}
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if path == dir {
			return a.root(entry)
		}
		return a.add(path, entry)
	}); err != nil {
		return fmt.Errorf("archiving a layer: %w", err)
	}
	return a.tar.Close()
}

type inode struct{ dev, ino uint64 }

type layerArchive struct {
	dir    string
	tar    *tar.Writer
	links  map[inode]string // the first name of files that have several
	buffer []byte
}

// root writes the root directory's owner and mode, also if they are the usual ones:
// the layer below may have others.
func (a *layerArchive) root(entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	header, err := a.header(a.dir, ".", info, info.Sys().(*syscall.Stat_t))
	if err != nil {
		return err
	}
	if err := a.tar.WriteHeader(header); err != nil {
		return err
	}
	return a.checkDir(a.dir, "/")
}

// applyRoot gives a snapshot's root directory what the header of a layer's says.
func applyRoot(mounts []mount.Mount, header *tar.Header) error {
	dir, err := upperDir(mounts)
	if err != nil {
		return err
	}
	// The mode last: a new owner takes bits away.
	if err := errors.Join(os.Lchown(dir, header.Uid, header.Gid), unix.Chmod(dir, uint32(header.Mode&0o7777))); err != nil {
		return err
	}
	for key, value := range header.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrRecord); ok {
			if err := unix.Lsetxattr(dir, name, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
				return &fs.PathError{Op: "set " + name + " of", Path: dir, Err: err}
			}
		}
	}
	return nil
}

func (a *layerArchive) add(path string, entry fs.DirEntry) error {
	name, err := filepath.Rel(a.dir, path)
	if err != nil {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	base := filepath.Base(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("/%s: a name that begins with %q cannot be in an image archive", name, whiteoutPrefix))
	}
	switch {
	case info.Mode()&fs.ModeCharDevice != 0 && stat.Rdev == 0:
		return a.marker(filepath.Join(filepath.Dir(name), whiteoutPrefix+base))
	case info.Mode()&fs.ModeSocket != 0:
		return nil // a tar archive cannot hold sockets
	}
	header, err := a.header(path, name, info, stat)
	if err != nil {
		return err
	}
	if err := a.tar.WriteHeader(header); err != nil {
		return err
	}
	switch {
	case header.Typeflag == tar.TypeReg && header.Size > 0:
		return a.content(path, header.Size)
	case header.Typeflag == tar.TypeDir:
		return a.checkDir(path, name)
	}
	return nil
}

func (a *layerArchive) header(path, name string, info fs.FileInfo, stat *syscall.Stat_t) (*tar.Header, error) {
	var target string
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	header.Name, header.Format = name, tar.FormatPAX
	header.Uname, header.Gname = "", ""
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	if info.IsDir() {
		header.Name += "/"
	} else if stat.Nlink > 1 {
		key := inode{stat.Dev, stat.Ino}
		if first, ok := a.links[key]; ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
			return header, nil
		}
		a.links[key] = name
	}
	if header.PAXRecords, err = xattrRecords(path, name); err != nil {
		return nil, err
	}
	return header, nil
}

// xattrRecords returns the extended attributes that belong into an image.
func xattrRecords(path, name string) (map[string]string, error) {
	names, err := listXattrs(path)
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", name, err)
	}
	var records map[string]string
	for _, xattr := range names {
		switch {
		case xattr == "trusted.overlay.redirect" || xattr == "trusted.overlay.metacopy":
			return nil, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("/%s refers to another layer (%s), which an image archive cannot express", name, xattr))
		case xattr == "security.capability", strings.HasPrefix(xattr, "user."), strings.HasPrefix(xattr, "system.posix_acl_"):
			value, err := getXattr(path, xattr)
			if err != nil {
				return nil, fmt.Errorf("/%s: %s: %w", name, xattr, err)
			}
			if records == nil {
				records = map[string]string{}
			}
			records[xattrRecord+xattr] = string(value)
		}
	}
	return records, nil
}

// checkDir marks a directory that hides what lower layers have in it.
func (a *layerArchive) checkDir(path, name string) error {
	value, err := getXattr(path, "trusted.overlay.opaque")
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	if string(value) != "y" {
		return nil
	}
	return a.marker(filepath.Join(strings.TrimPrefix(name, "/"), opaqueMarker))
}

// marker writes the empty file that stands for something deleted.
func (a *layerArchive) marker(name string) error {
	return a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Format: tar.FormatPAX})
}

func (a *layerArchive) content(path string, size int64) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	// The length is in the header: a file that shrank would shift the rest.
	n, err := io.CopyBuffer(onlyWriter{a.tar}, onlyReader{io.LimitReader(f, size)}, a.buffer)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, expected %d: %w", path, n, size, errdefs.ErrDataLoss)
	}
	return errors.Join(err, f.Close())
}

func listXattrs(path string) ([]string, error) {
	for {
		size, err := unix.Llistxattr(path, nil)
		if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		buffer := make([]byte, size)
		size, err = unix.Llistxattr(path, buffer)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return strings.FieldsFunc(string(buffer[:size]), func(r rune) bool { return r == 0 }), nil
	}
}

func getXattr(path, name string) ([]byte, error) {
	for {
		size, err := unix.Lgetxattr(path, name, nil)
		if err != nil {
			return nil, err
		}
		buffer := make([]byte, size)
		size, err = unix.Lgetxattr(path, name, buffer)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buffer[:size], nil
	}
}
