package shim

import (
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

func TestValidateRefuses(t *testing.T) {
	f := allFacts(t)
	limits := func(r mobycontainer.Resources) mobycontainer.HostConfig {
		return mobycontainer.HostConfig{Resources: r}
	}
	for _, tc := range []struct {
		want string
		host mobycontainer.HostConfig
	}{
		{"Minimum memory limit allowed is 6MB", limits(mobycontainer.Resources{Memory: 4 << 20})},
		{"Minimum memoryswap limit should be larger than memory limit, see usage", limits(mobycontainer.Resources{Memory: 64 << 20, MemorySwap: 32 << 20})},
		{"You should always set the Memory limit when using Memoryswap limit, see usage", limits(mobycontainer.Resources{MemorySwap: 64 << 20})},
		{"Invalid value: 101, valid memory swappiness range is 0-100", limits(mobycontainer.Resources{MemorySwappiness: new(int64(101))})},
		{"Minimum memory reservation allowed is 6MB", limits(mobycontainer.Resources{MemoryReservation: 1})},
		{"Minimum memory limit can not be less than memory reservation limit, see usage", limits(mobycontainer.Resources{Memory: 8 << 20, MemoryReservation: 9 << 20})},
		{"Conflicting options: Nano CPUs and CPU Period cannot both be set", limits(mobycontainer.Resources{NanoCPUs: 1, CPUPeriod: 1})},
		{"Conflicting options: Nano CPUs and CPU Quota cannot both be set", limits(mobycontainer.Resources{NanoCPUs: 1, CPUQuota: 1})},
		{"range of CPUs is from 0.01 to ", limits(mobycontainer.Resources{NanoCPUs: 1e15})},
		{"invalid CPU shares (-1): value must be a positive integer", limits(mobycontainer.Resources{CPUShares: -1})},
		{"CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)", limits(mobycontainer.Resources{CPUPeriod: 999})},
		{"CPU cfs quota can not be less than 1ms (i.e. 1000)", limits(mobycontainer.Resources{CPUQuota: 999})},
		{"Invalid value 0,x for cpuset cpus", limits(mobycontainer.Resources{CpusetCpus: "0,x"})},
		{"Requested CPUs are not available - requested 9, available: 0-3", limits(mobycontainer.Resources{CpusetCpus: "9"})},
		{"Requested memory nodes are not available - requested 1, available: 0", limits(mobycontainer.Resources{CpusetMems: "1"})},
		{"value of out range, maximum is 8192", limits(mobycontainer.Resources{CpusetMems: "0-2147483646"})},
		{"Range of blkio weight is from 10 to 1000", limits(mobycontainer.Resources{BlkioWeight: 5})},
		{"invalid ulimit type: nosuch", limits(mobycontainer.Resources{Ulimits: []*mobycontainer.Ulimit{{Name: "nosuch"}}})},
		{"ulimit soft limit must be less than or equal to hard limit: 2 > 1", limits(mobycontainer.Resources{Ulimits: []*mobycontainer.Ulimit{{Name: "nofile", Soft: 2, Hard: 1}}})},
		{"ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited)", limits(mobycontainer.Resources{Ulimits: []*mobycontainer.Ulimit{{Name: "nofile", Soft: -1, Hard: 1}}})},
		{"invalid ulimit: null", limits(mobycontainer.Resources{Ulimits: []*mobycontainer.Ulimit{nil}})},
		{"invalid device cgroup rule format: 'x'", limits(mobycontainer.Resources{DeviceCgroupRules: []string{"x"}})},
		{"invalid device mode: rwx", limits(mobycontainer.Resources{Devices: []mobycontainer.DeviceMapping{{PathOnHost: "/dev/null", CgroupPermissions: "rwx"}}})},
		{`invalid CapAdd: unknown capability: "CAP_NOPE"`, mobycontainer.HostConfig{CapAdd: []string{"nope"}}},
		{`invalid CapDrop: unknown capability: "CAP_"`, mobycontainer.HostConfig{CapDrop: []string{""}}},
		{`invalid --security-opt 2: "nope=1"`, mobycontainer.HostConfig{SecurityOpt: []string{"nope=1"}}},
		{`invalid --security-opt 1: "nope"`, mobycontainer.HostConfig{SecurityOpt: []string{"nope"}}},
		{`invalid --security-opt 2: "no-new-privileges=maybe"`, mobycontainer.HostConfig{SecurityOpt: []string{"no-new-privileges=maybe"}}},
		{"invalid IPC mode: x", mobycontainer.HostConfig{IpcMode: "x"}},
		{"invalid PID mode: container:", mobycontainer.HostConfig{PidMode: "container:"}},
		{"invalid UTS mode: x", mobycontainer.HostConfig{UTSMode: "x"}},
		{"invalid cgroup namespace mode: x", mobycontainer.HostConfig{CgroupnsMode: "x"}},
		{"SHM size can not be less than 0", mobycontainer.HostConfig{ShmSize: -1}},
		{"Invalid value 1001, range for oom score adj is [-1000, 1000]", mobycontainer.HostConfig{OomScoreAdj: 1001}},
		{"invalid mount path: 'run' mount path must be absolute", mobycontainer.HostConfig{Tmpfs: map[string]string{"run": ""}}},
		{"invalid specification: destination can't be '/'", mobycontainer.HostConfig{Tmpfs: map[string]string{"/x/..": ""}}},
		{`invalid tmpfs option "x"`, mobycontainer.HostConfig{Tmpfs: map[string]string{"/x": "x=1"}}},
		{`sysctl "kernel.panic" is not in a separate kernel namespace`, mobycontainer.HostConfig{Sysctls: map[string]string{"kernel.panic": "1"}}},
		{`sysctl "net.core.somaxconn" not allowed in host network namespace`, mobycontainer.HostConfig{NetworkMode: "host", Sysctls: map[string]string{"net.core.somaxconn": "1"}}},
		{`sysctl "kernel.msgmax" is not allowed in the hosts ipc namespace`, mobycontainer.HostConfig{IpcMode: "host", Sysctls: map[string]string{"kernel.msgmax": "1"}}},
		{`sysctl "net/../kernel/panic": write the name with dots`, mobycontainer.HostConfig{Sysctls: map[string]string{"net/../kernel/panic": "1"}}},
		{"can't create 'AutoRemove' container with restart policy", mobycontainer.HostConfig{AutoRemove: true, RestartPolicy: mobycontainer.RestartPolicy{Name: "always"}}},
		{"invalid restart policy: maximum retry count can only be used with 'on-failure'", mobycontainer.HostConfig{RestartPolicy: mobycontainer.RestartPolicy{Name: "always", MaximumRetryCount: 1}}},
		{`bad format for add-host: "x"`, mobycontainer.HostConfig{ExtraHosts: []string{"x"}}},
		{`invalid IP address in add-host: "1.2.3"`, mobycontainer.HostConfig{ExtraHosts: []string{"x:1.2.3"}}},
		{`invalid port specification: "99999"`, mobycontainer.HostConfig{PortBindings: network.PortMap{network.MustParsePort("80/tcp"): {{HostPort: "99999"}}}}},
		{"invalid Annotations: the empty string is not permitted as an annotation key", mobycontainer.HostConfig{Annotations: map[string]string{"": "x"}}},
		{"invalid umask 01000", mobycontainer.HostConfig{Umask: new(uint32(0o1000))}},
		{"unknown or invalid runtime name: crun", mobycontainer.HostConfig{Runtime: "crun"}},
	} {
		_, err := f.validate(&mobycontainer.Config{}, &tc.host)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %s", err, tc.want)
		} else if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: class %v", tc.want, err)
		}
	}
	for _, tc := range []struct {
		want string
		cfg  mobycontainer.Config
	}{
		{"is too long (maximum 64 bytes)", mobycontainer.Config{Hostname: strings.Repeat("x", 65)}},
		{"the working directory 'x' is invalid, it needs to be an absolute path", mobycontainer.Config{WorkingDir: "x"}},
		{"invalid environment variable: =x", mobycontainer.Config{Env: []string{"=x"}}},
		{"invalid environment variable: ", mobycontainer.Config{Env: []string{""}}},
		{"contains a null byte", mobycontainer.Config{Env: []string{"A=\x00"}}},
		{"Interval in Healthcheck cannot be less than 1ms", mobycontainer.Config{Healthcheck: &mobycontainer.HealthConfig{Interval: 1}}},
		{"Timeout in Healthcheck cannot be less than 1ms", mobycontainer.Config{Healthcheck: &mobycontainer.HealthConfig{Timeout: 1}}},
		{"StartPeriod in Healthcheck cannot be less than 1ms", mobycontainer.Config{Healthcheck: &mobycontainer.HealthConfig{StartPeriod: 1}}},
		{"StartInterval in Healthcheck cannot be less than 1ms", mobycontainer.Config{Healthcheck: &mobycontainer.HealthConfig{StartInterval: 1}}},
	} {
		if _, err := f.validate(&tc.cfg, &mobycontainer.HostConfig{}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %s", err, tc.want)
		}
	}
}

