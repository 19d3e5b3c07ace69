package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// program is the name that a daemon's process has.
const program = "slipwayd"

// isDaemon tells whether a process is a living slipwayd. After a crash the number
// may be another program's.
func isDaemon(pid int) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if errors.Is(err, fs.ErrPermission) {
		comm, err := os.ReadFile(filepath.Join(proc, "comm")) //nolint:gosec // of a number
		return err == nil && strings.TrimSpace(string(comm)) == program
	}
	// Without an exe it has ended, and only its parent has not looked yet.
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == program
}
