package rootfs

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
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/go-archive/compression"
	"golang.org/x/sys/unix"
)

// Extract unpacks a tar archive, which may be compressed with gzip, bzip2, xz or zstd, into the folder
// at path. Names are relative to the folder, whatever they begin with; one that leads out of it by ".."
// is refused. Links on the way are followed as the container would, and those in the archive are
// created as they are: they can only mean something beneath the root.
//
// It is not atomic: what was extracted before an error stays.
func (r *Root) Extract(ctx context.Context, path string, archive io.Reader, opts ExtractOptions) (err error) {
	dest := absolute(path)
	fd, err := r.openat2(dest, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return errdefs.ErrInvalidArgument.WithMessage("extraction point is not a directory")
	}
	if err != nil {
		return err
	}
	_ = unix.Close(fd)
	plain, err := compression.DecompressStream(archive)
	if err != nil {
		return errdefs.ErrInvalidArgument.WithMessage("cannot decompress the archive: " + err.Error())
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	x := &extractor{root: r, dest: dest, opts: opts, parent: -1}
	defer x.forget()
	tr := tar.NewReader(plain)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return x.settleFolders()
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", errors.Join(errdefs.ErrInvalidArgument, err))
		}
		if err := x.entry(ctx, hdr, tr); err != nil {
			return err
		}
	}
}

type extractor struct {
	root *Root
	dest string // beneath the root
	opts ExtractOptions

	parent     int // handle of the folder of the last entry, or -1
	parentName string
	folders    []folder
}

// folder is one whose time is set when nothing more is put into it.
type folder struct {
	name  string
	times []unix.Timespec
}

// relative checks and cleans a name of the archive.
func relative(name string) (string, error) {
	clean := strings.TrimLeft(filepath.Clean(name), "/")
	if clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(name, 0) {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("archive entry %q is outside of the extraction point", name))
	}
	if clean == "" {
		clean = "."
	}
	return clean, nil
}

func (x *extractor) entry(ctx context.Context, hdr *tar.Header, content io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := relative(hdr.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil // the folder itself, which is the container's
	}
	dir, err := x.folder(filepath.Dir(name))
	if err != nil {
		return err
	}
	base := filepath.Base(name)
	inPlace, err := x.makeRoom(dir, base, hdr)
	if err != nil {
		return err
	}
	if err := x.create(ctx, dir, base, hdr, content, inPlace); errors.Is(err, fs.ErrExist) {
		// It was not there before, and what is there now is not to be written through.
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("extract %q: something else has made it at the same time", hdr.Name))
	} else if err != nil {
		return fmt.Errorf("extract %q: %w", hdr.Name, err)
	}
	if hdr.Typeflag == tar.TypeDir {
		x.folders = append(x.folders, folder{name: name, times: times(hdr)})
	}
	return nil
}

// folder returns a handle of a folder, made if it is not there. It is valid until the next call.
func (x *extractor) folder(name string) (int, error) {
	if x.parent >= 0 && x.parentName == name {
		return x.parent, nil
	}
	x.forget()
	fd, err := x.makeFolders(name)
	if err != nil {
		return -1, err
	}
	x.parent, x.parentName = fd, name
	return fd, nil
}

func (x *extractor) forget() {
	if x.parent >= 0 {
		_ = unix.Close(x.parent)
	}
	x.parent = -1
}

func (x *extractor) makeFolders(name string) (int, error) {
	path := x.dest + "/" + name
	fd, err := x.root.openat2(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if !errors.Is(err, fs.ErrNotExist) || name == "." {
		return fd, err
	}
	up, err := x.makeFolders(filepath.Dir(name))
	if err != nil {
		return -1, err
	}
	err = unix.Mkdirat(up, filepath.Base(name), 0o755)
	_ = unix.Close(up)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return -1, &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return x.root.openat2(path, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// makeRoom removes what an entry replaces. It is true if a file must be written in place, because it is a
// mount point.
func (x *extractor) makeRoom(dir int, base string, hdr *tar.Header) (inPlace bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, &fs.PathError{Op: "stat", Path: hdr.Name, Err: err}
	}
	wasDir, isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, hdr.Typeflag == tar.TypeDir
	switch {
	case wasDir && isDir:
		return false, nil
	case x.opts.NoOverwriteDirNonDir && wasDir:
		return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("cannot overwrite directory %q with non-directory %q", hdr.Name, x.dest))
	case x.opts.NoOverwriteDirNonDir && isDir:
		return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("cannot overwrite non-directory %q with directory %q", hdr.Name, x.dest))
	case wasDir:
		return false, removeFolder(dir, base)
	}
	err = unix.Unlinkat(dir, base, 0)
	if errors.Is(err, unix.EBUSY) && isFile(hdr) && st.Mode&unix.S_IFMT == unix.S_IFREG {
		return true, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, &fs.PathError{Op: "unlink", Path: hdr.Name, Err: err}
	}
	return false, nil
}

// removeFolder removes a folder with its content, link by link.
func removeFolder(dir int, base string) error {
	root, err := os.OpenRoot(procPath(dir))
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(base), root.Close())
}

func isFile(hdr *tar.Header) bool {
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return true
	default:
		return false
	}
}

