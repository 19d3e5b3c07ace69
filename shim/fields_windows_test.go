package shim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	mobycontainer "github.com/moby/moby/api/types/container"

	"slipway/shim/job"
)

var configFields = map[string]treatment{
	"Hostname":        changesSpec(func(c *ctrConfig, _ *hostConfig) { c.Hostname = "other" }),
	"Domainname":      isRefused("--domainname", func(c *ctrConfig, _ *hostConfig) { c.Domainname = "example.org" }),
	"User":            isRefused("--user", func(c *ctrConfig, _ *hostConfig) { c.User = "postgres" }),
	"AttachStdin":     {elsewhere: "container"},
	"AttachStdout":    {elsewhere: "container"},
	"AttachStderr":    {elsewhere: "container"},
	"ExposedPorts":    {elsewhere: "network"},
	"Tty":             changesSpec(func(c *ctrConfig, _ *hostConfig) { c.Tty = true }),
	"OpenStdin":       {elsewhere: "container"},
	"StdinOnce":       {elsewhere: "container"},
	"Env":             changesSpec(func(c *ctrConfig, _ *hostConfig) { c.Env = []string{"A=b"} }),
	"Cmd":             {elsewhere: "container: SpecRequest.Args"},
	"Healthcheck":     isChecked("Retries", func(c *ctrConfig, _ *hostConfig) { c.Healthcheck = &mobycontainer.HealthConfig{Retries: -1} }),
	"ArgsEscaped":     changesSpec(func(c *ctrConfig, _ *hostConfig) { c.ArgsEscaped = true }),
	"Image":           {elsewhere: "container"},
	"Volumes":         {elsewhere: "volume"},
	"WorkingDir":      changesSpec(func(c *ctrConfig, _ *hostConfig) { c.WorkingDir = `C:\srv` }),
	"Entrypoint":      {elsewhere: "container: SpecRequest.Args"},
	"NetworkDisabled": {elsewhere: "network"},
	"OnBuild":         {nothing: "is for builds from the image"},
	"Labels":          changesSpec(func(c *ctrConfig, _ *hostConfig) { c.Labels = map[string]string{StopCommandLabel: "stop"} }),
	"StopSignal":      isChecked("SIGNOSUCH", func(c *ctrConfig, _ *hostConfig) { c.StopSignal = "SIGNOSUCH" }),
	"StopTimeout":     {elsewhere: "container"},
	"Shell":           {nothing: "is for builds from the image"},
}

var yes = true

