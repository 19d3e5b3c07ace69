package clonefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	statMask  = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	statFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	openDir   = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// fileID tells inodes of one moment apart.
type fileID struct {
	dev, ino uint64
}

// stamp is what changes when an inode is changed or its number is used again.
// Times are nanoseconds since 1970.
type stamp struct {
	fileID
	birth, change int64
	size          uint64
}

func stampOf(st *unix.Statx_t) stamp {
	return stamp{
		fileID: fileID{dev: uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), ino: st.Ino},
		birth:  st.Btime.Sec*int64(time.Second) + int64(st.Btime.Nsec),
		change: st.Ctime.Sec*int64(time.Second) + int64(st.Ctime.Nsec),
		size:   st.Size,
	}
}

// isSameInode tells an inode from a later one with its number.
func (s stamp) isSameInode(o stamp) bool { return s.fileID == o.fileID && s.birth == o.birth }

func statAt(dir int, name string, st *unix.Statx_t) error {
	for {
		err := unix.Statx(dir, name, statFlags, statMask, st)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func statFD(fd int, st *unix.Statx_t) error {
	return unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, st)
}

// openAt opens a name in a directory without following a symbolic link and
// without marking it as read.
func openAt(dir int, name string, flags int, mode uint32) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOATIME, mode)
		if errors.Is(err, unix.EPERM) { // not the owner's and no CAP_FOWNER
			fd, err = unix.Openat(dir, name, flags, mode)
		}
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd) // nothing was written through it that close could still lose
	}
}

// procPath names an entry of an open directory for the calls that have no
// variant with a directory descriptor.
func procPath(dir int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
}

// dirent is one entry of a directory; typ is a DT_ constant.
type dirent struct {
	name string
	typ  uint8
}

const direntHeader = 19 // ino u64, off u64, reclen u16, type u8

// readDir lists an open directory from its start, without . and .. .
func readDir(fd int, buf []byte) ([]dirent, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
	var out []dirent
	for {
		n, err := unix.ReadDirent(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.ENOENT) {
			return nil, nil // removed while it was open
		}
		if err != nil {
			return nil, fmt.Errorf("read directory: %w", err)
		}
		if n <= 0 {
			return out, nil
		}
		for rest := buf[:n]; len(rest) >= direntHeader; {
			size := int(binary.NativeEndian.Uint16(rest[16:]))
			if size < direntHeader || size > len(rest) {
				return nil, errors.New("read directory: broken entry")
			}
			name := rest[direntHeader:size]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			if s := string(name); s != "." && s != ".." {
				out = append(out, dirent{name: s, typ: rest[18]})
			}
			rest = rest[size:]
		}
	}
}
