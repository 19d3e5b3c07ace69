package layerstore

import (
	_ "github.com/containerd/containerd/v2/plugins/diff/windows"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/windows"
)

// Snapshotter is the name of the snapshotter that containers' files are in.
const Snapshotter = "windows"
