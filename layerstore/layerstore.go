// Package layerstore runs containerd in this process and is the only place that
// constructs it.
//
// containerd's own server builds its plugin graph from the set that the
// plugins_*.go files import: content, metadata, snapshots, leases, garbage
// collection, diff, events, shim manager. The engine is registered as one more
// plugin, which receives a client that calls the others directly. What still
// goes over a socket is what shims need: their events come in over ttrpc.
//
// On disk, below the configured root, lies what containerd documents for its
// own root; below the state directory its bundles of running tasks.
package layerstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

// Namespace is the containerd namespace of everything the engine owns.
const Namespace = "slipway"

// enginePlugin is the ID under which the engine stands in the plugin graph.
const enginePlugin = "slipway-engine"

// Config says where containerd keeps its things. All paths are absolute.
type Config struct {
	// Root holds images, snapshots and their metadata.
	Root string
	// State holds the bundles of running tasks, on a file system that is empty
	// after a reboot.
	State string
	// BinDir holds runc. It is put in front of the process's PATH, because
	// containerd asks a shim what it can do before it gives it the runtime's
	// options, and the shim looks for runc on PATH then.
	BinDir string
	// Logger receives containerd's log, with Debug all of it. The log is
	// process-wide: the last Store's logger gets it.
	Logger *slog.Logger
	Debug  bool
}

// Store is a running containerd.
type Store struct {
	server *server.Server
	client *client.Client
	stop   context.CancelCauseFunc
	tasks  string // directory of the bundles
	// address is what shims are told, by which they are recognised.
	address string
	release func() // undoes address.listening
}

// Context returns ctx with the engine's containerd namespace, which calls of
// the in-memory client need.
func Context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, Namespace)
}

// waiting hands a client from the plugin graph, which containerd builds from a
// process-wide registry, to the New that had it built; the key is the store's
// root, since a test process runs several.
var waiting sync.Map

func init() {
	registry.Register(&plugin.Registration{
		Type: plugins.InternalPlugin,
		ID:   enginePlugin,
		Requires: []plugin.Type{
			plugins.EventPlugin, plugins.ServicePlugin, plugins.LeasePlugin, plugins.SandboxStorePlugin,
			plugins.TransferPlugin, plugins.ShimPlugin, plugins.MountManagerPlugin, plugins.SnapshotPlugin,
		},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			if err := dropStrayLayers(ic); err != nil {
				return nil, err
			}
			root := filepath.Dir(ic.Properties[plugins.PropertyRootDir])
			c, err := client.New("", client.WithDefaultNamespace(Namespace), client.WithInMemoryServices(ic))
			if err != nil {
				return nil, err
			}
			waiting.Store(root, c)
			return c, nil
		},
	})
}

// dropStrayLayers removes the directories of snapshots that have no record. One is
// left if the process is killed between making the directory and recording it, and
// the next snapshot, which gets the same number, could not be made then.
func dropStrayLayers(ic *plugin.InitContext) error {
	snapshotter, err := ic.GetByID(plugins.SnapshotPlugin, Snapshotter)
	if errors.Is(err, plugin.ErrPluginNotFound) {
		return nil // another system's
	}
	if err != nil {
		return err
	}
	cleaner, ok := snapshotter.(snapshots.Cleaner)
	if !ok {
		return nil
	}
	err = cleaner.Cleanup(ic.Context)
	if errdefs.IsNotFound(err) { // not even the first one was recorded
		return os.RemoveAll(filepath.Join(filepath.Dir(ic.Properties[plugins.PropertyRootDir]),
			plugins.SnapshotPlugin.String()+"."+Snapshotter, "snapshots", "1"))
	}
	return err
}

// address is where containerd and its shims find each other.
type address struct {
	grpc  string // is told to shims, and served by nobody
	ttrpc string // where shims report events
	shims string // directory for the shims' own sockets; "" for none
}

// New starts containerd and returns when it has taken over the tasks that are
// running, and their events arrive.
func New(ctx context.Context, cfg Config) (_ *Store, err error) {
	if err := forward(cfg.Logger, cfg.Debug); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(Context(context.WithoutCancel(ctx)))
	s := &Store{stop: stop}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	// It answers from a cache after the first success.
	if err := os.Setenv("PATH", cfg.BinDir+string(filepath.ListSeparator)+os.Getenv("PATH")); err != nil {
		return nil, err
	}
	listen, err := addresses(cfg.State)
	if err != nil {
		return nil, err
	}
	s.address = listen.grpc
	s.tasks = filepath.Join(cfg.State, "io.containerd.runtime.v2.task", Namespace)
	config := &srvconfig.Config{
		Version:         3,
		Root:            cfg.Root,
		State:           cfg.State,
		RequiredPlugins: []string{plugins.InternalPlugin.String() + "." + enginePlugin},
		Plugins: map[string]any{
			// Nobody serves it: shims are told the address, and speak ttrpc.
			"io.containerd.server.v1.grpc":  map[string]any{"address": s.address},
			"io.containerd.server.v1.ttrpc": map[string]any{"address": listen.ttrpc},
			"io.containerd.shim.v1.manager": map[string]any{"socket_dir": listen.shims},
			// With the default, a blob whose record is gone and whose file is not yet
			// would be handed to the next writer as its own first bytes. It is meant
			// for several namespaces, and there is one.
			"io.containerd.metadata.v1.bolt": map[string]any{"content_sharing_policy": "isolated"},
		},
	}
	maps.Copy(config.Plugins, systemConfig())
	if err := server.CreateTopLevelDirectories(config); err != nil {
		return nil, fmt.Errorf("preparing containerd's directories: %w", err)
	}
	if s.server, err = server.New(ctx, config); err != nil {
		return nil, fmt.Errorf("starting containerd: %w", err)
	}
	c, ok := waiting.LoadAndDelete(cfg.Root)
	if !ok {
		return nil, errors.New("starting containerd: the engine's plugin was not loaded")
	}
	s.client = c.(*client.Client)
	if err := s.server.Start(ctx); err != nil {
		return nil, fmt.Errorf("starting containerd's event listener: %w", err)
	}
	if s.release, err = listen.listening(); err != nil {
		return nil, fmt.Errorf("starting containerd's event listener: %w", err)
	}
	return s, nil
}

// Client returns the in-memory client. Its calls need [Context].
func (s *Store) Client() *client.Client {
	return s.client
}

// Bundle returns the directory of a task's bundle, which is there as long as the
// task.
func (s *Store) Bundle(id string) string {
	return filepath.Join(s.tasks, id)
}

// Close stops containerd. Containers keep running.
func (s *Store) Close() {
	if s.server != nil {
		s.server.Stop()
	}
	s.stop(errors.New("containerd was stopped"))
	if s.release != nil {
		s.release()
	}
}
