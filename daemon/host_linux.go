package daemon

import (
	"bufio"
	"bytes"
	"os"
	"strings"

	"slipway/internal/version"

	"github.com/containerd/cgroups/v3"
	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"
)

func readHost() hostFacts {
	h := hostFacts{os: "Linux", security: []string{"name=seccomp,profile=builtin"}}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		h.kernel, h.arch = unix.ByteSliceToString(uts.Release[:]), unix.ByteSliceToString(uts.Machine[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.memory = int64(info.Totalram) * int64(info.Unit) //nolint:gosec // bytes of memory fit
	}
	if data, err := os.ReadFile("/etc/os-release"); err == nil {
		fields := osRelease(data)
		h.os, h.osVersion = fields["PRETTY_NAME"], fields["VERSION_ID"]
	}
	if data, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err == nil {
		h.forwarding = strings.TrimSpace(string(data)) == "1"
	}
	if data, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil && strings.HasPrefix(string(data), "Y") {
		h.security = append([]string{"name=apparmor"}, h.security...)
	}
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	if cgroups.Mode() == cgroups.Unified {
		h.security = append(h.security, "name=cgroupns")
		controllers, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers") // none can be read: none can limit
		has := func(name string) bool {
			return strings.Contains(" "+strings.TrimSpace(string(controllers))+" ", " "+name+" ")
		}
		h.limits = hostLimits{memory: has("memory"), swap: has("memory"), cpu: has("cpu"), cpuset: has("cpuset"), pids: has("pids")}
		return h
	}
	const root = "/sys/fs/cgroup/"
	h.limits = hostLimits{
		memory: exists(root + "memory"), swap: exists(root + "memory/memory.memsw.limit_in_bytes"), cpu: exists(root + "cpu/cpu.cfs_quota_us"),
		cpuset: exists(root + "cpuset"), pids: exists(root + "pids"), oomKillDisable: exists(root + "memory/memory.oom_control"),
	}
	return h
}

// describeSystem adds what the engine is made of on this system.
func describeSystem(info *system.Info) {
	info.CgroupDriver, info.CgroupVersion = "cgroupfs", "1"
	if cgroups.Mode() == cgroups.Unified {
		info.CgroupVersion = "2"
	}
	info.Plugins.Network = []string{"bridge", "host", "null"}
	runc := system.RuntimeWithStatus{Runtime: system.Runtime{Path: "runc"}}
	info.Runtimes = map[string]system.RuntimeWithStatus{"runc": runc, "io.containerd.runc.v2": runc}
	info.DefaultRuntime, info.RuncCommit = "runc", system.Commit{ID: version.Runc}
	info.InitBinary, info.InitCommit = "slipway-init", system.Commit{ID: version.Version()}
	info.FirewallBackend = &system.FirewallInfo{Driver: "nftables"}
}

func osRelease(data []byte) map[string]string {
	fields := map[string]string{}
	for scanner := bufio.NewScanner(bytes.NewReader(data)); scanner.Scan(); {
		if key, value, ok := strings.Cut(scanner.Text(), "="); ok {
			fields[key] = strings.Trim(value, `"'`)
		}
	}
	return fields
}