// create makes what an entry describes.
func (x *extractor) create(ctx context.Context, dir int, base string, hdr *tar.Header, content io.Reader, inPlace bool) error {
	mode := uint32(hdr.Mode & 0o7777)
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return x.file(ctx, dir, base, hdr, content, inPlace)
	case tar.TypeDir:
		if err := unix.Mkdirat(dir, base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return os.NewSyscallError("mkdir", err)
		}
	case tar.TypeSymlink:
		if err := unix.Symlinkat(hdr.Linkname, dir, base); err != nil {
			return os.NewSyscallError("symlink", err)
		}
		return x.finishLink(dir, base, hdr)
	case tar.TypeLink:
		return x.hardLink(dir, base, hdr)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[hdr.Typeflag]
		dev := unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))              //nolint:gosec // the kernel's own sizes
		if err := unix.Mknodat(dir, base, kind|mode&0o777, int(dev)); err != nil { //nolint:gosec // bits
			return os.NewSyscallError("mknod", err)
		}
	default:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unhandled tar header type %q", hdr.Typeflag))
	}
	return x.finishNode(dir, base, hdr)
}

func (x *extractor) file(ctx context.Context, dir int, base string, hdr *tar.Header, content io.Reader, inPlace bool) error {
	flags := unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	if inPlace {
		flags |= unix.O_TRUNC
	} else {
		flags |= unix.O_CREAT | unix.O_EXCL
	}
	fd, err := unix.Openat(dir, base, flags, 0o600)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	f := os.NewFile(uintptr(fd), base)
	err = copyContent(ctx, f, content, hdr)
	if err == nil {
		err = x.finish(fd, hdr)
	}
	return errors.Join(err, f.Close())
}

// copyContent writes a file. The zeros of one that is sparse in the archive, where terabytes of them take
// a few bytes, become holes.
func copyContent(ctx context.Context, f *os.File, content io.Reader, hdr *tar.Header) error {
	sparse := hdr.Typeflag == tar.TypeGNUSparse
	for key := range hdr.PAXRecords {
		sparse = sparse || strings.HasPrefix(key, "GNU.sparse.")
	}
	buf := make([]byte, min(copySize, max(hdr.Size, 1)))
	for pos := int64(0); ; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(content, buf)
		if n > 0 && (!sparse || !zero(buf[:n])) {
			if _, err := f.WriteAt(buf[:n], pos); err != nil {
				return err
			}
		}
		pos += int64(n)
		if errors.Is(err, io.EOF) || n < len(buf) && errors.Is(err, io.ErrUnexpectedEOF) && pos == hdr.Size {
			return f.Truncate(pos)
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", errors.Join(errdefs.ErrInvalidArgument, err))
		}
	}
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// hardLink links to another file beneath the extraction point. Its own last component is not followed.
func (x *extractor) hardLink(dir int, base string, hdr *tar.Header) error {
	target, err := relative(hdr.Linkname)
	if err != nil {
		return err
	}
	from, err := x.root.openat2(x.dest+"/"+filepath.Dir(target), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return os.NewSyscallError("link", unix.Linkat(from, filepath.Base(target), dir, base, 0))
}

func (x *extractor) owner(hdr *tar.Header) (uid, gid int) {
	if x.opts.Owner != nil {
		return x.opts.Owner.UID, x.opts.Owner.GID
	}
	return hdr.Uid, hdr.Gid
}

func (x *extractor) finishLink(dir int, base string, hdr *tar.Header) error {
	uid, gid := x.owner(hdr)
	if err := unix.Fchownat(dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("chown", err)
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(dir, base, times(hdr), unix.AT_SYMLINK_NOFOLLOW))
}

// finishNode is finish for what was made by name: it may have been exchanged since, but not for something
// that a link leads to.
func (x *extractor) finishNode(dir int, base string, hdr *tar.Header) error {
	fd, st, err := child(dir, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return errdefs.ErrConflict.WithMessage("the container has replaced it by a link")
	}
	return x.finish(fd, hdr)
}

// finish sets an open file's owner, attributes, mode and times, in the order in which one does not undo
// the other.
func (x *extractor) finish(fd int, hdr *tar.Header) error {
	uid, gid := x.owner(hdr)
	name := procPath(fd)
	if err := unix.Chown(name, uid, gid); err != nil {
		return os.NewSyscallError("chown", err)
	}
	for key, value := range hdr.PAXRecords {
		attr, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		err := unix.Setxattr(name, attr, []byte(value), 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set attribute %s: %w", attr, err)
		}
	}
	if err := unix.Chmod(name, uint32(hdr.Mode&0o7777)); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, name, times(hdr), 0))
}

// settleFolders sets the folders' times, which their content has changed.
func (x *extractor) settleFolders() error {
	x.forget()
	for _, f := range x.folders {
		dir, err := x.folder(filepath.Dir(f.name))
		if err != nil {
			return err
		}
		err = unix.UtimesNanoAt(dir, filepath.Base(f.name), f.times, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "utimensat", Path: f.name, Err: err}
		}
	}
	return nil
}

// times returns access and modification time, within what file systems can keep.
func times(hdr *tar.Header) []unix.Timespec {
	spec := func(t time.Time) unix.Timespec {
		if t.Before(time.Unix(0, 0)) || t.After(time.Unix(1<<34, 0)) {
			t = time.Unix(0, 0)
		}
		ts, err := unix.TimeToTimespec(t)
		if err != nil {
			return unix.Timespec{}
		}
		return ts
	}
	access := hdr.AccessTime
	if access.Before(hdr.ModTime) {
		access = hdr.ModTime
	}
	return []unix.Timespec{spec(access), spec(hdr.ModTime)}
}
