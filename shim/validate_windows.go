package shim

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"

	"slipway/shim/job"
)

const (
	// maxHostname is that of a DNS label, which Windows' own limit of 15 is not.
	maxHostname = 63
	// minMemory is what Docker has as the least on every system.
	minMemory = 6 << 20
)

// backends are the limits that this host can enforce.
var backends = sync.OnceValue(job.Probe)

// Backends says which limits this host can enforce, and by what. Probing takes a
// moment, once.
func Backends() job.Backends { return backends() }

// Validate checks a container's configuration before anything is made of it. It
// returns an error of class InvalidArgument or NotImplemented that names the
// option which cannot be honoured: nothing that Windows or a job object cannot do is dropped
// silently.
//
// On success host is complete: every default that Docker would show in
// inspect is filled in. Mounts, networks, ports in use and the options of the log
// driver are other packages' to check.
func Validate(cfg *mobycontainer.Config, host *mobycontainer.HostConfig) (warnings []string, err error) {
	return validate(cfg, host, backends())
}

func validate(cfg *mobycontainer.Config, host *mobycontainer.HostConfig, by job.Backends) (warnings []string, err error) {
	forgive(host)
	for _, check := range []func() error{
		func() error { return validateConfig(cfg) },
		func() error { return validateCommon(host) },
		func() error { return checkRuntime(host.Runtime) },
		func() error { return checkIsolation(host.Isolation) },
		func() error { return refuseLinux(host) },
		func() error { return refuseLinuxResources(&host.Resources) },
		func() error { return refuseOthers(host) },
		func() error { return validateResources(&host.Resources) },
		func() error { return validateAnnotations(cfg, host, by) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	setDefaults(host)
	return nil, nil
}

// unsupported refuses an option of Linux and says why.
func unsupported(option, why string) error {
	return invalid("invalid option: Windows does not support %s: %s", option, why)
}

// forgive takes out what the command line sends without being told.
func forgive(host *mobycontainer.HostConfig) {
	if s := host.MemorySwappiness; s != nil && *s == -1 {
		host.MemorySwappiness = nil
	}
	if kill := host.OomKillDisable; kill != nil && !*kill {
		host.OomKillDisable = nil
	}
	if host.Init != nil && !*host.Init {
		host.Init = nil
	}
	if n := host.PidsLimit; n != nil && *n <= 0 {
		host.PidsLimit = nil
	}
}

func validateConfig(cfg *mobycontainer.Config) error {
	if len(cfg.Hostname) > maxHostname {
		return invalid("hostname %q is too long (maximum %d bytes)", cfg.Hostname, maxHostname)
	}
	if cfg.Domainname != "" {
		return unsupported("--domainname (Config.Domainname)", "the name of the host is the container's")
	}
	if cfg.User != "" && !strings.EqualFold(cfg.User, containerUser) {
		return unsupported("--user "+cfg.User+" (Config.User)", "a container has one identity, which annotation "+job.IdentityAnnotation+" chooses")
	}
	if cfg.WorkingDir != "" {
		if !strings.ContainsAny(cfg.WorkingDir[:1], `/\`) && (len(cfg.WorkingDir) < 3 || cfg.WorkingDir[1] != ':') && !strings.HasPrefix(cfg.WorkingDir, "%") {
			return invalid("the working directory '%s' is invalid, it needs to be an absolute path", cfg.WorkingDir)
		}
		if _, err := job.Inside(job.Expand(cfg.WorkingDir, `C:\`)); err != nil {
			return invalid("the working directory is invalid: %s", err)
		}
	}
	return validateProcess(cfg)
}

// checkIsolation accepts the job object, which is the default. The other two are those of
// Windows' own Containers feature.
func checkIsolation(isolation mobycontainer.Isolation) error {
	switch strings.ToLower(string(isolation)) {
	case "", "default", "job":
		return nil
	case "process", "hyperv":
		return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("--isolation %s needs Windows' Containers feature, which this engine does not use yet; the default is a job object", isolation))
	default:
		return invalid("invalid isolation: %q", isolation)
	}
}

// option is an option that was given or not.
type option struct {
	given     bool
	name, why string
}

const (
	noNamespaces   = "there are no namespaces"
	noCapabilities = "a process has the privileges of its token"
	noDevices      = "devices are the host's"
	noCgroups      = "a job object has no such limit"
)

// refuseLinux names what only Linux has.
func refuseLinux(host *mobycontainer.HostConfig) error {
	return refuseGiven([]option{
		{len(host.CapAdd) > 0, "--cap-add (HostConfig.CapAdd)", noCapabilities},
		{len(host.CapDrop) > 0, "--cap-drop (HostConfig.CapDrop)", noCapabilities},
		{host.Privileged, "--privileged (HostConfig.Privileged)", noCapabilities},
		{len(host.GroupAdd) > 0, "--group-add (HostConfig.GroupAdd)", "a container has one identity"},
		{host.CgroupnsMode != "", "--cgroupns (HostConfig.CgroupnsMode)", noNamespaces},
		{host.IpcMode != "", "--ipc (HostConfig.IpcMode)", noNamespaces},
		{host.PidMode != "", "--pid (HostConfig.PidMode)", noNamespaces},
		{host.UTSMode != "", "--uts (HostConfig.UTSMode)", noNamespaces},
		{host.UsernsMode != "", "--userns (HostConfig.UsernsMode)", "there are no user namespaces"},
		{host.Cgroup != "", "HostConfig.Cgroup", noNamespaces},
		{host.OomScoreAdj != 0, "--oom-score-adj (HostConfig.OomScoreAdj)", "memory is refused, no process is chosen"},
		{host.ReadonlyRootfs, "--read-only (HostConfig.ReadonlyRootfs)", "the root is an ordinary directory"},
		{len(host.SecurityOpt) > 0, "--security-opt " + strings.Join(host.SecurityOpt, " ") + " (HostConfig.SecurityOpt)", "there is no seccomp, AppArmor or SELinux"},
		{len(host.Tmpfs) > 0, "--tmpfs (HostConfig.Tmpfs)", "there is no file system in memory"},
		{host.ShmSize != 0, "--shm-size (HostConfig.ShmSize)", "shared memory is no file system"},
		{len(host.Sysctls) > 0, "--sysctl (HostConfig.Sysctls)", "there are no kernel parameters"},
		{host.Umask != nil, "HostConfig.Umask", "files inherit the access of their directory"},
		{len(host.MaskedPaths) > 0, "HostConfig.MaskedPaths", "there is no /proc"},
		{len(host.ReadonlyPaths) > 0, "HostConfig.ReadonlyPaths", "there is no /proc"},
		{host.Init != nil, "--init (HostConfig.Init)", "the job object ends what a process leaves"},
	})
}

// refuseLinuxResources names limits that a job object does not have.
func refuseLinuxResources(r *mobycontainer.Resources) error {
	return refuseGiven([]option{
		{r.CgroupParent != "", "--cgroup-parent (CgroupParent)", "there are no control groups"},
		{r.BlkioWeight != 0, "--blkio-weight (BlkioWeight)", noCgroups},
		{len(r.BlkioWeightDevice) > 0, "--blkio-weight-device (BlkioWeightDevice)", noCgroups},
		{len(r.BlkioDeviceReadBps) > 0, "--device-read-bps (BlkioDeviceReadBps)", "use --io-maxbandwidth"},
		{len(r.BlkioDeviceWriteBps) > 0, "--device-write-bps (BlkioDeviceWriteBps)", "use --io-maxbandwidth"},
		{len(r.BlkioDeviceReadIOps) > 0, "--device-read-iops (BlkioDeviceReadIOps)", "use --io-maxiops"},
		{len(r.BlkioDeviceWriteIOps) > 0, "--device-write-iops (BlkioDeviceWriteIOps)", "use --io-maxiops"},
		{r.CPUPeriod != 0, "--cpu-period (CpuPeriod)", "use --cpus"},
		{r.CPUQuota != 0, "--cpu-quota (CpuQuota)", "use --cpus"},
		{r.CPURealtimePeriod != 0, "--cpu-rt-period (CpuRealtimePeriod)", noCgroups},
		{r.CPURealtimeRuntime != 0, "--cpu-rt-runtime (CpuRealtimeRuntime)", noCgroups},
		{r.CpusetCpus != "", "--cpuset-cpus (CpusetCpus)", noCgroups},
		{r.CpusetMems != "", "--cpuset-mems (CpusetMems)", noCgroups},
		{len(r.Devices) > 0, "--device (Devices)", noDevices},
		{len(r.DeviceCgroupRules) > 0, "--device-cgroup-rule (DeviceCgroupRules)", noDevices},
		{r.MemoryReservation != 0, "--memory-reservation (MemoryReservation)", noCgroups},
		{r.MemorySwap != 0 && r.MemorySwap != -1, "--memory-swap (MemorySwap)", "--memory is of memory and page file together"},
		{r.MemorySwappiness != nil, "--memory-swappiness (MemorySwappiness)", noCgroups},
		{r.OomKillDisable != nil, "--oom-kill-disable (OomKillDisable)", "memory is refused, no process is chosen"},
		{len(r.Ulimits) > 0, "--ulimit (Ulimits)", noCgroups},
	})
}

func refuseGiven(options []option) error {
	for _, o := range options {
		if o.given {
			return unsupported(o.name, o.why)
		}
	}
	return nil
}

// refuseOthers names the options of Docker that this engine does not have yet.
func refuseOthers(host *mobycontainer.HostConfig) error {
	for _, o := range []option{
		{given: len(host.DeviceRequests) > 0, name: "--gpus and --device of a CDI driver (HostConfig.DeviceRequests)"},
		{given: len(host.Links) > 0, name: "--link (HostConfig.Links)"},
		{given: len(host.StorageOpt) > 0, name: "--storage-opt (HostConfig.StorageOpt)"},
		{given: !slices.Contains(logDrivers, host.LogConfig.Type), name: fmt.Sprintf("log driver %q (HostConfig.LogConfig.Type)", host.LogConfig.Type)},
		{given: !slices.Contains(volumeDrivers, host.VolumeDriver), name: fmt.Sprintf("volume driver %q (HostConfig.VolumeDriver)", host.VolumeDriver)},
	} {
		if o.given {
			return errdefs.ErrNotImplemented.WithMessage(o.name + " is not supported yet")
		}
	}
	return nil
}

func validateResources(r *mobycontainer.Resources) error {
	cpus := runtime.NumCPU()
	given := 0
	for _, is := range []bool{r.NanoCPUs != 0, r.CPUCount != 0, r.CPUPercent != 0, r.CPUShares != 0} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return invalid("Conflicting options: only one of Nano CPUs, CPU count, CPU percent and CPU shares can be set")
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(cpus)*1e9:
		return invalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", cpus)
	case r.CPUCount < 0 || r.CPUCount > int64(cpus):
		return invalid("range of CPU count is from 1 to %[1]d, as there are only %[1]d CPUs available", cpus)
	case r.CPUPercent < 0 || r.CPUPercent > 100:
		return invalid("range of CPU percent is from 1 to 100")
	case r.CPUShares < 0 || r.CPUShares > 10000:
		return invalid("range of CPU shares is from 1 to 10000")
	case r.Memory != 0 && r.Memory < minMemory:
		return invalid("Minimum memory limit allowed is 6MB")
	}
	return nil
}

// validateAnnotations checks those that the job shim reads, and that this host can enforce what the
// container would be limited by.
func validateAnnotations(cfg *mobycontainer.Config, host *mobycontainer.HostConfig, by job.Backends) error {
	spec, err := newSpec(SpecRequest{Config: cfg, HostConfig: host})
	if err != nil {
		return err
	}
	limits, err := job.LimitsOf(spec, runtime.NumCPU())
	if err != nil {
		return err
	}
	return by.Check(limits)
}

// setDefaults fills in what Docker would show in inspect.
func setDefaults(host *mobycontainer.HostConfig) {
	host.Isolation = "default"
	if host.Runtime == "" {
		host.Runtime = JobName
	}
	if host.LogConfig.Type == "" {
		host.LogConfig.Type = "json-file"
	}
	if host.RestartPolicy.Name == "" {
		host.RestartPolicy.Name = mobycontainer.RestartPolicyDisabled
	}
}
