package daemon

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"slipway/api"
	"slipway/clonefs"
	"slipway/internal/version"
	"slipway/layerstore"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"slipway/image"
)

// systemInfo answers for the engine as a whole.
type systemInfo struct{ d *Daemon }

func (s *systemInfo) Version(context.Context) (system.VersionResponse, error) {
	host := readHost()
	return system.VersionResponse{
		Platform: system.PlatformInfo{Name: "Slipway"}, Version: version.Version(), APIVersion: api.MaxVersion.String(), MinAPIVersion: api.MinVersion.String(), GitCommit: version.Commit(), BuildTime: version.BuildTime(),
		Os: runtime.GOOS, Arch: runtime.GOARCH, GoVersion: runtime.Version(), KernelVersion: host.kernel,
		Components: []system.ComponentVersion{
			{Name: "Engine", Version: version.Version(), Details: map[string]string{
				"GitCommit": version.Commit(), "BuildTime": version.BuildTime(), "Os": runtime.GOOS, "Arch": runtime.GOARCH,
				"GoVersion": runtime.Version(), "KernelVersion": host.kernel, "ApiVersion": api.MaxVersion.String(), "MinAPIVersion": api.MinVersion.String(), "Experimental": "false",
			}},
			{Name: "containerd", Version: containerdVersion()},
		},
	}, nil
}

func (s *systemInfo) Info(ctx context.Context) (system.Info, error) {
	d, host := s.d, readHost()
	running, paused, stopped := d.containers.Counts()
	list, err := d.images.List(ctx, image.ListOptions{})
	if err != nil {
		return system.Info{}, err
	}
	status, err := d.pool.Status(ctx)
	if err != nil {
		return system.Info{}, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return system.Info{}, err
	}
	id, err := d.engineID()
	if err != nil {
		return system.Info{}, err
	}
	limits := host.limits
	info := system.Info{
		ID: id, Name: hostname, ServerVersion: version.Version(), SystemTime: time.Now().Format(time.RFC3339Nano),
		Containers: running + paused + stopped, ContainersRunning: running, ContainersPaused: paused, ContainersStopped: stopped, Images: len(list),
		Driver: layerstore.Snapshotter, DriverStatus: poolStatus(status), DockerRootDir: d.cfg.Paths.DataRoot,
		Plugins:     system.PluginsInfo{Volume: []string{"local"}, Log: []string{"json-file", "none"}},
		MemoryLimit: limits.memory, SwapLimit: limits.swap, CPUCfsPeriod: limits.cpu, CPUCfsQuota: limits.cpu, CPUShares: limits.cpu,
		CPUSet: limits.cpuset, PidsLimit: limits.pids, OomKillDisable: limits.oomKillDisable, IPv4Forwarding: host.forwarding,
		Debug: d.cfg.Log.Level == "debug", NGoroutines: runtime.NumGoroutine(), LoggingDriver: d.cfg.Logging.Driver,
		KernelVersion: host.kernel, OperatingSystem: host.os, OSVersion: host.osVersion,
		OSType: runtime.GOOS, Architecture: host.arch, NCPU: runtime.NumCPU(), MemTotal: host.memory,
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: &registry.ServiceConfig{IndexConfigs: map[string]*registry.IndexInfo{}},
		Labels: d.cfg.Labels, LiveRestoreEnabled: true, SecurityOptions: host.security,
		ContainerdCommit: system.Commit{ID: containerdVersion()},
		Containerd:       &system.ContainerdInfo{Namespaces: system.ContainerdNamespaces{Containers: layerstore.Namespace}},
		Swarm:            swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		Warnings:         s.warnings(ctx, status),
	}
	describeSystem(&info)
	return info, nil
}

// Authenticate is `docker login`.
func (s *systemInfo) Authenticate(ctx context.Context, auth registry.AuthConfig) (token string, err error) {
	return s.d.images.Login(ctx, auth)
}

// containerdVersion is the version of the containerd that is built in.
func containerdVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/containerd/containerd/v2" {
				return module.Version
			}
		}
	}
	return "unknown"
}

// poolStatus shows the pool in the lines that `docker info` prints for the
// storage driver.
func poolStatus(s clonefs.Status) [][2]string {
	size := func(bytes int64) string { return units.BytesSize(float64(bytes)) }
	lines := [][2]string{{"Clone method", s.Method}, {"Backing Filesystem", s.FileSystem}}
	if s.Reason != "" {
		lines = append(lines, [2]string{"Clone method reason", s.Reason})
	}
	if s.PoolFile != "" {
		lines = append(lines, [2]string{"Pool file", s.PoolFile}, [2]string{"Pool file allocated", size(s.FileUsed)})
	}
	return append(lines,
		[2]string{"Pool size", size(s.Size)}, [2]string{"Pool used", size(s.Used)}, [2]string{"Pool free", size(s.Free)},
		[2]string{"Host free", size(s.HostFree)})
}

func (s *systemInfo) warnings(ctx context.Context, status clonefs.Status) []string {
	var warnings []string
	if status.Method == "copy" {
		warnings = append(warnings, "WARNING: clones and commits copy all bytes: "+status.Reason)
	}
	conflicts, err := s.d.networks.Conflicts(ctx)
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("WARNING: other firewall rules could not be read: %v", err))
	}
	for _, c := range conflicts {
		warnings = append(warnings, "WARNING: "+c)
	}
	return warnings
}
