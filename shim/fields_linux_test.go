package shim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func isWarned(set func(c *ctrConfig, h *hostConfig)) treatment {
	return treatment{warned: true, set: set}
}

var configFields = map[string]treatment{
	"Hostname":        changesSpec(func(c *ctrConfig, _ *hostConfig) { c.Hostname = "other" }),
	"Domainname":      changesSpec(func(c *ctrConfig, _ *hostConfig) { c.Domainname = "example.org" }),
	"User":            {elsewhere: "container resolves it beneath the root: SpecRequest.User"},
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
	"ArgsEscaped":     {nothing: "of Windows containers; builders set it in Linux images as well"},
	"Image":           {elsewhere: "container"},
	"Volumes":         {elsewhere: "volume"},
	"WorkingDir":      changesSpec(func(c *ctrConfig, _ *hostConfig) { c.WorkingDir = "/srv" }),
	"Entrypoint":      {elsewhere: "container: SpecRequest.Args"},
	"NetworkDisabled": changesSpec(func(c *ctrConfig, h *hostConfig) { c.NetworkDisabled, h.NetworkMode = true, "host" }),
	"OnBuild":         {nothing: "is for builds from the image"},
	"Labels":          {elsewhere: "container"},
	"StopSignal":      isChecked("SIGNOSUCH", func(c *ctrConfig, _ *hostConfig) { c.StopSignal = "SIGNOSUCH" }),
	"StopTimeout":     {elsewhere: "container"},
	"Shell":           {nothing: "is for builds from the image"},
}

var yes = true

var hostFields = map[string]treatment{
	"Binds":           {elsewhere: "volume"},
	"ContainerIDFile": {nothing: "the client writes the file"},
	"LogConfig":       isRefused("syslog", func(_ *ctrConfig, h *hostConfig) { h.LogConfig.Type = "syslog" }),
	"NetworkMode":     changesSpec(func(_ *ctrConfig, h *hostConfig) { h.NetworkMode = "host" }),
	"PortBindings":    {elsewhere: "network"},
	"RestartPolicy":   isChecked("restart policy", func(_ *ctrConfig, h *hostConfig) { h.RestartPolicy.Name = "sometimes" }),
	"AutoRemove": isChecked("restart policy", func(_ *ctrConfig, h *hostConfig) {
		h.AutoRemove, h.RestartPolicy.Name = true, mobycontainer.RestartPolicyAlways
	}),
	"VolumeDriver":    isRefused("VolumeDriver", func(_ *ctrConfig, h *hostConfig) { h.VolumeDriver = "nfs" }),
	"VolumesFrom":     {elsewhere: "volume"},
	"ConsoleSize":     changesSpec(func(c *ctrConfig, h *hostConfig) { c.Tty, h.ConsoleSize = true, [2]uint{24, 80} }),
	"Annotations":     changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Annotations = map[string]string{"a": "b"} }),
	"CapAdd":          changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CapAdd = []string{"sys_admin"} }),
	"CapDrop":         changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CapDrop = []string{"CAP_CHOWN"} }),
	"CgroupnsMode":    changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CgroupnsMode = mobycontainer.CgroupnsModePrivate }),
	"DNS":             {elsewhere: "network"},
	"DNSOptions":      {elsewhere: "network"},
	"DNSSearch":       {elsewhere: "network"},
	"ExtraHosts":      isChecked("add-host", func(_ *ctrConfig, h *hostConfig) { h.ExtraHosts = []string{"x:y"} }),
	"GroupAdd":        {elsewhere: "container resolves it beneath the root: SpecRequest.User"},
	"IpcMode":         changesSpec(func(_ *ctrConfig, h *hostConfig) { h.IpcMode = "none" }),
	"Cgroup":          isRefused("HostConfig.Cgroup", func(_ *ctrConfig, h *hostConfig) { h.Cgroup = "container:x" }),
	"Links":           isRefused("--link", func(_ *ctrConfig, h *hostConfig) { h.Links = []string{"a:b"} }),
	"OomScoreAdj":     changesSpec(func(_ *ctrConfig, h *hostConfig) { h.OomScoreAdj = 5 }),
	"PidMode":         changesSpec(func(_ *ctrConfig, h *hostConfig) { h.PidMode = "host" }),
	"Privileged":      changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Privileged = true }),
	"PublishAllPorts": {elsewhere: "network"},
	"ReadonlyRootfs":  changesSpec(func(_ *ctrConfig, h *hostConfig) { h.ReadonlyRootfs = true }),
	"SecurityOpt":     changesSpec(func(_ *ctrConfig, h *hostConfig) { h.SecurityOpt = []string{"no-new-privileges"} }),
	"StorageOpt":      isRefused("--storage-opt", func(_ *ctrConfig, h *hostConfig) { h.StorageOpt = map[string]string{"size": "1g"} }),
	"Tmpfs":           changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Tmpfs = map[string]string{"/run": ""} }),
	"UTSMode":         changesSpec(func(_ *ctrConfig, h *hostConfig) { h.UTSMode = "host" }),
	"UsernsMode":      isRefused("user namespace mode", func(_ *ctrConfig, h *hostConfig) { h.UsernsMode = "remap" }),
	"ShmSize":         changesSpec(func(_ *ctrConfig, h *hostConfig) { h.ShmSize = 1 << 20 }),
	"Sysctls":         changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Sysctls = map[string]string{"kernel.msgmax": "9000"} }),
	"Runtime":         isRefused("runtime name: kata", func(_ *ctrConfig, h *hostConfig) { h.Runtime = "kata" }),
	"Umask":           changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Umask = new(uint32(0o27)) }),
	"Isolation":       isRefused("isolation", func(_ *ctrConfig, h *hostConfig) { h.Isolation = "hyperv" }),
	"Resources":       {nothing: "its fields are in the other table"},
	"Mounts":          {elsewhere: "volume"},
	"MaskedPaths":     changesSpec(func(_ *ctrConfig, h *hostConfig) { h.MaskedPaths = []string{} }),
	"ReadonlyPaths":   changesSpec(func(_ *ctrConfig, h *hostConfig) { h.ReadonlyPaths = []string{} }),
	"Init":            changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Init = &yes }),
}

