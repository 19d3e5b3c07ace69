package main

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

// isDaemon tells whether a process is a living slipwayd. After a crash the number
// may be another program's.
func isDaemon(pid int) bool {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid)) //nolint:gosec // a process id
	if err != nil {
		return false
	}
	defer windows.CloseHandle(process) //nolint:errcheck // it was only read
	name := make([]uint16, windows.MAX_LONG_PATH)
	size := uint32(len(name)) //nolint:gosec // a constant
	if err := windows.QueryFullProcessImageName(process, 0, &name[0], &size); err != nil {
		return false
	}
	return strings.EqualFold(filepath.Base(windows.UTF16ToString(name[:size])), "slipwayd.exe")
}
