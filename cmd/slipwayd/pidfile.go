package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// writePidFile writes the daemon's process id and returns a function that
// removes it again. A file that names a living daemon is not overwritten. It is
// for people and init systems: the locks of the roots, not this file, keep a
// second daemon away.
func writePidFile(path string) (remove func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	if pid := readPidFile(path); pid != os.Getpid() && pid > 0 && isDaemon(pid) {
		return nil, fmt.Errorf("pid file %s: process with PID %d is still running: stop it, or choose another file with --pidfile", path, pid)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil { //nolint:gosec // others pass through to the socket
		return nil, err
	}
	// In one step: nobody reads half a number.
	content := strconv.Itoa(os.Getpid()) + "\n"
	next := path + "." + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(next, []byte(content), 0o644); err != nil { //nolint:gosec // readable by all, as usual
		return nil, err
	}
	if err := os.Rename(next, path); err != nil { //nolint:gosec // the path is the administrator's
		return nil, errors.Join(err, os.Remove(next)) //nolint:gosec // the path is the administrator's
	}
	return func() error {
		if readPidFile(path) != os.Getpid() { // removed, or another daemon's by now
			return nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { //nolint:gosec // the path is the administrator's
			return err
		}
		return nil
	}, nil
}

// readPidFile returns the process id in the file, or 0 if there is none.
func readPidFile(path string) int {
	data, err := os.ReadFile(path) //nolint:gosec // the path is the administrator's
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return pid
}
