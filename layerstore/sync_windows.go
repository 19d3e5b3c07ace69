package layerstore

import "github.com/containerd/containerd/v2/core/mount"

// InheritRoot does nothing: directories have no mode here.
func InheritRoot([]mount.Mount) error { return nil }

// SyncSnapshot does nothing: a directory cannot be flushed by itself here, and
// NTFS and ReFS journal it together with the records that follow.
func SyncSnapshot([]mount.Mount) error { return nil }

// SyncDir does nothing, for the same reason.
func SyncDir(string) error { return nil }
