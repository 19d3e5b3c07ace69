// Package plugin registers the snapshotter and the differ of directories with
// containerd, both under the name [ID].
package plugin

import (
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	"slipway/layerstore/dirs"
)

// ID is the name of both plugins.
const ID = "dirs"

func init() {
	registry.Register(&plugin.Registration{
		Type: plugins.SnapshotPlugin,
		ID:   ID,
		InitFn: func(ic *plugin.InitContext) (any, error) {
			ic.Meta.Platforms = append(ic.Meta.Platforms, platforms.DefaultSpec())
			return dirs.New(ic.Context, ic.Properties[plugins.PropertyRootDir], nil)
		},
	})
	registry.Register(&plugin.Registration{
		Type:     plugins.DiffPlugin,
		ID:       ID,
		Requires: []plugin.Type{plugins.MetadataPlugin},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			db, err := ic.GetSingle(plugins.MetadataPlugin)
			if err != nil {
				return nil, err
			}
			ic.Meta.Platforms = append(ic.Meta.Platforms, platforms.DefaultSpec())
			return dirs.NewDiffer(db.(*metadata.DB).ContentStore()), nil
		},
	})
}