func throttle() []*blkiodev.ThrottleDevice {
	return []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 1 << 20}}
}

var resourceFields = map[string]treatment{
	"CPUShares":    changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CPUShares = 100 }),
	"Memory":       changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Memory = 64 << 20 }),
	"NanoCPUs":     changesSpec(func(_ *ctrConfig, h *hostConfig) { h.NanoCPUs = 5e8 }),
	"CgroupParent": changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CgroupParent = "/other" }),
	"BlkioWeight":  changesSpec(func(_ *ctrConfig, h *hostConfig) { h.BlkioWeight = 100 }),
	"BlkioWeightDevice": changesSpec(func(_ *ctrConfig, h *hostConfig) {
		h.BlkioWeightDevice = []*blkiodev.WeightDevice{{Path: "/dev/null", Weight: 10}}
	}),
	"BlkioDeviceReadBps":   changesSpec(func(_ *ctrConfig, h *hostConfig) { h.BlkioDeviceReadBps = throttle() }),
	"BlkioDeviceWriteBps":  changesSpec(func(_ *ctrConfig, h *hostConfig) { h.BlkioDeviceWriteBps = throttle() }),
	"BlkioDeviceReadIOps":  changesSpec(func(_ *ctrConfig, h *hostConfig) { h.BlkioDeviceReadIOps = throttle() }),
	"BlkioDeviceWriteIOps": changesSpec(func(_ *ctrConfig, h *hostConfig) { h.BlkioDeviceWriteIOps = throttle() }),
	"CPUPeriod":            changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CPUPeriod = 50000 }),
	"CPUQuota":             changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CPUQuota = 50000 }),
	"CPURealtimePeriod":    isRefused("--cpu-rt-period", func(_ *ctrConfig, h *hostConfig) { h.CPURealtimePeriod = 1000 }),
	"CPURealtimeRuntime":   isRefused("--cpu-rt-runtime", func(_ *ctrConfig, h *hostConfig) { h.CPURealtimeRuntime = 1000 }),
	"CpusetCpus":           changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CpusetCpus = "0" }),
	"CpusetMems":           changesSpec(func(_ *ctrConfig, h *hostConfig) { h.CpusetMems = "0" }),
	"Devices": changesSpec(func(_ *ctrConfig, h *hostConfig) {
		h.Devices = []mobycontainer.DeviceMapping{{PathOnHost: "/dev/kmsg"}}
	}),
	"DeviceCgroupRules": changesSpec(func(_ *ctrConfig, h *hostConfig) { h.DeviceCgroupRules = []string{"c 42:* rmw"} }),
	"DeviceRequests":    isRefused("--gpus", func(_ *ctrConfig, h *hostConfig) { h.DeviceRequests = []mobycontainer.DeviceRequest{{Count: 1}} }),
	"MemoryReservation": changesSpec(func(_ *ctrConfig, h *hostConfig) { h.MemoryReservation = 64 << 20 }),
	"MemorySwap":        changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Memory, h.MemorySwap = 64<<20, 64<<20 }),
	"MemorySwappiness":  changesSpec(func(_ *ctrConfig, h *hostConfig) { h.MemorySwappiness = new(int64(10)) }),
	"OomKillDisable":    changesSpec(func(_ *ctrConfig, h *hostConfig) { h.Memory, h.OomKillDisable = 64<<20, &yes }),
	"PidsLimit":         changesSpec(func(_ *ctrConfig, h *hostConfig) { h.PidsLimit = new(int64(10)) }),
	"Ulimits": changesSpec(func(_ *ctrConfig, h *hostConfig) {
		h.Ulimits = []*mobycontainer.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}
	}),
	"CPUCount":           isWarned(func(_ *ctrConfig, h *hostConfig) { h.CPUCount = 1 }),
	"CPUPercent":         isWarned(func(_ *ctrConfig, h *hostConfig) { h.CPUPercent = 1 }),
	"IOMaximumIOps":      isRefused("IOps", func(_ *ctrConfig, h *hostConfig) { h.IOMaximumIOps = 1 }),
	"IOMaximumBandwidth": isRefused("Bandwidth", func(_ *ctrConfig, h *hostConfig) { h.IOMaximumBandwidth = 1 }),
}

