package layerstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Shim is the process of a shim that was started by this store, or by one before
// it with the same state directory.
type Shim struct {
	ID  string // of its task
	PID int
}

// Shims lists the shims that are running. containerd itself loses those that were
// started by a process that was killed before it had written down where they
// listen.
func (s *Store) Shims() ([]Shim, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var shims []Shim
	for _, dir := range processes {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		id, err := s.shimID(pid)
		if err != nil {
			return nil, err
		}
		if id != "" {
			shims = append(shims, Shim{ID: id, PID: pid})
		}
	}
	return shims, nil
}

// shimID returns the task of the process, or "" if it is no shim of this store.
func (s *Store) shimID(pid int) (string, error) {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	args := strings.Split(string(line), "\x00")
	if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim-") || argument(args, "-namespace") != Namespace || argument(args, "-address") != s.address {
		return "", nil
	}
	return argument(args, "-id"), nil
}

// argument returns what follows name among args.
func argument(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// KillShim ends a shim; it is no error if it has ended by itself.
func (s *Store) KillShim(shim Shim) error {
	process, err := os.FindProcess(shim.PID) // by a descriptor, which is not used again
	if err != nil {
		return err
	}
	defer process.Release() //nolint:errcheck // frees the descriptor only
	if id, err := s.shimID(shim.PID); err != nil || id != shim.ID {
		return err
	}
	if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
