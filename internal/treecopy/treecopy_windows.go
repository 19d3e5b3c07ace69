package treecopy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"

	"slipway/internal/winpath"
)

// keptAttributes are the attributes of files that a copy has too.
const keptAttributes = windows.FILE_ATTRIBUTE_READONLY | windows.FILE_ATTRIBUTE_HIDDEN | windows.FILE_ATTRIBUTE_SYSTEM |
	windows.FILE_ATTRIBUTE_ARCHIVE | windows.FILE_ATTRIBUTE_NOT_CONTENT_INDEXED

// Probe returns the best backend for copies within dir: it asks the volume, and
// then tries.
func Probe(dir string) Backend {
	if b := probeBlockClone(dir); b != nil {
		return b
	}
	return plain{}
}

// plain has the system copy, with alternate data streams and attributes
// (CopyFileExW).
type plain struct{}

func (plain) Name() string { return MethodCopy }

var copyFileEx = windows.NewLazySystemDLL("kernel32.dll").NewProc("CopyFileExW")

const copyFailIfExists = 0x1 // COPY_FILE_FAIL_IF_EXISTS

func (plain) CopyFile(ctx context.Context, dst, src string, info fs.FileInfo) (shared, copied int64, err error) {
	from, err := longPath(src)
	if err != nil {
		return 0, 0, err
	}
	to, err := longPath(dst)
	if err != nil {
		return 0, 0, err
	}
	// CopyFileExW looks at it as it goes.
	var cancelled atomic.Int32
	stop := context.AfterFunc(ctx, func() { cancelled.Store(1) })
	defer stop()
	ok, _, err := copyFileEx.Call(uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(to)), 0, 0, uintptr(unsafe.Pointer(&cancelled)), copyFailIfExists)
	switch {
	case ok != 0:
		return 0, info.Size(), nil
	case errors.Is(err, windows.ERROR_REQUEST_ABORTED):
		return 0, 0, context.Cause(ctx)
	}
	return 0, 0, inUse(src, err)
}

// inUse gives the error of a file that another process holds open the class
// FailedPrecondition.
func inUse(path string, err error) error {
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errdefs.ErrFailedPrecondition.WithMessage(path + " is in use by a process: stop that first")
	}
	return err
}

// longPath returns the form of a path that may be longer than 260 characters; os
// does the same within.
func longPath(path string) (*uint16, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasPrefix(path, `\\?\`), strings.HasPrefix(path, `\\.\`):
	case strings.HasPrefix(path, `\\`):
		path = `\\?\UNC` + path[1:]
	default:
		path = `\\?\` + path
	}
	return windows.UTF16PtrFromString(path)
}

// copyDirectory gives the copy of a directory its times and attributes.
func copyDirectory(path string, info fs.FileInfo) error {
	data, ok := info.Sys().(*syscall.Win32FileAttributeData)
	if !ok {
		return setTime(path, info)
	}
	name, err := longPath(path)
	if err != nil {
		return err
	}
	created := time.Unix(0, data.CreationTime.Nanoseconds())
	if err := setTimes(name, created, info.ModTime()); err != nil {
		return &fs.PathError{Op: "set times of", Path: path, Err: err}
	}
	if attributes := data.FileAttributes & keptAttributes; attributes != 0 {
		if err := windows.SetFileAttributes(name, attributes); err != nil {
			return &fs.PathError{Op: "set attributes of", Path: path, Err: err}
		}
	}
	return nil
}

func setTimes(name *uint16, created, written time.Time) error {
	h, err := windows.CreateFile(name, windows.FILE_WRITE_ATTRIBUTES, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return err
	}
	c, w := windows.NsecToFiletime(created.UnixNano()), windows.NsecToFiletime(written.UnixNano())
	return errors.Join(windows.SetFileTime(h, &c, nil, &w), windows.CloseHandle(h))
}

func copyLink(dst, src string, _ fs.FileInfo) error {
	target, err := os.Readlink(src)
	if err != nil {
		return err
	}
	return Link(target, dst)
}

// checkName refuses names that a program made by a way round Windows' rules, such
// as "a.": by that name the system would open "a".
func checkName(name string) error { return winpath.CheckName(name) }

// isJunction reports whether a directory entry leads to another directory without
// being a symbolic link.
func isJunction(_ string, info fs.FileInfo) bool {
	data, ok := info.Sys().(*syscall.Win32FileAttributeData)
	return ok && info.Mode()&fs.ModeIrregular != 0 && data.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0 &&
		data.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0
}

// Sync makes the tree at dir last through a loss of power: it flushes the volume
// if it may, which administrators may, and else each file. Names need no flush of
// their own, as NTFS and ReFS journal them.
func Sync(ctx context.Context, dir string) error {
	if flushVolume(dir) == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		return flushFile(path)
	})
}

// SyncVolume flushes everything that was written to the volume of dir (the page
// "FlushFileBuffers function"). It needs an administrator.
func SyncVolume(dir string) error { return flushVolume(dir) }

func flushVolume(dir string) error {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return err
	}
	var root, volume [windows.MAX_PATH + 1]uint16
	if err := windows.GetVolumePathName(path, &root[0], uint32(len(root))); err != nil {
		return err
	}
	if err := windows.GetVolumeNameForVolumeMountPoint(&root[0], &volume[0], uint32(len(volume))); err != nil {
		return err
	}
	// Without the slash it is the volume and not its root directory.
	name, err := windows.UTF16PtrFromString(strings.TrimSuffix(windows.UTF16ToString(volume[:]), `\`))
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		return err
	}
	return errors.Join(windows.FlushFileBuffers(h), windows.CloseHandle(h))
}

func flushFile(path string) (err error) {
	name, err := longPath(path)
	if err != nil {
		return err
	}
	attributes, err := windows.GetFileAttributes(name)
	if err != nil {
		return &fs.PathError{Op: "flush", Path: path, Err: err}
	}
	if attributes&windows.FILE_ATTRIBUTE_READONLY != 0 { // cannot be opened for a flush
		if err := windows.SetFileAttributes(name, attributes&^windows.FILE_ATTRIBUTE_READONLY); err != nil {
			return &fs.PathError{Op: "flush", Path: path, Err: err}
		}
		defer func() { err = errors.Join(err, windows.SetFileAttributes(name, attributes)) }()
	}
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		return inUse(path, &fs.PathError{Op: "flush", Path: path, Err: err})
	}
	return errors.Join(windows.FlushFileBuffers(h), windows.CloseHandle(h))
}