func TestValidateAccepts(t *testing.T) {
	f := allFacts(t)
	cfg := &mobycontainer.Config{WorkingDir: "/a/../b", StopSignal: "9", Env: []string{"A", "B="}}
	host := &mobycontainer.HostConfig{
		SecurityOpt: []string{"label=disable", "label:user:x", "disable", "apparmor=unconfined", "seccomp=unconfined", "no-new-privileges:true"},
		ExtraHosts:  []string{"a:host-gateway", "b:::1", "c:[::1]", "d:1.2.3.4"},
		Sysctls:     map[string]string{"net.ipv4.ip_forward": "1", "fs.mqueue.msg_max": "10"},
		IpcMode:     "container:x", PidMode: "container:y", UsernsMode: "host", Isolation: "default", Runtime: "io.containerd.runc.v2",
		LogConfig: mobycontainer.LogConfig{Type: "none"}, Tmpfs: map[string]string{"/run": "rw,size=1g"},
		Resources: mobycontainer.Resources{Memory: 6 << 20, MemorySwap: -1, MemorySwappiness: new(int64(-1)), CpusetCpus: "0,1-2"},
	}
	warnings, err := f.validate(cfg, host)
	if err != nil || len(warnings) != 0 || cfg.WorkingDir != "/b" || host.MemorySwap != -1 || host.MemorySwappiness != nil {
		t.Errorf("%q, %v, %+v", warnings, err, host.Resources)
	}
}

