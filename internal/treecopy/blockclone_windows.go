package treecopy

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// The control codes and structures are those of the pages
// "FSCTL_DUPLICATE_EXTENTS_TO_FILE", "FSCTL_GET_INTEGRITY_INFORMATION",
// "FSCTL_SET_INTEGRITY_INFORMATION" and "Block Cloning on ReFS".
const (
	fsctlDuplicateExtents = 0x00098344
	fsctlGetIntegrity     = 0x0009027C
	fsctlSetIntegrity     = 0x0009C280
	supportsBlockRefcount = 0x08000000 // FILE_SUPPORTS_BLOCK_REFCOUNTING

	// clonePiece is how much one call shares: less than the 4 GiB that a call may,
	// and a multiple of every cluster size.
	clonePiece = 1 << 30
	// cloneFrom is the size below which a copy costs no more than the calls.
	cloneFrom = 128 << 10
)

type duplicateExtents struct {
	file                          windows.Handle
	sourceOffset, targetOffset, n int64
}

type integrityGet struct {
	algorithm, reserved uint16
	flags               uint32
	chunkSize           uint32
	clusterSize         uint32
}

type integritySet struct {
	algorithm, reserved uint16
	flags               uint32
}

// blockClone shares the blocks of files in ReFS.
type blockClone struct{ plain }

func (blockClone) Name() string { return MethodBlockClone }

// probeBlockClone returns the backend if a file in dir can be cloned, as is tried,
// and nil else.
func probeBlockClone(dir string) Backend {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return nil
	}
	var root [windows.MAX_PATH + 1]uint16
	var flags uint32
	if windows.GetVolumePathName(path, &root[0], uint32(len(root))) != nil ||
		windows.GetVolumeInformation(&root[0], nil, 0, nil, nil, &flags, nil, 0) != nil || flags&supportsBlockRefcount == 0 {
		return nil
	}
	if !tryClone(dir) {
		return nil
	}
	return blockClone{}
}

func tryClone(dir string) bool {
	at, err := os.MkdirTemp(dir, ".probe-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(at)
	content := bytes.Repeat([]byte("slipway "), cloneFrom/8+100)
	src, dst := filepath.Join(at, "a"), filepath.Join(at, "b")
	if err := os.WriteFile(src, content, 0o600); err != nil {
		return false
	}
	info, err := os.Lstat(src)
	if err != nil || cloneFile(func() error { return nil }, dst, src, info) != nil {
		return false
	}
	got, err := os.ReadFile(dst)
	return err == nil && bytes.Equal(got, content)
}

func (b blockClone) CopyFile(ctx context.Context, dst, src string, info fs.FileInfo) (shared, copied int64, err error) {
	// Only the content is cloned: what has more than that is copied by the system.
	if info.Size() < cloneFrom || hasStreams(src) {
		return b.plain.CopyFile(ctx, dst, src, info)
	}
	if err := cloneFile(func() error { return context.Cause(ctx) }, dst, src, info); err != nil {
		return 0, 0, inUse(src, err)
	}
	return info.Size(), 0, nil
}

// cloneFile clones a file, unless stopped has an error meanwhile.
func cloneFile(stopped func() error, dst, src string, info fs.FileInfo) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	cluster, err := matchIntegrity(out, in)
	if err != nil {
		return err
	}
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); at += clonePiece {
		if err := stopped(); err != nil {
			return err
		}
		n := min(info.Size()-at, clonePiece)
		n = (n + cluster - 1) / cluster * cluster
		request := duplicateExtents{file: windows.Handle(in.Fd()), sourceOffset: at, targetOffset: at, n: n}
		if err := control(out, fsctlDuplicateExtents, unsafe.Pointer(&request), unsafe.Sizeof(request), nil, 0); err != nil {
			return err
		}
	}
	return copyFileInfo(out, dst, info)
}

// matchIntegrity gives out the checksums that in has, without which blocks cannot
// be shared, and returns the size of a cluster.
func matchIntegrity(out, in *os.File) (cluster int64, err error) {
	var have integrityGet
	if err := control(in, fsctlGetIntegrity, nil, 0, unsafe.Pointer(&have), unsafe.Sizeof(have)); err != nil {
		return 0, err
	}
	if have.clusterSize == 0 {
		return 0, errors.ErrUnsupported
	}
	want := integritySet{algorithm: have.algorithm, flags: have.flags}
	if err := control(out, fsctlSetIntegrity, unsafe.Pointer(&want), unsafe.Sizeof(want), nil, 0); err != nil {
		return 0, err
	}
	return int64(have.clusterSize), nil
}

func control(f *os.File, code uint32, in unsafe.Pointer, inSize uintptr, out unsafe.Pointer, outSize uintptr) error {
	var n uint32
	//nolint:gosec // sizes of small structures
	return windows.DeviceIoControl(windows.Handle(f.Fd()), code, (*byte)(in), uint32(inSize), (*byte)(out), uint32(outSize), &n, nil)
}

// copyFileInfo gives the copy the times and attributes of its original.
func copyFileInfo(out *os.File, dst string, info fs.FileInfo) error {
	data, ok := info.Sys().(*syscall.Win32FileAttributeData)
	if !ok {
		return setTime(dst, info)
	}
	created, written := windows.NsecToFiletime(data.CreationTime.Nanoseconds()), windows.NsecToFiletime(info.ModTime().UnixNano())
	if err := windows.SetFileTime(windows.Handle(out.Fd()), &created, nil, &written); err != nil {
		return err
	}
	name, err := longPath(dst)
	if err != nil {
		return err
	}
	return windows.SetFileAttributes(name, data.FileAttributes&keptAttributes)
}

var (
	findFirstStream = windows.NewLazySystemDLL("kernel32.dll").NewProc("FindFirstStreamW")
	findNextStream  = windows.NewLazySystemDLL("kernel32.dll").NewProc("FindNextStreamW")
)

// streamData is WIN32_FIND_STREAM_DATA.
type streamData struct {
	size int64
	name [windows.MAX_PATH + 36]uint16
}

// hasStreams reports whether a file has more than its content. What cannot be told
// counts as yes.
func hasStreams(path string) bool {
	name, err := longPath(path)
	if err != nil {
		return true
	}
	var data streamData
	h, _, _ := findFirstStream.Call(uintptr(unsafe.Pointer(name)), 0, uintptr(unsafe.Pointer(&data)), 0)
	if windows.Handle(h) == windows.InvalidHandle {
		return true
	}
	more, _, _ := findNextStream.Call(h, uintptr(unsafe.Pointer(&data)))
	return windows.FindClose(windows.Handle(h)) != nil || more != 0
}
