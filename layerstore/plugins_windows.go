package layerstore

import (
	"slipway/layerstore/dirs"
	_ "slipway/layerstore/dirs/plugin"
)

// Snapshotter is the name of the snapshotter that containers' files are in.
const Snapshotter = dirs.Name

// systemConfig is what the plugins of this system are configured with.
func systemConfig() map[string]any {
	return map[string]any{
		"io.containerd.service.v1.diff-service": map[string]any{"default": []string{dirs.Name}},
		// The engine unpacks by itself.
		"io.containerd.transfer.v1.local": map[string]any{"unpack_config": []any{}},
	}
}
