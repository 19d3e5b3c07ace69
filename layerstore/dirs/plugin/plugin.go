// Package plugin registers the snapshotter and the differ of directories with
// containerd, both under the name [dirs.Name].
package plugin

import (
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	"slipway/layerstore/dirs"
)

func init() {
	registry.Register(&plugin.Registration{
		Type: plugins.SnapshotPlugin,
		ID:   dirs.Name,
		InitFn: func(ic *plugin.InitContext) (any, error) {
			ic.Meta.Platforms = append(ic.Meta.Platforms, platforms.DefaultSpec())
			return dirs.New(ic.Context, ic.Properties[plugins.PropertyRootDir], nil)
		},
	})
	registry.Register(&plugin.Registration{
		Type:     plugins.DiffPlugin,
		ID:       dirs.Name,
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
