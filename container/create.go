package container

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"slipway/image"
	"slipway/internal/cleanup"
	"slipway/internal/failpoint"
	"slipway/layerstore"
	"slipway/shim"
	"slipway/volume"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Images gives containers their images. [image.Manager] implements it.
type Images interface {
	// Acquire resolves an image and keeps it from being removed until release.
	Acquire(ctx context.Context, ref string, platform *ocispec.Platform) (*image.Image, func(), error)
	EnsureUnpacked(ctx context.Context, img *image.Image) error
	Get(ctx context.Context, ref string) (*image.Image, error)
	Commit(ctx context.Context, r image.CommitRequest) (*image.Image, error)
}

// Create makes a container: its record, its writable layer, its volumes. Nothing
// of it is left if it fails.
func (m *Manager) Create(ctx context.Context, req CreateRequest) (_ mobycontainer.CreateResponse, err error) {
	if req.Config == nil {
		return mobycontainer.CreateResponse{}, errdefs.ErrInvalidArgument.WithMessage("config cannot be empty in order to create a container")
	}
	if err := m.cfg.Pool.CheckSpace(ctx); err != nil {
		return mobycontainer.CreateResponse{}, err
	}
	img, release, err := m.cfg.Images.Acquire(ctx, req.Config.Image, req.Platform)
	if err != nil {
		return mobycontainer.CreateResponse{}, err
	}
	defer release()
	r, warnings, err := m.plan(req, img)
	if err != nil {
		return mobycontainer.CreateResponse{}, err
	}
	if err := m.cfg.Images.EnsureUnpacked(ctx, img); err != nil {
		return mobycontainer.CreateResponse{}, err
	}

	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	failpoint.Hit("container.create.begin")
	if r.Name, err = m.reserveName(req.Name, r.ID); err != nil {
		return mobycontainer.CreateResponse{}, err
	}
	undo.Add(func(context.Context) error { return m.names.Release(r.Name) })
	failpoint.Hit("container.create.named")
	if err := m.layers.prepare(ctx, r.ID, r.Image.Chain); err != nil {
		return mobycontainer.CreateResponse{}, fmt.Errorf("making the container's layer: %w", err)
	}
	undo.Add(func(ctx context.Context) error { return m.layers.remove(ctx, r.ID) })
	if err := os.Mkdir(m.dir(r.ID), 0o710); err != nil {
		return mobycontainer.CreateResponse{}, err
	}
	undo.Add(func(context.Context) error { return os.RemoveAll(m.dir(r.ID)) })
	if err := layerstore.SyncDir(filepath.Dir(m.dir(r.ID))); err != nil {
		return mobycontainer.CreateResponse{}, err
	}
	if err := m.attachVolumes(ctx, r, img, &undo); err != nil {
		return mobycontainer.CreateResponse{}, err
	}
	failpoint.Hit("container.create.record")
	if err := m.records.Put(r.ID, *r); err != nil {
		return mobycontainer.CreateResponse{}, err
	}
	failpoint.Hit("container.create.done")
	c := newContainer(r, m.records)
	m.mu.Lock()
	m.containers[r.ID] = c
	m.mu.Unlock()
	m.publish(c, mobyevents.ActionCreate, nil)
	if warnings == nil {
		warnings = []string{}
	}
	return mobycontainer.CreateResponse{ID: r.ID, Warnings: warnings}, nil
}

// plan turns a request into a record without making anything.
func (m *Manager) plan(req CreateRequest, img *image.Image) (*Record, []string, error) {
	id, err := newID()
	if err != nil {
		return nil, nil, err
	}
	cfg, host := copyConfigs(req)
	requestEnv := cfg.Env
	mergeImage(cfg, img)
	if len(arguments(cfg)) == 0 {
		return nil, nil, errdefs.ErrInvalidArgument.WithMessage("no command specified")
	}
	if cfg.Hostname == "" && !host.NetworkMode.IsHost() && !host.UTSMode.IsHost() {
		cfg.Hostname = id[:12]
	}
	m.setDefaults(host)
	warnings, err := shim.Validate(cfg, host)
	if err != nil {
		return nil, nil, err
	}
	r := &Record{
		ID: id, Created: time.Now().UTC(), Config: cfg, HostConfig: host,
		Image: ImageRef{ID: img.ID.String(), Name: cfg.Image, Chain: img.ChainID, Platform: runtime.GOOS},
		State: State{Status: mobycontainer.StateCreated},
	}
	if err := m.checkLinks(host.Links); err != nil {
		return nil, nil, err
	}
	if !cfg.NetworkDisabled {
		if r.Networks, err = m.wantedNetworks(req.NetworkingConfig, host); err != nil {
			return nil, nil, err
		}
	}
	if _, err := m.logConfig(r); err != nil {
		return nil, nil, err
	}
	if warning, err := m.detectDatabase(r, requestEnv); err != nil {
		return nil, nil, err
	} else if warning != "" {
		warnings = append(warnings, warning)
	}
	if hasHealth(r) {
		r.State.Health = &mobycontainer.Health{Status: mobycontainer.Starting}
	}
	r.Mounts, err = volume.Plan(volume.PlanRequest{Config: cfg, HostConfig: host, From: m.mountsOf, DataRoot: m.cfg.DataRoot})
	return r, warnings, err
}

