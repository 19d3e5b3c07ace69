package shim

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

const (
	maxHostname    = 64 // HOST_NAME_MAX of Linux
	defaultShmSize = 64 << 20
)

// Validate checks a container's configuration before anything is made of it. It
// returns an error of class InvalidArgument or NotImplemented that names the
// option which cannot be honoured. What Docker drops with a warning where the
// kernel cannot do it is dropped from host, and the warnings are Docker's.
//
// On success host is complete: every default that Docker would show in
// inspect is filled in. Mounts, networks, ports in use and the options of the log
// driver are other packages' to check.
func Validate(cfg *mobycontainer.Config, host *mobycontainer.HostConfig) (warnings []string, err error) {
	f, err := kernel()
	if err != nil {
		return nil, err
	}
	return f.validate(cfg, host)
}

func (f *facts) validate(cfg *mobycontainer.Config, host *mobycontainer.HostConfig) (warnings []string, err error) {
	for _, check := range []func(*mobycontainer.Config, *mobycontainer.HostConfig) error{
		validateConfig, validateHost, f.validateSecurity, validateModes, validateSysctls, validateDevices, refuse,
	} {
		if err := check(cfg, host); err != nil {
			return nil, err
		}
	}
	warnings, err = f.validateResources(&host.Resources)
	if err != nil {
		return warnings, err
	}
	if host.Memory == 0 && host.MemorySwap > 0 {
		return warnings, invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	warnings = append(warnings, f.warn(host)...)
	f.setDefaults(host)
	return warnings, nil
}

func validateConfig(cfg *mobycontainer.Config, _ *mobycontainer.HostConfig) error {
	if len(cfg.Hostname) > maxHostname {
		return invalid("hostname %q is too long (maximum %d bytes)", cfg.Hostname, maxHostname)
	}
	if cfg.WorkingDir != "" {
		if !path.IsAbs(cfg.WorkingDir) {
			return invalid("the working directory '%s' is invalid, it needs to be an absolute path", cfg.WorkingDir)
		}
		cfg.WorkingDir = path.Clean(cfg.WorkingDir)
	}
	return validateProcess(cfg)
}

func validateHost(_ *mobycontainer.Config, host *mobycontainer.HostConfig) error {
	if err := validateCommon(host); err != nil {
		return err
	}
	if host.ShmSize < 0 {
		return invalid("SHM size can not be less than 0")
	}
	if host.OomScoreAdj < -1000 || host.OomScoreAdj > 1000 {
		return invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", host.OomScoreAdj)
	}
	if host.Umask != nil && *host.Umask > 0o777 {
		return invalid("invalid umask %#o", *host.Umask)
	}
	if err := validateTmpfs(host.Tmpfs); err != nil {
		return err
	}
	return checkRuntime(host.Runtime)
}

func validateTmpfs(mounts map[string]string) error {
	for target, options := range mounts {
		if !path.IsAbs(target) {
			return invalid("invalid mount path: '%s' mount path must be absolute", target)
		}
		if path.Clean(target) == "/" {
			return invalid("invalid specification: destination can't be '/'")
		}
		if _, err := tmpfsOptions(splitOptions(options)); err != nil {
			return err
		}
	}
	return nil
}

func (f *facts) validateSecurity(_ *mobycontainer.Config, host *mobycontainer.HostConfig) error {
	for option, names := range map[string][]string{"CapAdd": host.CapAdd, "CapDrop": host.CapDrop} {
		if _, err := f.normalizeCaps(names); err != nil {
			return fmt.Errorf("invalid %s: %w", option, err)
		}
	}
	_, err := parseSecurity(host.SecurityOpt)
	return err
}

func validateModes(_ *mobycontainer.Config, host *mobycontainer.HostConfig) error {
	for _, mode := range []struct {
		valid bool
		name  string
		value string
	}{
		{host.IpcMode.Valid(), "IPC mode", string(host.IpcMode)},
		{host.PidMode.Valid(), "PID mode", string(host.PidMode)},
		{host.UTSMode.Valid(), "UTS mode", string(host.UTSMode)},
		{host.CgroupnsMode.Valid(), "cgroup namespace mode", string(host.CgroupnsMode)},
		{host.UsernsMode.Valid(), "user namespace mode", string(host.UsernsMode)},
	} {
		if !mode.valid {
			return invalid("invalid %s: %v", mode.name, mode.value)
		}
	}
	if !host.Isolation.IsDefault() {
		return invalid("invalid isolation '%s' on linux", host.Isolation)
	}
	return nil
}

// validateSysctls lets through only settings that are the container's own,
// because any other would change the host.
func validateSysctls(_ *mobycontainer.Config, host *mobycontainer.HostConfig) error {
	for name := range host.Sysctls {
		if strings.Contains(name, "/") {
			return invalid("sysctl %q: write the name with dots", name)
		}
		switch {
		case isIPCSysctl(name):
			if host.IpcMode.IsHost() {
				return invalid("sysctl %q is not allowed in the hosts ipc namespace", name)
			}
		case strings.HasPrefix(name, "net."):
			if host.NetworkMode.IsHost() {
				return invalid("sysctl %q not allowed in host network namespace", name)
			}
		case name == "kernel.domainname":
			if host.UTSMode.IsHost() {
				return invalid("sysctl %q is not allowed in the hosts uts namespace", name)
			}
		default:
			return invalid("sysctl %q is not in a separate kernel namespace", name)
		}
		// A setting of another network namespace may be made by a module that is
		// loaded later; one that the kernel has nowhere is an error at start.
	}
	return nil
}

func isIPCSysctl(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	default:
		return strings.HasPrefix(name, "fs.mqueue.")
	}
}

