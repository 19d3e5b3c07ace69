package dirs

import (
	"archive/tar"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	// attributeRecord holds a file's attributes in decimal. The name is the one
	// that all tools for Windows' layers use (go-winio's backuptar).
	attributeRecord = "MSWINDOWS.fileattr"

	keptAttributes = windows.FILE_ATTRIBUTE_READONLY | windows.FILE_ATTRIBUTE_HIDDEN | windows.FILE_ATTRIBUTE_SYSTEM |
		windows.FILE_ATTRIBUTE_ARCHIVE | windows.FILE_ATTRIBUTE_NOT_CONTENT_INDEXED
	// countedAttributes are those whose change is a change of the file. The others
	// are set by the system, on each write or at some time.
	countedAttributes = windows.FILE_ATTRIBUTE_READONLY | windows.FILE_ATTRIBUTE_HIDDEN | windows.FILE_ATTRIBUTE_SYSTEM
)

func attributes(info fs.FileInfo) uint32 {
	if data, ok := info.Sys().(*syscall.Win32FileAttributeData); ok {
		return data.FileAttributes
	}
	return 0
}

// isJunction reports whether an entry is a directory that leads to another one.
func isJunction(info fs.FileInfo) bool {
	const both = windows.FILE_ATTRIBUTE_DIRECTORY | windows.FILE_ATTRIBUTE_REPARSE_POINT
	return info.Mode()&fs.ModeIrregular != 0 && attributes(info)&both == both
}

// sameAttributes compares what of a file's status is not in its mode.
func sameAttributes(a, b fs.FileInfo) bool {
	return (attributes(a)^attributes(b))&countedAttributes == 0
}

func setHeader(header *tar.Header, info fs.FileInfo) {
	kept := attributes(info) & keptAttributes
	if info.IsDir() {
		kept |= windows.FILE_ATTRIBUTE_DIRECTORY
	} else {
		kept &^= windows.FILE_ATTRIBUTE_ARCHIVE // says only that it was written
	}
	if header.PAXRecords == nil {
		header.PAXRecords = map[string]string{}
	}
	header.PAXRecords[attributeRecord] = strconv.FormatUint(uint64(kept), 10)
}

// fileBasicInfo is FILE_BASIC_INFO; a time of zero is left as it is.
type fileBasicInfo struct {
	created, accessed, written, changed int64
	attributes                          uint32
	_                                   uint32
}

// setFile gives an unpacked file the attributes that its header says.
func setFile(f *os.File, header *tar.Header) error {
	value, err := strconv.ParseUint(header.PAXRecords[attributeRecord], 10, 32)
	kept := uint32(value) & keptAttributes
	if err != nil || kept&^windows.FILE_ATTRIBUTE_ARCHIVE == 0 {
		return nil //nolint:nilerr // a layer of another tool need not have the record
	}
	info := fileBasicInfo{attributes: kept}
	return windows.SetFileInformationByHandle(windows.Handle(f.Fd()), windows.FileBasicInfo, (*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
}

// setDir does nothing: the attributes of directories mean little, and there is no
// owner or mode.
func setDir(*os.Root, string, *tar.Header) error { return nil }
