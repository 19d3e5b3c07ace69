package layerstore

import (
	"context"

	"github.com/containerd/containerd/v2/core/mount"

	"slipway/internal/treecopy"
)

// InheritRoot does nothing: directories have no mode here.
func InheritRoot([]mount.Mount) error { return nil }

// SyncSnapshot makes a writable snapshot, which was just prepared, last through a
// loss of power: it is a copy, whose bytes may still be in memory.
func SyncSnapshot(mounts []mount.Mount) error {
	for _, m := range mounts {
		if err := treecopy.Sync(context.Background(), m.Source); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir does nothing: a directory cannot be flushed by itself here, and NTFS and
// ReFS journal it together with the records that follow.
func SyncDir(string) error { return nil }
