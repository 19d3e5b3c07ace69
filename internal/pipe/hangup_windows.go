package pipe

import (
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/windows"
)

// localInformation is FILE_PIPE_LOCAL_INFORMATION of Microsoft's documentation.
type localInformation struct {
	Type, Configuration, MaximumInstances, CurrentInstances             uint32
	InboundQuota, ReadDataAvailable, OutboundQuota, WriteQuotaAvailable uint32
	State, End                                                          uint32
}

const (
	filePipeLocalInformation = 24 // of FILE_INFORMATION_CLASS
	filePipeConnectedState   = 3
)

// HungUp tells whether the other end of conn was closed altogether, even if
// something from it is still unread; the end of one half is not. It reads
// nothing and does not wait. What is no pipe has never hung up.
func HungUp(conn net.Conn) bool {
	file, ok := conn.(interface{ Fd() uintptr })
	if !ok {
		return false
	}
	var (
		status windows.IO_STATUS_BLOCK
		info   localInformation
	)
	err := windows.NtQueryInformationFile(windows.Handle(file.Fd()), &status,
		(*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)), filePipeLocalInformation)
	if err != nil {
		return errors.Is(err, windows.STATUS_PIPE_BROKEN)
	}
	return info.State != filePipeConnectedState
}