func TestEveryFieldIsTreated(t *testing.T) {
	f := allFacts(t)
	testFields(t, system{f.validate, f.spec, defaultRequest}, configFields, hostFields, resourceFields)
}

func specOf(t *testing.T, f *facts, req SpecRequest) *specs.Spec {
	t.Helper()
	if _, err := f.validate(req.Config, req.HostConfig); err != nil {
		t.Fatal(err)
	}
	spec, err := f.spec(req)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func defaultRequest() SpecRequest {
	return SpecRequest{
		ID:         "0123456789ab",
		Config:     &mobycontainer.Config{Hostname: "0123456789ab"},
		HostConfig: &mobycontainer.HostConfig{NetworkMode: "bridge"},
		Args:       []string{"sh"},
		Rootfs:     "rootfs",
		Namespaces: Namespaces{Network: "/run/netns/x"},
		InitBinary: "/bin/busybox",
	}
}

// allFacts is a kernel of cgroup v1 that can do everything but AppArmor, with
// the capabilities that the tests have.
func allFacts(t *testing.T) *facts {
	t.Helper()
	real, err := kernel()
	if err != nil {
		t.Fatal(err)
	}
	f := &facts{
		memory: true, swap: true, reservation: true, swappiness: true, oomKillDisable: true,
		cpuShares: true, cpuCFS: true, cpuset: true, pids: true, blkioWeight: true, blkioWeightDevice: true,
		readBps: true, writeBps: true, readIOps: true, writeIOps: true,
		cpus: "0-3", mems: "0", seccomp: true, cgroupNamespaces: true, timeNS: true,
		knownCaps: real.knownCaps, availableCaps: real.knownCaps,
	}
	return f
}

func TestDefaultsAreDockers(t *testing.T) {
	host := &mobycontainer.HostConfig{Resources: mobycontainer.Resources{Memory: 64 << 20}}
	f := allFacts(t)
	if _, err := f.validate(&mobycontainer.Config{}, host); err != nil {
		t.Fatal(err)
	}
	host.MaskedPaths, host.ReadonlyPaths = nil, nil
	want := &mobycontainer.HostConfig{
		IpcMode: "private", CgroupnsMode: "host", ShmSize: 64 << 20, Runtime: "runc",
		LogConfig:     mobycontainer.LogConfig{Type: "json-file"},
		RestartPolicy: mobycontainer.RestartPolicy{Name: "no"},
		Resources:     mobycontainer.Resources{Memory: 64 << 20, MemorySwap: 128 << 20, OomKillDisable: new(bool)},
	}
	if diff := cmp.Diff(want, host); diff != "" {
		t.Error(diff)
	}
	f.unified = true
	host = &mobycontainer.HostConfig{}
	if _, err := f.validate(&mobycontainer.Config{}, host); err != nil || host.CgroupnsMode != "private" {
		t.Errorf("with cgroup v2: %q, %v", host.CgroupnsMode, err)
	}
}
