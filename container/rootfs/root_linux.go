package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// raceRetries bounds how often a path is resolved again because something on it was renamed.
	raceRetries = 10_000
	// maxLinks is the kernel's own bound of links followed on a path.
	maxLinks = 40
)

// Root is the root of a container's files.
type Root struct {
	dir *os.File // O_PATH
}

// Open returns the root that is mounted at dir.
func Open(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &Root{dir: os.NewFile(uintptr(fd), dir)}, nil
}

// OpenProcess returns the root as the process sees it, with everything mounted there. The caller makes
// sure afterwards that the process is still the one it means.
func OpenProcess(pid int) (*Root, error) {
	return Open("/proc/" + strconv.Itoa(pid) + "/root")
}

// Close releases the root. Operations under way go on.
func (r *Root) Close() error { return r.dir.Close() }

// openat2 resolves a path beneath the root.
func (r *Root) openat2(path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC, //nolint:gosec // flags are not negative
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	var err error
	for range raceRetries {
		var fd int
		if fd, err = unix.Openat2(int(r.dir.Fd()), path, &how); err == nil {
			return fd, nil
		}
		// EAGAIN: a rename while a ".." was followed; the kernel leaves the retry to us.
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return -1, &fs.PathError{Op: "open", Path: path, Err: err}
}

// OpenPath opens what path leads to, for looking only (O_PATH): its descriptor is a place to mount or to
// resolve from, and nothing is read.
func (r *Root) OpenPath(path string) (*os.File, error) {
	fd, err := r.openat2(absolute(path), unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// handle opens path for looking, its last component not followed unless a slash comes after it.
func (r *Root) handle(path string) (int, unix.Stat_t, error) {
	fd, err := r.openat2(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, unix.Stat_t{}, err
	}
	st, err := fstat(fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, st, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return fd, st, nil
}

// child is handle for a single name in an open folder.
func child(dir int, name string) (int, unix.Stat_t, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, unix.Stat_t{}, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	st, err := fstat(fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, st, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fd, st, nil
}

func fstat(fd int) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st, err
}

// reopen opens a regular file or folder, known by a handle, for reading or writing.
func reopen(handle, flags int, name string) (*os.File, error) {
	fd, err := unix.Open(procPath(handle), flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// procPath names an open file, whatever its path is by now.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// absolute cleans a path of the API, which is relative to the root. As in Docker, a trailing "/" or "/."
// stays: it asks for what a link leads to.
func absolute(path string) string {
	abs := filepath.Join("/", path)
	if filepath.Base(path) == "." && path != "" && filepath.Base(abs) != "." {
		if !strings.HasSuffix(abs, "/") {
			abs += "/"
		}
		abs += "."
	}
	if strings.HasSuffix(path, "/") && !strings.HasSuffix(abs, "/") {
		abs += "/"
	}
	return abs
}

// follow returns where a link leads, as a path beneath the root: as far as there is something, and the
// rest as it is written. The result is text for a client; whoever uses it resolves it again.
func (r *Root) follow(path string) (string, error) {
	done, rest, links := "/", filepath.Clean(path), 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		next := filepath.Join(done, name)
		target, err := r.readlink(next)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			return filepath.Join(next, rest), nil
		case err != nil:
			return "", err
		case target == "":
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "readlink", Path: path, Err: unix.ELOOP}
		}
		if strings.HasPrefix(target, "/") {
			done = "/"
		}
		rest = target + "/" + rest
	}
	return done, nil
}

// readlink returns a link's target, or "" if path is something else.
func (r *Root) readlink(path string) (string, error) {
	fd, st, err := r.handle(path)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", nil
	}
	return linkTarget(fd)
}

func linkTarget(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", fmt.Errorf("readlink: %w", err)
	}
	return string(buf[:n]), nil
}

// fileMode converts the kernel's mode to Go's.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	if mode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}
