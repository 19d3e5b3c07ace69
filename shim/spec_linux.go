package shim

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const defaultCgroupParent = "/slipway"

// Spec returns the OCI specification of a container. It reads the host's devices
// and mounts, but changes nothing except that it may load Docker's AppArmor
// profile. The result shares no memory with req's HostConfig.
//
// Errors have the class InvalidArgument where the request is at fault.
func Spec(_ context.Context, req SpecRequest) (*specs.Spec, error) {
	f, err := kernel()
	if err != nil {
		return nil, err
	}
	return f.spec(req)
}

func (f *facts) spec(req SpecRequest) (*specs.Spec, error) {
	options, err := parseSecurity(req.HostConfig.SecurityOpt)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version:     specs.Version,
		Hostname:    req.Config.Hostname,
		Root:        &specs.Root{Path: req.Rootfs, Readonly: req.HostConfig.ReadonlyRootfs},
		Annotations: maps.Clone(req.HostConfig.Annotations),
		Linux: &specs.Linux{
			CgroupsPath:   cgroupsPath(req),
			Sysctl:        f.sysctls(req),
			MaskedPaths:   slices.Clone(req.HostConfig.MaskedPaths),
			ReadonlyPaths: slices.Clone(req.HostConfig.ReadonlyPaths),
		},
	}
	if req.HostConfig.Privileged {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	}
	if err := f.setProcess(spec, req, options); err != nil {
		return nil, err
	}
	if err := f.setNamespaces(spec, req); err != nil {
		return nil, err
	}
	if err := setResources(spec, req.HostConfig); err != nil {
		return nil, err
	}
	if err := setDevices(spec, req.HostConfig); err != nil {
		return nil, err
	}
	if err := f.setSeccomp(spec, options.seccomp, req.HostConfig.Privileged); err != nil {
		return nil, err
	}
	if err := setMounts(spec, req, options); err != nil {
		return nil, err
	}
	return spec, nil
}

func cgroupsPath(req SpecRequest) string {
	parent := defaultCgroupParent
	switch {
	case req.HostConfig.CgroupParent != "":
		parent = req.HostConfig.CgroupParent
	case req.CgroupParent != "":
		parent = req.CgroupParent
	}
	// Rooted first, so that ".." cannot lead above the cgroup tree.
	return filepath.Join("/", parent, req.ID)
}

// sysctls returns the defaults that make capabilities unnecessary in a network
// namespace of the container's own, and what the request sets.
func (f *facts) sysctls(req SpecRequest) map[string]string {
	all := map[string]string{}
	if mode := req.HostConfig.NetworkMode; mode.IsPrivate() {
		for name, value := range map[string]string{
			"net.ipv4.ping_group_range":           "0 2147483647",
			"net.ipv4.ip_unprivileged_port_start": "0",
		} {
			if exists(sysctlPath(name)) {
				all[name] = value
			}
		}
	}
	if req.Config.Domainname != "" {
		// The sysctl does what setdomainname(2) would.
		all["kernel.domainname"] = req.Config.Domainname
	}
	maps.Copy(all, req.HostConfig.Sysctls)
	return all
}

func sysctlPath(name string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
}

func (f *facts) setProcess(spec *specs.Spec, req SpecRequest, options security) error {
	cfg, host := req.Config, req.HostConfig
	caps, err := f.capabilities(host)
	if err != nil {
		return err
	}
	profile, err := f.appArmorProfile(host, options.appArmor)
	if err != nil {
		return err
	}
	args, err := arguments(spec, req)
	if err != nil {
		return err
	}
	oomScore := host.OomScoreAdj
	spec.Process = &specs.Process{
		Terminal:        cfg.Tty,
		Args:            args,
		Env:             environment(cfg),
		Cwd:             cfg.WorkingDir,
		User:            user(req.User, host.Umask),
		Capabilities:    withCaps(caps),
		Rlimits:         rlimits(host.Ulimits, req.Ulimits),
		NoNewPrivileges: options.noNewPrivileges,
		ApparmorProfile: profile,
		OOMScoreAdj:     &oomScore,
	}
	if spec.Process.Cwd == "" {
		spec.Process.Cwd = "/"
	}
	if cfg.Tty {
		spec.Process.ConsoleSize = consoleSize(host.ConsoleSize)
	}
	return nil
}

// arguments puts the init program before the container's own and adds its mount.
// A container in another's or the host's PID namespace has an init there.
func arguments(spec *specs.Spec, req SpecRequest) ([]string, error) {
	host := req.HostConfig
	if host.Init == nil || !*host.Init || !host.PidMode.IsPrivate() {
		return slices.Clone(req.Args), nil
	}
	if req.InitBinary == "" {
		return nil, errdefs.ErrFailedPrecondition.WithMessage("--init: no init program is installed")
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{
		Destination: InitPath, Type: "bind", Source: req.InitBinary, Options: []string{"bind", "ro"},
	})
	return append([]string{InitPath, "--"}, req.Args...), nil
}

// user returns the process's user. Docker lists the primary group among the
// additional ones, so that it stays when a program replaces its primary group.
func user(u User, umask *uint32) specs.User {
	return specs.User{
		UID: u.UID, GID: u.GID, Umask: umask,
		AdditionalGids: append([]uint32{u.GID}, u.AdditionalGIDs...),
	}
}

func consoleSize(size [2]uint) *specs.Box {
	if size == [2]uint{} {
		return nil
	}
	return &specs.Box{Height: size[0], Width: size[1]}
}

// Exec returns a further process for the container that was made from spec.
// Security settings and limits are the container's.
func Exec(spec *specs.Spec, req ExecRequest) (*specs.Process, error) {
	if spec.Process == nil {
		return nil, fmt.Errorf("specification without a process: %w", errdefs.ErrInvalidArgument)
	}
	process := *spec.Process
	process.Args = slices.Clone(req.Args)
	process.Env = mergeEnv(withoutTerm(process.Env, process.Terminal), execEnv(req))
	process.Terminal = req.TTY
	process.ConsoleSize = nil
	if req.TTY && req.ConsoleSize != nil {
		process.ConsoleSize = consoleSize(*req.ConsoleSize)
	}
	if req.Cwd != "" {
		process.Cwd = req.Cwd
	}
	if req.User != nil {
		process.User = user(*req.User, process.User.Umask)
	}
	if req.Privileged {
		f, err := kernel()
		if err != nil {
			return nil, err
		}
		process.Capabilities = withCaps(slices.Clone(f.availableCaps))
	}
	return &process, nil
}

// withoutTerm removes the TERM that a container's own terminal brought.
func withoutTerm(env []string, hadTerminal bool) []string {
	if !hadTerminal {
		return env
	}
	return mergeEnv(env, []string{"TERM"})
}

func execEnv(req ExecRequest) []string {
	if !req.TTY {
		return req.Env
	}
	return append([]string{"TERM=xterm"}, req.Env...)
}

// maskedPaths returns the paths that a container sees as empty by default.
func maskedPaths() []string {
	paths := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	// Each CPU's throttling counters tell one container what others do.
	throttles, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	if err != nil {
		return paths // the pattern is well formed
	}
	return append(paths, throttles...)
}

// readonlyPaths returns the paths that a container cannot write by default.
func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// dirExists reports whether path is a directory.
func dirExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
