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
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxDepth bounds the folders that are open at once.
	maxDepth = 1000
	// copySize is the unit of copying, after which the context is looked at.
	copySize = 1 << 20
	// paxXattr precedes the name of an extended attribute in a tar header.
	paxXattr = "SCHILY.xattr."
	// capabilities is the one extended attribute that Docker's archives have.
	capabilities = "security.capability"
)

// kernelFS are the file systems that are no files of the container: seen as empty folders, as in the
// view of a container that does not run.
var kernelFS = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
	unix.DEVPTS_SUPER_MAGIC, unix.SECURITYFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC,
	unix.BPF_FS_MAGIC, 0x19800202, /* mqueue */
}

// Archive writes what is at path as a tar archive. Its names begin with the path's last element. A link
// is archived itself, unless the path ends in a slash.
//
// What a running container removes meanwhile is left out; a file that shrinks while it is read fails the
// archive.
func (r *Root) Archive(ctx context.Context, path string, w io.Writer) error {
	abs := absolute(path)
	fd, st, err := r.handle(abs)
	if err != nil {
		return err
	}
	a := newArchiver(w)
	name := filepath.Base(abs)
	if name == "/" {
		name = ""
	}
	if err := a.add(ctx, fd, st, name, 0); err != nil {
		return err
	}
	return a.finish(ctx)
}

// Export writes everything as a tar archive, except for the root folder itself. Names begin without a
// slash.
func (r *Root) Export(ctx context.Context, w io.Writer) error {
	fd := int(r.dir.Fd())
	st, err := fstat(fd)
	if err != nil {
		return err
	}
	a := newArchiver(w)
	if err := a.children(ctx, fd, &st, "", 0); err != nil {
		return err
	}
	return a.finish(ctx)
}

type archiver struct {
	tw    *tar.Writer
	links map[[2]uint64]string // names of files that have more than one, by device and inode
}

func newArchiver(w io.Writer) *archiver {
	return &archiver{tw: tar.NewWriter(w), links: map[[2]uint64]string{}}
}

// finish ends the archive, unless ctx ended meanwhile: what was removed for that reason may be missing
// in it.
func (a *archiver) finish(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return a.tw.Close()
}

// add archives what the handle is of, and closes it.
func (a *archiver) add(ctx context.Context, fd int, st unix.Stat_t, name string, depth int) error {
	defer unix.Close(fd)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		return nil // an archive cannot have it
	}
	hdr, err := header(fd, &st, name)
	if err != nil {
		return err
	}
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		key := [2]uint64{st.Dev, st.Ino}
		if first, ok := a.links[key]; ok {
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
			return a.tw.WriteHeader(hdr)
		}
		a.links[key] = name
	}
	switch kind {
	case unix.S_IFREG:
		return a.file(ctx, fd, hdr)
	case unix.S_IFDIR:
		if err := a.tw.WriteHeader(hdr); err != nil {
			return err
		}
		return a.children(ctx, fd, &st, name+"/", depth)
	default:
		return a.tw.WriteHeader(hdr)
	}
}

func header(fd int, st *unix.Stat_t, name string) (*tar.Header, error) {
	hdr := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(st.Mode & 0o7777),
		Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Sec, 0),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		hdr.Typeflag = tar.TypeDir
		hdr.Name += "/"
	case unix.S_IFLNK:
		target, err := linkTarget(fd)
		if err != nil {
			return nil, err
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		buf := make([]byte, 64) // larger than any version of the attribute
		if n, err := unix.Getxattr(procPath(fd), capabilities, buf); err == nil && n > 0 {
			hdr.PAXRecords = map[string]string{paxXattr + capabilities: string(buf[:n])}
		}
	}
	return hdr, nil
}

func (a *archiver) file(ctx context.Context, fd int, hdr *tar.Header) error {
	f, err := reopen(fd, unix.O_RDONLY, hdr.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := a.tw.WriteHeader(hdr); err != nil {
		return err
	}
	for left := hdr.Size; left > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.CopyN(a.tw, f, min(left, copySize))
		left -= n
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s shrank while it was read: %w", hdr.Name, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// children archives what is in the folder called prefix, which ends in a slash unless it is empty.
func (a *archiver) children(ctx context.Context, fd int, st *unix.Stat_t, prefix string, depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("%s: %w", prefix, unix.ENAMETOOLONG)
	}
	names, err := list(fd, prefix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the folder has been removed since it was opened
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		sub, subStat, err := child(fd, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if subStat.Dev != st.Dev && subStat.Mode&unix.S_IFMT == unix.S_IFDIR && ofKernel(sub) {
			err = a.empty(sub, &subStat, prefix+n)
		} else {
			err = a.add(ctx, sub, subStat, prefix+n, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *archiver) empty(fd int, st *unix.Stat_t, name string) error {
	defer unix.Close(fd)
	hdr, err := header(fd, st, name)
	if err != nil {
		return err
	}
	return a.tw.WriteHeader(hdr)
}

func ofKernel(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && slices.Contains(kernelFS, st.Type)
}

// list returns the sorted names in the folder that the handle is of.
func list(fd int, name string) ([]string, error) {
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(dir), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
