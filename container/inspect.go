package container

import (
	"context"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"slipway/clonefs"
	"slipway/layerstore"

	mobycontainer "github.com/moby/moby/api/types/container"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
)

// Labels in which inspect shows what the engine knows of a container's database.
const (
	labelOutwardReport = "io.slipway.database.quiesced"
	labelNotes         = "io.slipway.database.notes"
)

// Inspect returns everything about the container. It takes no lock. With size
// it counts the bytes of the container's files, which takes time.
func (m *Manager) Inspect(ctx context.Context, ref string, size bool) (mobycontainer.InspectResponse, error) {
	c, err := m.find(ref)
	if err != nil {
		return mobycontainer.InspectResponse{}, err
	}
	r := c.record.Load()
	args := arguments(r.Config)
	i := mobycontainer.InspectResponse{
		ID: r.ID, Created: r.Created.Format(time.RFC3339Nano), Path: args[0], Args: args[1:],
		State: m.state(r), Image: r.Image.ID, Name: "/" + r.Name, RestartCount: r.RestartCount,
		ResolvConfPath: m.filePath(r, "resolv.conf"), HostnamePath: m.filePath(r, "hostname"), HostsPath: m.filePath(r, "hosts"),
		Driver: layerstore.Snapshotter, Platform: r.Image.Platform, ExecIDs: m.execIDs(c),
		HostConfig: r.HostConfig, Mounts: mountPoints(r.Mounts), Config: m.configShown(r),
		Storage:     &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: layerstore.Snapshotter}}},
		GraphDriver: &storage.DriverData{Name: layerstore.Snapshotter, Data: map[string]string{}},
		NetworkSettings: &mobycontainer.NetworkSettings{
			Networks: m.networks(r), Ports: mobynetwork.PortMap{},
		},
	}
	if r.HostConfig.LogConfig.Type == "json-file" && !r.State.StartedAt.IsZero() {
		i.LogPath = m.logPath(r.ID)
	}
	if upper, lowers, err := m.layers.dirs(ctx, r.ID); err == nil {
		i.GraphDriver.Data["UpperDir"] = upper
		i.GraphDriver.Data["MergedDir"] = m.layers.path(r.ID)
		if len(lowers) > 0 {
			i.GraphDriver.Data["LowerDir"] = joinDirs(lowers)
		}
	}
	if r.State.Running() {
		i.NetworkSettings.SandboxID = r.ID
		i.NetworkSettings.SandboxKey = filepath.Join(m.cfg.ExecRoot, "netns", r.ID)
		maps.Copy(i.NetworkSettings.Ports, m.ports(r))
	}
	if size {
		rw, root, err := m.sizes(ctx, r, measured{})
		if err != nil {
			return i, err
		}
		i.SizeRw, i.SizeRootFs = &rw, &root
	}
	return i, nil
}

// configShown is the configuration with what holds for a database: how it is
// stopped unless a user says otherwise, and what was done to a clone. Neither is
// part of the configuration that a commit hands on.
func (m *Manager) configShown(r *Record) *mobycontainer.Config {
	adapter, err := m.adapter(r)
	if err != nil || adapter == nil {
		return r.Config
	}
	cfg := *r.Config
	signal, timeout := adapter.StopDefaults()
	if cfg.StopSignal == "" {
		cfg.StopSignal = signal
	}
	if cfg.StopTimeout == nil {
		seconds := int(timeout.Seconds())
		cfg.StopTimeout = &seconds
	}
	cfg.Labels = maps.Clone(cfg.Labels)
	if cfg.Labels == nil {
		cfg.Labels = map[string]string{}
	}
	for label, value := range map[string]any{labelOutwardReport: r.Data.Quiesced.Outward, labelNotes: r.Data.Quiesced.Notes} {
		if text, err := json.Marshal(value); err == nil && string(text) != "null" {
			cfg.Labels[label] = string(text)
		}
	}
	return &cfg
}

func (m *Manager) state(r *Record) *mobycontainer.State {
	s := r.State
	return &mobycontainer.State{
		Status: s.Status, Running: s.Running() || s.Status == mobycontainer.StateRestarting,
		Paused: s.Status == mobycontainer.StatePaused, Restarting: s.Status == mobycontainer.StateRestarting,
		OOMKilled: s.OOMKilled, Dead: s.Status == mobycontainer.StateDead, Pid: s.Pid, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: s.StartedAt.Format(time.RFC3339Nano), FinishedAt: s.FinishedAt.Format(time.RFC3339Nano), Health: s.Health,
	}
}

// networks are the container's endpoints: the live ones, or those it wants.
func (m *Manager) networks(r *Record) map[string]*mobynetwork.EndpointSettings {
	live := map[string]*mobynetwork.EndpointSettings{}
	for _, e := range m.cfg.Networks.Endpoints(r.ID) {
		settings := e.Settings()
		if wanted := r.Networks[e.NetworkName]; wanted != nil {
			settings.IPAMConfig, settings.Links, settings.DriverOpts = wanted.IPAMConfig, wanted.Links, wanted.DriverOpts
		}
		live[e.NetworkName] = settings
	}
	for name, wanted := range r.Networks {
		if live[name] == nil {
			live[name] = wanted.Copy()
		}
	}
	return live
}

// ports are the container's exposed and published ports while it runs.
func (m *Manager) ports(r *Record) mobynetwork.PortMap {
	for _, e := range m.cfg.Networks.Endpoints(r.ID) {
		if e.Primary {
			return e.Ports
		}
	}
	return nil
}

func (m *Manager) execIDs(c *container) []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var ids []string
	for id, e := range m.execs {
		if e.c != c {
			continue
		}
		e.mu.Lock()
		if e.running {
			ids = append(ids, id)
		}
		e.mu.Unlock()
	}
	slices.Sort(ids)
	return ids
}

// filePath is where one of the files that the engine keeps for a container lies,
// or empty before the first start.
func (m *Manager) filePath(r *Record, name string) string {
	if r.State.StartedAt.IsZero() {
		return ""
	}
	return filepath.Join(m.dir(r.ID), name)
}

// ownSize counts the bytes of a container's own layer.
func (m *Manager) ownSize(ctx context.Context, r *Record) (int64, error) {
	upper, _, err := m.layers.dirs(ctx, r.ID)
	if err != nil {
		return 0, err
	}
	usage, err := clonefs.Measure(ctx, upper)
	return usage.Apparent, err
}

// measured are the sizes of directories of layers, so that those of an image are
// measured once for all of its containers.
type measured map[string]int64

func (d measured) size(ctx context.Context, dir string) (int64, error) {
	if size, ok := d[dir]; ok {
		return size, nil
	}
	usage, err := clonefs.Measure(ctx, dir)
	if err != nil {
		return 0, err
	}
	d[dir] = usage.Apparent
	return usage.Apparent, nil
}

// sizes counts the bytes of a container's own layer, and of that and its image.
func (m *Manager) sizes(ctx context.Context, r *Record, known measured) (rw, root int64, err error) {
	upper, lowers, err := m.layers.dirs(ctx, r.ID)
	if err != nil {
		return 0, 0, err
	}
	if rw, err = known.size(ctx, upper); err != nil {
		return 0, 0, err
	}
	root = rw
	for _, dir := range lowers {
		size, err := known.size(ctx, dir)
		if err != nil {
			return 0, 0, err
		}
		root += size
	}
	return rw, root, nil
}
