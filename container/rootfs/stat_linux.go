package rootfs

import (
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// Stat describes what is at path. A link is described itself, with the place it leads to, unless the
// path ends in a slash. What does not exist is fs.ErrNotExist.
func (r *Root) Stat(path string) (mobycontainer.PathStat, error) {
	abs := absolute(path)
	fd, st, err := r.handle(abs)
	if err != nil {
		return mobycontainer.PathStat{}, err
	}
	defer unix.Close(fd)
	stat := mobycontainer.PathStat{
		Name:  filepath.Base(abs),
		Size:  st.Size,
		Mode:  fileMode(st.Mode),
		Mtime: time.Unix(st.Mtim.Unix()),
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if stat.LinkTarget, err = r.follow(abs); err != nil {
			return mobycontainer.PathStat{}, err
		}
	}
	return stat, nil
}

// Writable fails if what is at path cannot be written because the root, or the volume it is on, is
// mounted read-only.
func (r *Root) Writable(path string) error {
	fd, err := r.openat2(absolute(path), unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var root, here unix.Statfs_t
	if err := unix.Fstatfs(fd, &here); err != nil {
		return err
	}
	if here.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	if err := unix.Fstatfs(int(r.dir.Fd()), &root); err != nil {
		return err
	}
	if root.Flags&unix.ST_RDONLY != 0 && root.Fsid == here.Fsid {
		return errdefs.ErrPermissionDenied.WithMessage("container rootfs is marked read-only")
	}
	return errdefs.ErrPermissionDenied.WithMessage("mounted volume is marked read-only")
}