var hostFields = map[string]treatment{
	"Binds":           {elsewhere: "volume"},
	"ContainerIDFile": {nothing: "the client writes the file"},
	"LogConfig":       isRefused("syslog", func(_ *ctrConfig, h *hostConfig) { h.LogConfig.Type = "syslog" }),
	"NetworkMode":     {elsewhere: "network"},
	"PortBindings":    {elsewhere: "network"},
	"RestartPolicy":   isChecked("restart policy", func(_ *ctrConfig, h *hostConfig) { h.RestartPolicy.Name = "sometimes" }),
	"AutoRemove": isChecked("restart policy", func(_ *ctrConfig, h *hostConfig) {
		h.AutoRemove, h.RestartPolicy.Name = true, mobycontainer.RestartPolicyAlways
	}),
	"VolumeDriver": isRefused("VolumeDriver", func(_ *ctrConfig, h *hostConfig) { h.VolumeDriver = "nfs" }),
	"VolumesFrom":  {elsewhere: "volume"},
	"ConsoleSize":  changesSpec(func(c *ctrConfig, h *hostConfig) { c.Tty, h.ConsoleSize = true, [2]uint{24, 80} }),
	"Annotations": changesSpec(func(_ *ctrConfig, h *hostConfig) {
		h.Annotations = map[string]string{job.IdentityAnnotation: "own"}
	}),
	"CapAdd":          isRefused("--cap-add", func(_ *ctrConfig, h *hostConfig) { h.CapAdd = []string{"sys_admin"} }),
	"CapDrop":         isRefused("--cap-drop", func(_ *ctrConfig, h *hostConfig) { h.CapDrop = []string{"CAP_CHOWN"} }),
	"CgroupnsMode":    isRefused("--cgroupns", func(_ *ctrConfig, h *hostConfig) { h.CgroupnsMode = "private" }),
	"DNS":             {elsewhere: "network"},
	"DNSOptions":      {elsewhere: "network"},
	"DNSSearch":       {elsewhere: "network"},
	"ExtraHosts":      isChecked("add-host", func(_ *ctrConfig, h *hostConfig) { h.ExtraHosts = []string{"x:y"} }),
	"GroupAdd":        isRefused("--group-add", func(_ *ctrConfig, h *hostConfig) { h.GroupAdd = []string{"1"} }),
	"IpcMode":         isRefused("--ipc", func(_ *ctrConfig, h *hostConfig) { h.IpcMode = "host" }),
	"Cgroup":          isRefused("HostConfig.Cgroup", func(_ *ctrConfig, h *hostConfig) { h.Cgroup = "container:x" }),
	"Links":           isRefused("--link", func(_ *ctrConfig, h *hostConfig) { h.Links = []string{"a:b"} }),
	"OomScoreAdj":     isRefused("--oom-score-adj", func(_ *ctrConfig, h *hostConfig) { h.OomScoreAdj = 5 }),
	"PidMode":         isRefused("--pid", func(_ *ctrConfig, h *hostConfig) { h.PidMode = "host" }),
	"Privileged":      isRefused("--privileged", func(_ *ctrConfig, h *hostConfig) { h.Privileged = true }),
	"PublishAllPorts": {elsewhere: "network"},
	"ReadonlyRootfs":  isRefused("--read-only", func(_ *ctrConfig, h *hostConfig) { h.ReadonlyRootfs = true }),
	"SecurityOpt":     isRefused("--security-opt", func(_ *ctrConfig, h *hostConfig) { h.SecurityOpt = []string{"no-new-privileges"} }),
	"StorageOpt":      isRefused("--storage-opt", func(_ *ctrConfig, h *hostConfig) { h.StorageOpt = map[string]string{"size": "1g"} }),
	"Tmpfs":           isRefused("--tmpfs", func(_ *ctrConfig, h *hostConfig) { h.Tmpfs = map[string]string{"/run": ""} }),
	"UTSMode":         isRefused("--uts", func(_ *ctrConfig, h *hostConfig) { h.UTSMode = "host" }),
	"UsernsMode":      isRefused("--userns", func(_ *ctrConfig, h *hostConfig) { h.UsernsMode = "host" }),
	"ShmSize":         isRefused("--shm-size", func(_ *ctrConfig, h *hostConfig) { h.ShmSize = 1 << 20 }),
	"Sysctls":         isRefused("--sysctl", func(_ *ctrConfig, h *hostConfig) { h.Sysctls = map[string]string{"kernel.msgmax": "9000"} }),
	"Runtime":         isRefused("runtime name: kata", func(_ *ctrConfig, h *hostConfig) { h.Runtime = "kata" }),
	"Umask":           isRefused("Umask", func(_ *ctrConfig, h *hostConfig) { h.Umask = new(uint32(0o27)) }),
	"Isolation":       isRefused("Containers feature", func(_ *ctrConfig, h *hostConfig) { h.Isolation = "hyperv" }),
	"Resources":       {nothing: "its fields are in the other table"},
	"Mounts":          {elsewhere: "volume"},
	"MaskedPaths":     isRefused("MaskedPaths", func(_ *ctrConfig, h *hostConfig) { h.MaskedPaths = []string{"/proc"} }),
	"ReadonlyPaths":   isRefused("ReadonlyPaths", func(_ *ctrConfig, h *hostConfig) { h.ReadonlyPaths = []string{"/proc"} }),
	"Init":            isRefused("--init", func(_ *ctrConfig, h *hostConfig) { h.Init = &yes }),
}

func throttle() []*blkiodev.ThrottleDevice {
	return []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 1 << 20}}
}