// copyConfigs copies what a request points to, because the record keeps it.
func copyConfigs(req CreateRequest) (*mobycontainer.Config, *mobycontainer.HostConfig) {
	cfg := *req.Config
	cfg.Labels, cfg.Volumes, cfg.ExposedPorts = maps.Clone(cfg.Labels), maps.Clone(cfg.Volumes), maps.Clone(cfg.ExposedPorts)
	cfg.Env = slices.Clone(cfg.Env)
	host := mobycontainer.HostConfig{}
	if req.HostConfig != nil {
		host = *req.HostConfig
	}
	return &cfg, &host
}

// setDefaults fills in what the daemon's configuration says.
func (m *Manager) setDefaults(host *mobycontainer.HostConfig) {
	if host.NetworkMode == "" || host.NetworkMode.IsDefault() {
		host.NetworkMode = defaultNetworkMode
	}
	if host.LogConfig.Type == "" {
		host.LogConfig.Type = m.cfg.Defaults.LogDriver
	}
	options := map[string]string{}
	if host.LogConfig.Type == m.cfg.Defaults.LogDriver {
		maps.Copy(options, m.cfg.Defaults.LogOptions)
	}
	maps.Copy(options, host.LogConfig.Config)
	host.LogConfig.Config = options
	if host.ShmSize == 0 {
		host.ShmSize = m.cfg.Defaults.ShmSize
	}
	if host.Init == nil && m.cfg.Defaults.Init {
		on := true
		host.Init = &on
	}
	if host.RestartPolicy.Name == "" {
		host.RestartPolicy.Name = mobycontainer.RestartPolicyDisabled
	}
}

// mergeImage fills in what the request leaves to the image. Docker's rules: the
// request's entrypoint discards the image's command, maps are joined, and an
// environment variable of the request wins.
func mergeImage(cfg *mobycontainer.Config, img *image.Image) {
	base := img.Spec.Config.ContainerConfig()
	if cfg.User == "" {
		cfg.User = base.User
	}
	cfg.ExposedPorts = joined(base.ExposedPorts, cfg.ExposedPorts)
	cfg.Volumes = joined(base.Volumes, cfg.Volumes)
	cfg.Labels = joined(base.Labels, cfg.Labels)
	cfg.Env = mergeEnv(base.Env, cfg.Env)
	if len(cfg.Entrypoint) == 0 {
		if len(cfg.Cmd) == 0 {
			cfg.Cmd = base.Cmd
			cfg.ArgsEscaped = base.ArgsEscaped
		}
		if cfg.Entrypoint == nil {
			cfg.Entrypoint = base.Entrypoint
		}
	}
	if len(cfg.Entrypoint) == 1 && cfg.Entrypoint[0] == "" {
		cfg.Entrypoint = nil // what `--entrypoint ""` sends: none, not the image's
	}
	if cfg.WorkingDir == "" {
		cfg.WorkingDir = base.WorkingDir
	}
	if cfg.StopSignal == "" {
		cfg.StopSignal = base.StopSignal
	}
	if cfg.StopTimeout == nil {
		cfg.StopTimeout = base.StopTimeout
	}
	if cfg.Shell == nil {
		cfg.Shell = base.Shell
	}
	cfg.Healthcheck = mergeHealth(base.Healthcheck, cfg.Healthcheck)
	if cfg.OnBuild == nil {
		cfg.OnBuild = base.OnBuild
	}
}

func joined[K comparable, V any](base, over map[K]V) map[K]V {
	if len(base) == 0 {
		return over
	}
	all := maps.Clone(base)
	maps.Copy(all, over)
	return all
}

func mergeEnv(base, over []string) []string {
	env := slices.Clone(over)
	if env == nil {
		env = []string{}
	}
	for _, kv := range base {
		key, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(over, func(o string) bool { k, _, _ := strings.Cut(o, "="); return sameVariable(k, key) }) {
			env = append(env, kv)
		}
	}
	return env
}

func mergeHealth(base, over *mobycontainer.HealthConfig) *mobycontainer.HealthConfig {
	if over == nil || base == nil {
		if over == nil {
			return base
		}
		return over
	}
	h := *over
	if len(h.Test) == 0 {
		h.Test = base.Test
	}
	if h.Interval == 0 {
		h.Interval = base.Interval
	}
	if h.Timeout == 0 {
		h.Timeout = base.Timeout
	}
	if h.StartPeriod == 0 {
		h.StartPeriod = base.StartPeriod
	}
	if h.StartInterval == 0 {
		h.StartInterval = base.StartInterval
	}
	if h.Retries == 0 {
		h.Retries = base.Retries
	}
	return &h
}

// arguments is the whole argument list of the main process.
func arguments(cfg *mobycontainer.Config) []string {
	return append(slices.Clone(cfg.Entrypoint), cfg.Cmd...)
}

// mountsOf returns another container's mounts, for --volumes-from. That there is
// none is no NotFound: a client would pull the image then.
func (m *Manager) mountsOf(ref string) ([]volume.MountPoint, error) {
	c, err := m.find(ref)
	if errdefs.IsNotFound(err) {
		return nil, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	if err != nil {
		return nil, err
	}
	return c.record.Load().Mounts, nil
}