// TestWeakKernel asks a kernel without any cgroup controller for every limit.
func TestWeakKernel(t *testing.T) {
	f := &facts{cpus: "0", mems: "0"}
	host := &mobycontainer.HostConfig{NetworkMode: "host", CgroupnsMode: "private", SecurityOpt: []string{"apparmor=mine"}}
	for name, treated := range resourceFields {
		switch name {
		case "CgroupParent", "Devices", "DeviceCgroupRules", "Ulimits", "NanoCPUs", "MemorySwap":
		default:
			if treated.spec {
				treated.set(&mobycontainer.Config{}, host)
			}
		}
	}
	host.PortBindings = network.PortMap{network.MustParsePort("80/tcp"): nil}
	warnings, err := f.validate(&mobycontainer.Config{}, host)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(warnings, "\n")
	for word := range strings.FieldsSeq("memory swappiness soft OomKillDisable PIDs shares CFS cpuset weight weight_device " +
		"BPS\x00read BPS\x00write IOPS\x00Block\x00read IOPS\x00Block\x00write ports namespaces seccomp AppArmor") {
		if !strings.Contains(text, strings.ReplaceAll(word, "\x00", " ")) && !strings.Contains(text, strings.ReplaceAll(word, "\x00", " Block I/O ")) {
			t.Errorf("no warning about %q", word)
		}
	}
	var none mobycontainer.Resources
	none.MemorySwap = -1
	none.BlkioDeviceReadBps, none.BlkioDeviceWriteBps = host.BlkioDeviceReadBps, host.BlkioDeviceWriteBps
	if !reflect.DeepEqual(none, host.Resources) {
		t.Errorf("limits are left: %+v", host.Resources)
	}
	if _, err := f.validate(&mobycontainer.Config{}, &mobycontainer.HostConfig{Resources: mobycontainer.Resources{NanoCPUs: 1e9}}); err == nil {
		t.Error("CPUs without the CFS controller are accepted")
	}
}