var resourceFields = map[string]treatment{
	"CPUShares":    changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CPUShares = 100 }),
	"Memory":       changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Memory = 64 << 20 }),
	"NanoCPUs":     changesSpec(func(_ *ctrConfig, h *hostConfig) { h.NanoCPUs = 5e8 }),
	"CgroupParent": isRefused("--cgroup-parent", func(_ *ctrConfig, h *hostConfig) { h.CgroupParent = "/other" }),
	"BlkioWeight":  isRefused("--blkio-weight", func(_ *ctrConfig, h *hostConfig) { h.BlkioWeight = 100 }),
	"BlkioWeightDevice": isRefused("--blkio-weight-device", func(_ *ctrConfig, h *hostConfig) {
		h.BlkioWeightDevice = []*blkiodev.WeightDevice{{Path: "/dev/null", Weight: 10}}
	}),
	"BlkioDeviceReadBps":   isRefused("--device-read-bps", func(_ *ctrConfig, h *hostConfig) { h.BlkioDeviceReadBps = throttle() }),
	"BlkioDeviceWriteBps":  isRefused("--device-write-bps", func(_ *ctrConfig, h *hostConfig) { h.BlkioDeviceWriteBps = throttle() }),
	"BlkioDeviceReadIOps":  isRefused("--device-read-iops", func(_ *ctrConfig, h *hostConfig) { h.BlkioDeviceReadIOps = throttle() }),
	"BlkioDeviceWriteIOps": isRefused("--device-write-iops", func(_ *ctrConfig, h *hostConfig) { h.BlkioDeviceWriteIOps = throttle() }),
	"CPUPeriod":            isRefused("--cpu-period", func(_ *ctrConfig, h *hostConfig) { h.CPUPeriod = 50000 }),
	"CPUQuota":             isRefused("--cpu-quota", func(_ *ctrConfig, h *hostConfig) { h.CPUQuota = 50000 }),
	"CPURealtimePeriod":    isRefused("--cpu-rt-period", func(_ *ctrConfig, h *hostConfig) { h.CPURealtimePeriod = 1000 }),
	"CPURealtimeRuntime":   isRefused("--cpu-rt-runtime", func(_ *ctrConfig, h *hostConfig) { h.CPURealtimeRuntime = 1000 }),
	"CpusetCpus":           isRefused("--cpuset-cpus", func(_ *ctrConfig, h *hostConfig) { h.CpusetCpus = "0" }),
	"CpusetMems":           isRefused("--cpuset-mems", func(_ *ctrConfig, h *hostConfig) { h.CpusetMems = "0" }),
	"Devices": isRefused("--device", func(_ *ctrConfig, h *hostConfig) {
		h.Devices = []mobycontainer.DeviceMapping{{PathOnHost: "class/x"}}
	}),
	"DeviceCgroupRules": isRefused("--device-cgroup-rule", func(_ *ctrConfig, h *hostConfig) { h.DeviceCgroupRules = []string{"c 42:* rmw"} }),
	"DeviceRequests":    isRefused("--gpus", func(_ *ctrConfig, h *hostConfig) { h.DeviceRequests = []mobycontainer.DeviceRequest{{Count: 1}} }),
	"MemoryReservation": isRefused("--memory-reservation", func(_ *ctrConfig, h *hostConfig) { h.MemoryReservation = 64 << 20 }),
	"MemorySwap":        isRefused("--memory-swap", func(_ *ctrConfig, h *hostConfig) { h.Memory, h.MemorySwap = 64<<20, 64<<20 }),
	"MemorySwappiness":  isRefused("--memory-swappiness", func(_ *ctrConfig, h *hostConfig) { h.MemorySwappiness = new(int64(10)) }),
	"OomKillDisable":    isRefused("--oom-kill-disable", func(_ *ctrConfig, h *hostConfig) { h.OomKillDisable = &yes }),
	"PidsLimit":         changesSpec(func(_ *ctrConfig, h *hostConfig) { h.PidsLimit = new(int64(10)) }),
	"Ulimits": isRefused("--ulimit", func(_ *ctrConfig, h *hostConfig) {
		h.Ulimits = []*mobycontainer.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}
	}),
	"CPUCount":           changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CPUCount = 1 }),
	"CPUPercent":         changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CPUPercent = 1 }),
	"IOMaximumIOps":      changesSpec(func(_ *ctrConfig, h *hostConfig) { h.IOMaximumIOps = 1 }),
	"IOMaximumBandwidth": changesSpec(func(_ *ctrConfig, h *hostConfig) { h.IOMaximumBandwidth = 1 }),
}

// everything is a host that can enforce each limit.
var everything = job.Backends{Memory: job.Kernel, Processes: job.Kernel, CPU: job.Kernel, Priority: job.Kernel, Network: job.Kernel, IO: job.Kernel}

func validateWith(b job.Backends) func(*ctrConfig, *hostConfig) ([]string, error) {
	return func(c *ctrConfig, h *hostConfig) ([]string, error) { return validate(c, h, b) }
}

func defaultRequest() SpecRequest {
	return SpecRequest{
		ID:         "0123456789ab",
		Config:     &mobycontainer.Config{Hostname: "0123456789ab"},
		HostConfig: &mobycontainer.HostConfig{NetworkMode: "nat"},
		Args:       []string{"cmd.exe", "/c", "a b"},
		Rootfs:     `C:\roots\x`,
	}
}

func TestEveryFieldIsTreated(t *testing.T) {
	testFields(t, system{validateWith(everything), newSpec, defaultRequest}, configFields, hostFields, resourceFields)
}

func TestDefaultsAreDockers(t *testing.T) {
	// What the command line sends without being told.
	host := &mobycontainer.HostConfig{Init: new(bool), Resources: mobycontainer.Resources{
		MemorySwappiness: new(int64(-1)), OomKillDisable: new(bool), PidsLimit: new(int64(0)),
	}}
	if _, err := validate(&mobycontainer.Config{}, host, everything); err != nil {
		t.Fatal(err)
	}
	want := &mobycontainer.HostConfig{
		Isolation: "default", Runtime: "slipway-job",
		LogConfig:     mobycontainer.LogConfig{Type: "json-file"},
		RestartPolicy: mobycontainer.RestartPolicy{Name: "no"},
	}
	if diff := cmp.Diff(want, host); diff != "" {
		t.Error(diff)
	}
}
