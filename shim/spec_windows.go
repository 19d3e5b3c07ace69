package shim

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/windows"

	"slipway/shim/job"
)

// containerUser is the name that Docker's Windows images have for who is no
// administrator. Whose token it is says [job.Identity].
const containerUser = "ContainerUser"

// Spec returns the OCI specification of a container. The job shim completes
// its environment, because it knows the true paths. The result shares no memory with req's HostConfig.
//
// Errors have the class InvalidArgument where the request is at fault.
func Spec(_ context.Context, req SpecRequest) (*specs.Spec, error) { return newSpec(req) }

func newSpec(req SpecRequest) (*specs.Spec, error) {
	cfg, host := req.Config, req.HostConfig
	spec := &specs.Spec{
		Version:     specs.Version,
		Hostname:    cfg.Hostname,
		Root:        &specs.Root{Path: req.Rootfs},
		Annotations: annotations(req),
		Mounts:      slices.Clone(req.Mounts),
		Windows:     &specs.Windows{Resources: resources(&host.Resources)},
		Process: &specs.Process{
			Terminal: cfg.Tty,
			User:     specs.User{Username: containerUser},
			Env:      slices.Clone(cfg.Env),
			Cwd:      cfg.WorkingDir,
		},
	}
	setArguments(spec.Process, cfg, req.Args)
	if spec.Process.Cwd == "" {
		spec.Process.Cwd = `C:\`
	}
	if cfg.Tty {
		spec.Process.ConsoleSize = consoleSize(host.ConsoleSize)
	}
	return spec, checkSpec(spec)
}

// checkSpec is what the job shim would refuse, before anything is made.
func checkSpec(spec *specs.Spec) error {
	if _, err := job.LimitsOf(spec, runtime.NumCPU()); err != nil {
		return err
	}
	if _, err := job.IdentityOf(spec); err != nil {
		return err
	}
	_, err := job.Inside(spec.Process.Cwd)
	return err
}

// annotations are the request's, and what OCI has no field for. The request's identity wins.
func annotations(req SpecRequest) map[string]string {
	all := map[string]string{}
	if req.Identity != "" {
		all[job.IdentityAnnotation] = req.Identity
	}
	if command := req.Config.Labels[StopCommandLabel]; command != "" {
		all[job.StopAnnotation] = command
	}
	if n := req.HostConfig.PidsLimit; n != nil && *n > 0 {
		all[job.ProcessesAnnotation] = strconv.FormatInt(*n, 10)
	}
	maps.Copy(all, req.HostConfig.Annotations)
	return all
}

// setArguments says what to run. An image whose ArgsEscaped is true has a command line for
// its first argument, as Docker's Windows builders make it.
func setArguments(p *specs.Process, cfg *mobycontainer.Config, args []string) {
	if !cfg.ArgsEscaped || len(args) == 0 {
		p.Args = slices.Clone(args)
		return
	}
	line := []string{args[0]}
	for _, arg := range args[1:] {
		line = append(line, windows.EscapeArg(arg))
	}
	p.CommandLine = strings.Join(line, " ")
}

func resources(r *mobycontainer.Resources) *specs.WindowsResources {
	out := &specs.WindowsResources{}
	if r.Memory > 0 {
		out.Memory = &specs.WindowsMemoryResources{Limit: new(uint64(r.Memory))}
	}
	cpu := &specs.WindowsCPUResources{}
	switch {
	case r.NanoCPUs > 0:
		cpu.Maximum = new(uint16(max(1, r.NanoCPUs/int64(runtime.NumCPU())/(1e9/10000)))) //nolint:gosec // checked: at most all
	case r.CPUCount > 0:
		cpu.Count = new(uint64(r.CPUCount))
	case r.CPUPercent > 0:
		cpu.Maximum = new(uint16(r.CPUPercent * 100)) //nolint:gosec // checked: at most 100
	case r.CPUShares > 0:
		cpu.Shares = new(uint16(r.CPUShares)) //nolint:gosec // checked: at most 10000
	default:
		cpu = nil
	}
	out.CPU = cpu
	if r.IOMaximumBandwidth > 0 || r.IOMaximumIOps > 0 {
		out.Storage = &specs.WindowsStorageResources{}
		if r.IOMaximumBandwidth > 0 {
			out.Storage.Bps = new(r.IOMaximumBandwidth)
		}
		if r.IOMaximumIOps > 0 {
			out.Storage.Iops = new(r.IOMaximumIOps)
		}
	}
	return out
}

func consoleSize(size [2]uint) *specs.Box {
	if size == [2]uint{} {
		return nil
	}
	return &specs.Box{Height: size[0], Width: size[1]}
}

// Exec returns a further process for the container that was made from spec. Its
// identity and limits are the container's.
func Exec(spec *specs.Spec, req ExecRequest) (*specs.Process, error) {
	if spec.Process == nil {
		return nil, fmt.Errorf("specification without a process: %w", errdefs.ErrInvalidArgument)
	}
	if req.Privileged {
		return nil, unsupported("--privileged of exec", "a process has no more rights than its container")
	}
	process := *spec.Process
	process.Args, process.CommandLine = slices.Clone(req.Args), ""
	process.Env = slices.Concat(process.Env, req.Env)
	process.Terminal = req.TTY
	process.ConsoleSize = nil
	if req.TTY && req.ConsoleSize != nil {
		process.ConsoleSize = consoleSize(*req.ConsoleSize)
	}
	if req.Cwd != "" {
		if _, err := job.Inside(req.Cwd); err != nil {
			return nil, err
		}
		process.Cwd = req.Cwd
	}
	return &process, nil
}
