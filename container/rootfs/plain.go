package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"

	"slipway/internal/winpath"
)

// plain is the root of a container on Windows, a plain directory. Its paths are Windows', in any case and with both
// slashes, on the drive C: or none. [os.Root] resolves them beneath the root, so that a link that is exchanged
// meanwhile leads nowhere else. A link with an absolute target leads out of the root, as Windows would follow it, and
// is refused.
//
// Nothing in it is of one system only, so that it is tested on all.
type plain struct {
	root   *os.Root
	mounts []plainMount // the deepest first
}

// plainMount is a directory that is seen at a place of the root.
type plainMount struct {
	place    string // folded, for comparing
	root     *os.Root
	readOnly bool
}

func openPlain(dir string, mounts []Mount) (_ *plain, err error) {
	r := &plain{}
	if r.root, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, m := range mounts {
		place, _, err := inside(m.Path)
		if err != nil {
			return nil, err
		}
		root, err := os.OpenRoot(m.Source)
		if err != nil {
			return nil, err
		}
		r.mounts = append(r.mounts, plainMount{place: winpath.Fold(place), root: root, readOnly: m.ReadOnly})
	}
	slices.SortStableFunc(r.mounts, func(a, b plainMount) int { return len(b.place) - len(a.place) })
	return r, nil
}

// Close releases the root. Operations under way go on.
func (r *plain) Close() error {
	errs := []error{r.root.Close()}
	for _, m := range r.mounts {
		errs = append(errs, m.root.Close())
	}
	return errors.Join(errs...)
}

// at returns the directory that holds a place, the root's or a mount's, and the place in it.
func (r *plain) at(place string) (dir *os.Root, rel string) {
	m, rel := r.mountAt(place)
	if m == nil {
		return r.root, place
	}
	return m.root, rel
}

// mountAt returns the mount that holds a place, or nil.
func (r *plain) mountAt(place string) (m *plainMount, rel string) {
	names := strings.Split(place, "/")
	for i := range r.mounts {
		m := &r.mounts[i]
		depth := strings.Count(m.place, "/") + 1
		if depth > len(names) || winpath.Fold(path.Join(names[:depth]...)) != m.place {
			continue
		}
		return m, path.Join(".", path.Join(names[depth:]...))
	}
	return nil, place
}

// isMount reports whether a place is that of a mount.
func (r *plain) isMount(place string) bool {
	m, rel := r.mountAt(place)
	return m != nil && rel == "."
}

// inside is the place of a path of the API beneath the root, and whether it ends in a slash or "/.", which asks for
// what a link leads to. A path that is not absolute begins at the root, as in Docker.
func inside(p string) (place string, followed bool, err error) {
	slashed := strings.ReplaceAll(p, `\`, "/")
	if !winpath.HasDrive(slashed) && !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed
	}
	place, err = winpath.Inside(slashed)
	return place, strings.HasSuffix(slashed, "/") || strings.HasSuffix(slashed, "/."), err
}

// stat describes what is at a place, a link itself unless it is to be followed.
func (r *plain) stat(place string, followed bool) (fs.FileInfo, error) {
	dir, rel := r.at(place)
	if !followed {
		return dir.Lstat(rel)
	}
	info, err := dir.Stat(rel)
	if err == nil && !info.IsDir() {
		return nil, &fs.PathError{Op: "stat", Path: place, Err: errors.New("not a directory")}
	}
	return info, err
}

// Stat describes what is at path. A link is described itself, with the place it leads to, unless the
// path ends in a slash. What does not exist is fs.ErrNotExist.
func (r *plain) Stat(p string) (mobycontainer.PathStat, error) {
	place, followed, err := inside(p)
	if err != nil {
		return mobycontainer.PathStat{}, err
	}
	info, err := r.stat(place, followed)
	if err != nil {
		return mobycontainer.PathStat{}, err
	}
	stat := mobycontainer.PathStat{Name: path.Base(place), Size: info.Size(), Mode: info.Mode(), Mtime: info.ModTime()}
	if place == "." {
		stat.Name = `\`
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		stat.LinkTarget = r.follow(place)
	}
	return stat, nil
}

// follow returns where a link leads, as a path of the container. It is text for a client; whoever uses it resolves it
// again.
func (r *plain) follow(place string) string {
	const maxLinks = 40
	for range maxLinks {
		dir, rel := r.at(place)
		target, err := dir.Readlink(rel)
		if err != nil {
			break
		}
		target = strings.ReplaceAll(target, `\`, "/")
		if winpath.HasDrive(target) || strings.HasPrefix(target, "/") {
			return target // out of the root
		}
		place = path.Join(path.Dir(place), target)
		if place == ".." || strings.HasPrefix(place, "../") {
			return target
		}
		if info, err := r.stat(place, false); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			break
		}
	}
	return winpath.Absolute(place)
}

// Writable fails if nothing is at path, or what is there is in a volume that is mounted read-only.
func (r *plain) Writable(p string) error {
	place, _, err := inside(p)
	if err != nil {
		return err
	}
	if m, _ := r.mountAt(place); m != nil && m.readOnly {
		return errdefs.ErrPermissionDenied.WithMessage("mounted volume is marked read-only")
	}
	dir, rel := r.at(place)
	_, err = dir.Stat(rel)
	return err
}

// ReadFile returns a regular file's content. One of more than limit bytes is an error.
func (r *plain) ReadFile(p string, limit int64) ([]byte, error) {
	f, err := r.openRegular(p, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, errdefs.ErrOutOfRange.WithMessage(fmt.Sprintf("%s is larger than %d bytes", p, limit))
	}
	return b, nil
}

// WriteFile replaces a regular file's content, durably, and creates it if it is not there. It is not atomic.
func (r *plain) WriteFile(p string, data []byte, mode fs.FileMode) error {
	return r.write(p, data, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
}

// AppendFile appends to a regular file, durably, and creates it if it is not there.
func (r *plain) AppendFile(p string, data []byte, mode fs.FileMode) error {
	return r.write(p, data, os.O_WRONLY|os.O_CREATE|os.O_APPEND, mode)
}

func (r *plain) write(p string, data []byte, flag int, mode fs.FileMode) error {
	f, err := r.openRegular(p, flag, mode.Perm())
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// openRegular opens what path leads to if it is a regular file, or makes one.
func (r *plain) openRegular(p string, flag int, mode fs.FileMode) (*os.File, error) {
	place, _, err := inside(p)
	if err != nil {
		return nil, err
	}
	// Looked at first, since opening something else could wait or do anything.
	dir, rel := r.at(place)
	info, err := dir.Stat(rel)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, errdefs.ErrInvalidArgument.WithMessage(p + " is not a regular file")
	case err != nil && (!errors.Is(err, fs.ErrNotExist) || flag&os.O_CREATE == 0):
		return nil, err
	}
	return dir.OpenFile(rel, flag, mode)
}

// Remove removes a file or link, or an empty folder. What is not there is no error.
func (r *plain) Remove(p string) error {
	place, _, err := inside(p)
	if err != nil {
		return err
	}
	if place == "." || r.isMount(place) {
		return errdefs.ErrInvalidArgument.WithMessage("cannot remove the root or a volume")
	}
	dir, rel := r.at(place)
	if err := dir.Remove(rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