func TestSeccompChoice(t *testing.T) {
	custom := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`
	for name, tc := range map[string]struct {
		option     string
		privileged bool
		want       string // default action, or "none", or an error
	}{
		"default":                 {want: "SCMP_ACT_ERRNO"},
		"builtin":                 {option: "seccomp=builtin", want: "SCMP_ACT_ERRNO"},
		"unconfined":              {option: "seccomp=unconfined", want: "none"},
		"custom":                  {option: "seccomp=" + custom, want: "SCMP_ACT_ALLOW"},
		"privileged":              {privileged: true, want: "none"},
		"privileged, but custom":  {privileged: true, option: "seccomp=" + custom, want: "SCMP_ACT_ALLOW"},
		"not JSON":                {option: "seccomp={", want: "Decoding seccomp profile failed"},
		"path instead of content": {option: "seccomp=/etc/profile.json", want: "Decoding seccomp profile failed"},
	} {
		t.Run(name, func(t *testing.T) {
			req := defaultRequest()
			req.HostConfig.Privileged = tc.privileged
			if tc.option != "" {
				req.HostConfig.SecurityOpt = []string{tc.option}
			}
			spec, err := allFacts(t).spec(req)
			got := "none"
			switch {
			case err != nil:
				got = err.Error()
			case spec.Linux.Seccomp != nil:
				got = string(spec.Linux.Seccomp.DefaultAction)
			}
			if !strings.HasPrefix(got, tc.want) {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestRuntime(t *testing.T) {
	if _, err := New(Config{BinDir: "bin", ExecRoot: "/run/x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a relative directory: %v", err)
	}
	d, err := New(Config{BinDir: "/opt/bin", ExecRoot: "/run/x"})
	if err != nil {
		t.Fatal(err)
	}
	name, options, err := d.Runtime(&mobycontainer.HostConfig{Runtime: "runc"})
	if err != nil || name != "/opt/bin/containerd-shim-runc-v2" || !strings.Contains(reflect.ValueOf(options).MethodByName("String").Call(nil)[0].String(), "/opt/bin/runc") {
		t.Errorf("%s, %v, %v", name, options, err)
	}
	if _, _, err := d.Runtime(&mobycontainer.HostConfig{Runtime: "/bin/sh"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("another program as runtime: %v", err)
	}
}

func FuzzParseList(f *testing.F) {
	for _, seed := range []string{"", "0", "0-3,7", "3-1", "-1", "0-99999", ","} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		set, err := parseList(list)
		if err == nil && len(set) > maxCPU+1 {
			t.Errorf("%q has %d members", list, len(set))
		}
	})
}

func FuzzSecurityOptions(f *testing.F) {
	for _, seed := range []string{"seccomp=unconfined", "label:x", "no-new-privileges=1", "=", ":"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, option string) {
		if _, err := parseSecurity([]string{option}); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", option, err)
		}
	})
}
