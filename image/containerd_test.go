package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/containerd/v2/plugins/services"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	"github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/api/services/images/v1"

	// What an image store needs, and nothing that registers itself with the
	// process: a test runs several containerds.
	_ "github.com/containerd/containerd/v2/plugins/content/local/plugin"
	_ "github.com/containerd/containerd/v2/plugins/events"
	_ "github.com/containerd/containerd/v2/plugins/gc"
	_ "github.com/containerd/containerd/v2/plugins/leases"
	_ "github.com/containerd/containerd/v2/plugins/metadata"
	_ "github.com/containerd/containerd/v2/plugins/mount"
	_ "github.com/containerd/containerd/v2/plugins/services/content"
	_ "github.com/containerd/containerd/v2/plugins/services/diff"
	_ "github.com/containerd/containerd/v2/plugins/services/images"
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"

	_ "slipway/layerstore/dirs/plugin"
)

const testNamespace = "slipway-image-test"

// clients hands the client of a containerd, by its root, from the plugin graph
// to startContainerd.
var clients sync.Map

func init() { //nolint:gochecknoinits // how containerd learns of a plugin
	registry.Register(&plugin.Registration{
		Type:     plugins.InternalPlugin,
		ID:       "image-test",
		Requires: []plugin.Type{plugins.LeasePlugin, plugins.ServicePlugin},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			lease, err := ic.GetSingle(plugins.LeasePlugin)
			if err != nil {
				return nil, err
			}
			found, err := ic.GetByType(plugins.ServicePlugin)
			if err != nil {
				return nil, err
			}
			c, err := containerd.New("", containerd.WithDefaultNamespace(testNamespace), containerd.WithServices(
				containerd.WithLeasesService(lease.(leases.Manager)),
				containerd.WithContentStore(found[services.ContentService].(content.Store)),
				containerd.WithImageClient(found[services.ImagesService].(images.ImagesClient)),
				containerd.WithSnapshotters(found[services.SnapshotsService].(map[string]snapshots.Snapshotter)),
				containerd.WithDiffClient(found[services.DiffService].(diff.DiffClient)),
			))
			if err != nil {
				return nil, err
			}
			clients.Store(filepath.Dir(ic.Properties[plugins.PropertyRootDir]), c)
			return c, nil
		},
	})
}

// startContainerd runs containerd's server in this process until the test ends
// or the returned function is called.
func startContainerd(tb testing.TB, root, state, differ string) (*containerd.Client, func()) {
	tb.Helper()
	ctx, cancel := context.WithCancelCause(testContext(context.WithoutCancel(tb.Context())))
	config := &srvconfig.Config{
		Version: 3, Root: root, State: state,
		Plugins: map[string]any{
			"io.containerd.snapshotter.v1.overlayfs": map[string]any{"async_remove": true},
			"io.containerd.service.v1.diff-service":  map[string]any{"default": []string{differ}},
		},
	}
	if err := server.CreateTopLevelDirectories(config); err != nil {
		tb.Fatal(err)
	}
	s, err := server.New(ctx, config)
	if err != nil {
		tb.Fatal(fmt.Errorf("starting containerd: %w", err))
	}
	stop := sync.OnceFunc(func() {
		s.Stop()
		cancel(errors.New("stopped"))
	})
	tb.Cleanup(stop)
	c, ok := clients.LoadAndDelete(root)
	if !ok {
		tb.Fatal("containerd started without the test's plugin")
	}
	return c.(*containerd.Client), stop
}

func testContext(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, testNamespace)
}
