package layerstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
)

// InheritRoot gives the root directory of a writable snapshot, which was just
// prepared, the mode of the layer beneath it, as containerd does with the owner.
func InheritRoot(mounts []mount.Mount) error {
	upper := upperDir(mounts)
	parent := option(mounts, "lowerdir=")
	if upper == "" || parent == "" {
		return nil
	}
	parent, _, _ = strings.Cut(parent, ":")
	from, err := os.Stat(parent)
	if err != nil {
		return err
	}
	to, err := os.Stat(upper)
	if err != nil || to.Mode() == from.Mode() {
		return err
	}
	return os.Chmod(upper, from.Mode())
}

// SyncSnapshot makes a writable snapshot, which was just prepared, last through
// a loss of power, with what [InheritRoot] gives it. containerd flushes its record of the snapshot but not the
// directory that it is about, and a record without a directory cannot be mounted.
// Nothing else in the pool is written out: on a file system with a journal this
// is one flush of that.
func SyncSnapshot(mounts []mount.Mount) error {
	upper := upperDir(mounts)
	if upper == "" {
		return nil // read-only: nothing was made
	}
	if err := InheritRoot(mounts); err != nil {
		return err
	}
	snapshot := filepath.Dir(upper)
	for _, dir := range []string{upper, snapshot, filepath.Dir(snapshot)} {
		if err := SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir makes the entries of a directory last through a loss of power.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// option returns the value of a mount option, given with its "=".
func option(mounts []mount.Mount, name string) string {
	for _, m := range mounts {
		for _, option := range m.Options {
			if value, ok := strings.CutPrefix(option, name); ok {
				return value
			}
		}
	}
	return ""
}

func upperDir(mounts []mount.Mount) string {
	if dir := option(mounts, "upperdir="); dir != "" {
		return dir
	}
	for _, m := range mounts {
		for _, option := range m.Options {
			if m.Type == "bind" && option == "rw" {
				return m.Source // of a snapshot without layers beneath it
			}
		}
	}
	return ""
}
