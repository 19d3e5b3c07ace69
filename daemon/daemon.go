// Package daemon is the composition root: it constructs every part of the engine
// in the order of their needs, restores what a daemon before it left, serves,
// and shuts down in reverse. It has no behaviour of its own beyond that.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"slipway/api"
	"slipway/clonefs"
	"slipway/container"
	"slipway/container/logs"
	"slipway/daemon/config"
	"slipway/database"
	"slipway/database/postgres"
	"slipway/events"
	"slipway/image"
	"slipway/internal/span"
	"slipway/internal/version"
	"slipway/layerstore"
	"slipway/network"
	"slipway/network/ipam"
	"slipway/shim"
	"slipway/state"
	"slipway/volume"
)

// spansKept is how many operations' times can be looked at.
const spansKept = 1024

// Daemon is a running engine.
type Daemon struct {
	cfg    *config.Config
	logger *slog.Logger

	pool       *clonefs.Pool
	state      *state.Store
	layers     *layerstore.Store
	events     *events.Bus
	spans      *span.Log
	images     *image.Manager
	networks   *network.Manager
	volumes    *volume.Manager
	keeper     *logs.Keeper
	containers *container.Manager
	server     *api.Server

	// closers undo New's steps; run in reverse.
	closers []func() error
	wg      sync.WaitGroup
}