func validateDevices(_ *mobycontainer.Config, host *mobycontainer.HostConfig) error {
	for _, device := range host.Devices {
		if !validAccess(device.CgroupPermissions) {
			return invalid("invalid device mode: %s", device.CgroupPermissions)
		}
		if device.PathOnHost == "" {
			return invalid("invalid device specification: PathOnHost must not be empty")
		}
	}
	_, err := deviceRules(host.DeviceCgroupRules)
	return err
}

// refuse names the options of Docker that this engine does not have yet.
func refuse(_ *mobycontainer.Config, host *mobycontainer.HostConfig) error {
	for _, option := range []struct {
		given bool
		name  string
	}{
		{len(host.DeviceRequests) > 0, "--gpus and --device of a CDI driver (HostConfig.DeviceRequests)"},
		// On networks of one's own they are in the endpoint's settings.
		{len(host.Links) > 0 && !host.NetworkMode.IsUserDefined(), "--link (HostConfig.Links)"},
		{len(host.StorageOpt) > 0, "--storage-opt (HostConfig.StorageOpt)"},
		{host.Cgroup != "", "HostConfig.Cgroup"},
		{host.CPURealtimePeriod != 0, "--cpu-rt-period (HostConfig.CpuRealtimePeriod)"},
		{host.CPURealtimeRuntime != 0, "--cpu-rt-runtime (HostConfig.CpuRealtimeRuntime)"},
		{!slices.Contains(logDrivers, host.LogConfig.Type), fmt.Sprintf("log driver %q (HostConfig.LogConfig.Type)", host.LogConfig.Type)},
		{!slices.Contains(volumeDrivers, host.VolumeDriver), fmt.Sprintf("volume driver %q (HostConfig.VolumeDriver)", host.VolumeDriver)},
	} {
		if option.given {
			return errdefs.ErrNotImplemented.WithMessage(option.name + " is not supported yet")
		}
	}
	return nil
}

// warn returns Docker's warnings about what has no effect, apart from limits.
func (f *facts) warn(host *mobycontainer.HostConfig) []string {
	var warnings []string
	if host.NetworkMode.IsHost() && len(host.PortBindings) > 0 {
		warnings = append(warnings, "Published ports are discarded when using host network mode")
	}
	if host.CgroupnsMode.IsPrivate() && !f.cgroupNamespaces {
		warnings = append(warnings, "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.")
	}
	if !f.seccomp {
		warnings = append(warnings, "seccomp is not enabled in your kernel, running container without default profile")
	}
	options, err := parseSecurity(host.SecurityOpt)
	if err == nil && options.appArmor != "" && options.appArmor != unconfined && !f.appArmor {
		warnings = append(warnings, "Your kernel does not support AppArmor. AppArmor profile discarded.")
	}
	return warnings
}

// setDefaults fills in what Docker would show in inspect.
func (f *facts) setDefaults(host *mobycontainer.HostConfig) {
	if host.Memory > 0 && host.MemorySwap == 0 {
		if host.MemorySwap = -1; host.Memory <= math.MaxInt64/2 {
			host.MemorySwap = 2 * host.Memory
		}
	}
	if host.ShmSize == 0 {
		host.ShmSize = defaultShmSize
	}
	if host.IpcMode.IsEmpty() {
		host.IpcMode = mobycontainer.IPCModePrivate
	}
	if host.CgroupnsMode.IsEmpty() {
		host.CgroupnsMode = mobycontainer.CgroupnsModeHost
		if f.unified {
			host.CgroupnsMode = mobycontainer.CgroupnsModePrivate
		}
	}
	if host.Runtime == "" {
		host.Runtime = RuncName
	}
	if host.LogConfig.Type == "" {
		host.LogConfig.Type = "json-file"
	}
	if host.RestartPolicy.Name == "" {
		host.RestartPolicy.Name = mobycontainer.RestartPolicyDisabled
	}
	if host.MaskedPaths == nil && !host.Privileged {
		host.MaskedPaths = maskedPaths()
	}
	if host.ReadonlyPaths == nil && !host.Privileged {
		host.ReadonlyPaths = readonlyPaths()
	}
	if host.OomKillDisable == nil && f.oomKillDisable {
		host.OomKillDisable = new(bool)
	}
}
