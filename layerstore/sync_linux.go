package layerstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
)

// SyncSnapshot makes a writable snapshot, which was just prepared, last through
// a loss of power. containerd flushes its record of the snapshot but not the
// directory that it is about, and a record without a directory cannot be mounted.
// Nothing else in the pool is written out: on a file system with a journal this
// is one flush of that.
func SyncSnapshot(mounts []mount.Mount) error {
	upper := upperDir(mounts)
	if upper == "" {
		return nil // read-only: nothing was made
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

func upperDir(mounts []mount.Mount) string {
	for _, m := range mounts {
		for _, option := range m.Options {
			if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
				return dir
			}
			if m.Type == "bind" && option == "rw" {
				return m.Source // of a snapshot without layers beneath it
			}
		}
	}
	return ""
}