// New constructs and restores the engine. It returns an
// [github.com/containerd/errdefs.ErrUnavailable] if another daemon runs on the
// same data root or exec root. It gives up when ctx ends, but some steps do not
// notice at once. It serves nothing before [Daemon.Serve].
func New(ctx context.Context, cfg *config.Config, logger *slog.Logger) (_ *Daemon, err error) {
	d := &Daemon{cfg: cfg, logger: logger, events: events.New(), spans: span.NewLog(spansKept)}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	ctx = layerstore.Context(ctx)
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"the directories", d.openDirectories},
		{"the pool", d.openPool},
		{"the records", d.openState},
		{"the exec root", d.openExecRoot},
		{"containerd", d.openLayers},
		{"the images", d.openImages},
		{"the networks", d.openNetworks},
		{"the volumes", d.openVolumes},
		{"the log keeper", d.openKeeper},
		{"the containers", d.openContainers},
		{"the API", d.openServer},
	} {
		err := ctx.Err()
		if err == nil {
			err = step.do(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return d, nil
}

func (d *Daemon) onClose(f func() error) { d.closers = append(d.closers, f) }

// Close gives up a daemon that does not get to serve.
func (d *Daemon) Close() error { return d.close() }

// close undoes what New did, newest first.
func (d *Daemon) close() error {
	var errs []error
	for _, undo := range slices.Backward(d.closers) {
		errs = append(errs, undo())
	}
	d.closers = nil
	return errors.Join(errs...)
}

func (d *Daemon) openDirectories(context.Context) error {
	if err := errors.Join(os.MkdirAll(d.cfg.Paths.DataRoot, 0o710), os.MkdirAll(d.cfg.Paths.ExecRoot, 0o711)); err != nil { //nolint:gosec // the socket in it has its own mode
		return err
	}
	unlock, err := lockRoots(d.cfg.Paths.DataRoot, d.cfg.Paths.ExecRoot)
	if err != nil {
		return err
	}
	d.onClose(unlock)
	return nil
}

func (d *Daemon) openPool(ctx context.Context) (err error) {
	d.pool, err = clonefs.Open(ctx, clonefs.Config{
		DataRoot: d.cfg.Paths.DataRoot, Method: d.cfg.Pool.Method, PoolSize: d.cfg.Pool.Size, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	d.onClose(d.pool.Close)
	return nil
}

func (d *Daemon) openState(context.Context) (err error) {
	d.state, err = state.Open(filepath.Join(d.cfg.Paths.DataRoot, "slipway.db"))
	if err != nil {
		return err
	}
	d.onClose(d.state.Close)
	return nil
}

// openExecRoot comes before anything that looks at what runs there.
func (d *Daemon) openExecRoot(context.Context) error {
	id, err := d.engineID()
	if err != nil {
		return err
	}
	return claimExecRoot(d.cfg.Paths.ExecRoot, d.tasks(), id, d.cfg.Paths.DataRoot)
}

func (d *Daemon) containerdState() string { return filepath.Join(d.cfg.Paths.ExecRoot, "containerd") }

// tasks is where containerd keeps the bundles of what runs.
func (d *Daemon) tasks() string {
	return filepath.Join(d.containerdState(), "io.containerd.runtime.v2.task", layerstore.Namespace)
}

func (d *Daemon) openLayers(ctx context.Context) (err error) {
	if err := container.KeepExits(d.state, d.tasks()); err != nil {
		return fmt.Errorf("keeping exit codes: %w", err)
	}
	bin, err := binDir()
	if err != nil {
		return err
	}
	d.layers, err = layerstore.New(ctx, layerstore.Config{
		Root: filepath.Join(d.pool.Root(), "containerd"), State: d.containerdState(), BinDir: bin, Logger: d.logger, Debug: d.cfg.Log.Level == "debug",
	})
	if err != nil {
		return err
	}
	d.onClose(func() error { d.layers.Close(); return nil })
	return nil
}

func (d *Daemon) openImages(ctx context.Context) (err error) {
	d.images, err = image.New(image.Config{
		Client: d.layers.Client(), Snapshotter: layerstore.Snapshotter, Root: filepath.Join(d.pool.Root(), "containerd"),
		Events: d.events, Space: d.pool, Flatten: flatten, InsecureRegistries: d.cfg.Registries.Insecure, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	return d.images.Restore(ctx)
}

func (d *Daemon) openNetworks(ctx context.Context) (err error) {
	n := d.cfg.Network
	cfg := network.Config{
		ExecRoot: d.cfg.Paths.ExecRoot, BridgeName: n.Bridge, MTU: n.MTU, DisableICC: !n.ICC,
		State: d.state, Events: d.events, Logger: d.logger,
	}
	if n.BIP.IsValid() {
		cfg.BIP = n.BIP.String()
	}
	if n.FixedCIDR.IsValid() {
		cfg.FixedCIDR = n.FixedCIDR.String()
	}
	for _, pool := range n.AddressPools {
		cfg.AddressPools = append(cfg.AddressPools, ipam.Range{Base: pool.Base, Size: pool.Size})
	}
	if d.networks, err = network.New(ctx, cfg); err != nil {
		return err
	}
	d.onClose(d.networks.Close)
	return nil
}

func (d *Daemon) openVolumes(ctx context.Context) (err error) {
	d.volumes, err = volume.New(ctx, volume.Config{
		Root: filepath.Join(d.pool.Root(), "volumes"), RunDir: filepath.Join(d.cfg.Paths.ExecRoot, "volumes"),
		State: d.state, Events: d.events, Logger: d.logger,
		Layers: volumeLayers{d.layers.Client()}, Cloner: cloner{},
	})
	return err
}

func (d *Daemon) openKeeper(ctx context.Context) (err error) {
	bin, err := binDir()
	if err != nil {
		return err
	}
	d.keeper, err = logs.Connect(ctx, logs.Config{ExecRoot: d.cfg.Paths.ExecRoot, BinDir: bin, Logger: d.logger})
	if err != nil {
		return err
	}
	d.onClose(d.keeper.Close)
	return nil
}

// openContainers also restores networks and volumes, which need to know which
// containers run.
func (d *Daemon) openContainers(ctx context.Context) error {
	bin, err := binDir()
	if err != nil {
		return err
	}
	drivers, err := shim.New(shim.Config{BinDir: bin, ExecRoot: d.cfg.Paths.ExecRoot})
	if err != nil {
		return err
	}
	d.containers, err = container.New(ctx, container.Config{
		DataRoot: d.cfg.Paths.DataRoot, ExecRoot: d.cfg.Paths.ExecRoot, Client: d.layers.Client(),
		State: d.state, Events: d.events, Logger: d.logger, Spans: d.spans,
		Images: d.images, Networks: d.networks, Volumes: d.volumes, Output: d.keeper, Runtime: drivers, Shims: d.layers, Pool: d.pool,
		InitBinary: filepath.Join(bin, "slipway-init"), CgroupParent: d.cfg.Defaults.CgroupParent,
		Identity:  d.cfg.Defaults.Identity,
		Databases: database.NewCatalog(postgres.Engine{}), Defaults: d.defaults(),
	})
	if err != nil {
		return err
	}
	d.onClose(func() error { d.containers.Close(); return nil })
	live, err := d.containers.Load(ctx)
	if err != nil {
		return err
	}
	if err := d.networks.Restore(ctx, live); err != nil {
		return fmt.Errorf("restoring the networks: %w", err)
	}
	if err := d.volumes.Restore(ctx, d.containers.VolumeUses(live)); err != nil {
		return fmt.Errorf("restoring the volumes: %w", err)
	}
	return d.containers.Restore(ctx)
}

func (d *Daemon) defaults() container.Defaults {
	defaults := container.Defaults{
		LogDriver: d.cfg.Logging.Driver, LogOptions: d.cfg.Logging.Options, ShmSize: d.cfg.Defaults.ShmSize,
		DNS: d.cfg.Network.DNS, DNSSearch: d.cfg.Network.DNSSearch, DNSOptions: d.cfg.Network.DNSOptions,
	}
	for _, ulimit := range d.cfg.Defaults.Ulimits {
		defaults.Ulimits = append(defaults.Ulimits, ulimit)
	}
	return defaults
}

func (d *Daemon) openServer(ctx context.Context) (err error) {
	// Requests end when Serve shuts the server down, which gives them time.
	ctx = context.WithoutCancel(ctx)
	d.server, err = api.New(api.Config{
		Logger: d.logger, BaseContext: func() context.Context { return ctx }, EngineVersion: version.Version(), Builder: "1",
		Containers: containers{d.containers}, Images: images{d.images, d.containers}, Volumes: volumes{d.volumes},
		Networks: networks{d.networks, d.containers}, Events: d.events, System: &systemInfo{d}, Pool: pool{d.pool}, Checker: checker{d}, Locks: locks{d.containers}, Spans: d.spans,
	})
	return err
}

// Serve answers requests on the listeners until ctx ends, and then shuts down in
// order. Containers keep running.
func (d *Daemon) Serve(ctx context.Context, listeners []net.Listener) error {
	// Background work of the parts ends after the last request.
	background, stop := context.WithCancelCause(layerstore.Context(context.WithoutCancel(ctx)))
	d.wg.Go(func() {
		if err := d.pool.Run(background); err != nil {
			d.logger.ErrorContext(ctx, "watching the pool ended", slog.Any("error", err))
		}
	})
	d.wg.Go(func() {
		if err := d.networks.Watch(background); err != nil {
			d.logger.ErrorContext(background, "watching the firewall ended", slog.Any("error", err))
		}
	})
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		d.wg.Go(func() {
			if err := d.server.Serve(l); err != nil {
				failed <- fmt.Errorf("serving on %s: %w", l.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	d.logger.InfoContext(ctx, "shutting down; containers keep running")
	timeout := context.WithoutCancel(ctx)
	if d.cfg.ShutdownTimeout >= 0 {
		var cancel context.CancelFunc
		timeout, cancel = context.WithTimeoutCause(timeout, d.cfg.ShutdownTimeout, errors.New("requests did not end in time"))
		defer cancel()
	}
	err = errors.Join(err, d.server.Shutdown(timeout))
	stop(errors.New("the daemon is shutting down"))
	d.wg.Wait()
	return errors.Join(err, d.close())
}

// binDir is where the programs that belong to the daemon are: beside it.
func binDir() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	self, err = filepath.EvalSymlinks(self)
	return filepath.Dir(self), err
}
