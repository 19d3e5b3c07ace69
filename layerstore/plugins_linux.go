package layerstore

import (
	_ "github.com/containerd/containerd/api/types/runc/options"
	_ "github.com/containerd/containerd/v2/plugins/diff/walking/plugin"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/overlay/plugin"
)

// Snapshotter is the name of the snapshotter that containers' files are in.
const Snapshotter = "overlayfs"

// systemConfig is what the plugins of this system are configured with, beside what
// all have: nothing.
func systemConfig() map[string]any { return nil }
