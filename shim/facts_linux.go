package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/seccomp"
	"github.com/moby/sys/mountinfo"
)

const cgroupRoot = "/sys/fs/cgroup"

// facts is what the running kernel can do.
type facts struct {
	unified bool // cgroup v2 alone

	memory, swap, reservation, swappiness, oomKillDisable bool
	cpuShares, cpuCFS, cpuset, pids                       bool
	blkioWeight, blkioWeightDevice                        bool
	readBps, writeBps, readIOps, writeIOps                bool

	cpus, mems string // the cpuset lists that are there

	seccomp, appArmor        bool
	cgroupNamespaces, timeNS bool
	knownCaps, availableCaps []string // those that have a name; those that the daemon itself has
}

// kernel returns the facts, which are found once: they cannot change while the
// kernel runs.
var kernel = sync.OnceValues(func() (*facts, error) {
	available, err := cap.Current()
	if err != nil {
		return nil, fmt.Errorf("finding the available capabilities: %w", err)
	}
	f := &facts{
		unified:          cgroups.Mode() == cgroups.Unified,
		seccomp:          seccomp.IsEnabled(),
		appArmor:         appArmorEnabled(),
		cgroupNamespaces: exists("/proc/self/ns/cgroup"),
		timeNS:           exists("/proc/self/ns/time"),
		knownCaps:        cap.Known(),
		availableCaps:    available,
	}
	if f.unified {
		return f, f.readV2()
	}
	return f, f.readV1()
})

func (f *facts) readV2() error {
	list, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("finding the cgroup controllers: %w", err)
	}
	for controller := range strings.FieldsSeq(string(list)) {
		switch controller {
		case "memory":
			f.memory, f.reservation = true, true
			f.swap = swapLimitV2()
		case "cpu":
			f.cpuShares, f.cpuCFS = true, true
		case "io":
			f.blkioWeight, f.blkioWeightDevice = true, true
			f.readBps, f.writeBps, f.readIOps, f.writeIOps = true, true, true, true
		case "cpuset":
			f.cpuset = true
			f.cpus = readLine(filepath.Join(cgroupRoot, "cpuset.cpus.effective"))
			f.mems = readLine(filepath.Join(cgroupRoot, "cpuset.mems.effective"))
		case "pids":
			f.pids = true
		}
	}
	return nil
}

// swapLimitV2 looks at the daemon's own group, because the root group has no
// such file.
func swapLimitV2() bool {
	_, group, err := cgroups.ParseCgroupFileUnified("/proc/self/cgroup")
	return err == nil && group != "" && exists(filepath.Join(cgroupRoot, group, "memory.swap.max"))
}

func (f *facts) readV1() error {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return fmt.Errorf("finding the cgroup controllers: %w", err)
	}
	at := map[string]string{}
	for _, m := range mounts {
		for controller := range strings.SplitSeq(m.VFSOptions, ",") {
			if _, seen := at[controller]; !seen {
				at[controller] = m.Mountpoint
			}
		}
	}
	has := func(controller, file string) bool {
		dir, ok := at[controller]
		return ok && exists(filepath.Join(dir, file))
	}
	f.memory = at["memory"] != ""
	f.swap = has("memory", "memory.memsw.limit_in_bytes")
	f.reservation = has("memory", "memory.soft_limit_in_bytes")
	f.swappiness = has("memory", "memory.swappiness")
	f.oomKillDisable = has("memory", "memory.oom_control")
	f.cpuShares = has("cpu", "cpu.shares")
	f.cpuCFS = has("cpu", "cpu.cfs_quota_us")
	f.blkioWeight = has("blkio", "blkio.weight")
	f.blkioWeightDevice = has("blkio", "blkio.weight_device")
	f.readBps = has("blkio", "blkio.throttle.read_bps_device")
	f.writeBps = has("blkio", "blkio.throttle.write_bps_device")
	f.readIOps = has("blkio", "blkio.throttle.read_iops_device")
	f.writeIOps = has("blkio", "blkio.throttle.write_iops_device")
	f.pids = at["pids"] != ""
	if dir := at["cpuset"]; dir != "" {
		f.cpuset = true
		f.cpus = readLine(filepath.Join(dir, "cpuset.cpus"))
		f.mems = readLine(filepath.Join(dir, "cpuset.mems"))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func readLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "" // not there: nothing is available, which the caller refuses
	}
	return strings.TrimSpace(string(data))
}

// maxCPU bounds a requested list, so that "0-9999999999" does not take all memory.
const maxCPU = 8192

var errListFormat = errors.New("invalid format")

// parseList reads a list such as "0-2,7" of CPUs or memory nodes.
func parseList(list string) (map[int]struct{}, error) {
	set := map[int]struct{}{}
	if list == "" {
		return set, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", errListFormat, list)
		}
		to, err := strconv.ParseUint(last, 10, 31)
		if err != nil || to < from {
			return nil, fmt.Errorf("%w: %s", errListFormat, list)
		}
		if to > maxCPU {
			return nil, fmt.Errorf("value of out range, maximum is %d", maxCPU)
		}
		for n := from; n <= to; n++ {
			set[int(n)] = struct{}{}
		}
	}
	return set, nil
}

// covers reports whether every member of the list requested is in available.
func covers(available, requested string) (bool, error) {
	want, err := parseList(requested)
	if err != nil || len(want) == 0 {
		return true, err
	}
	have, err := parseList(available)
	if err != nil {
		return false, err
	}
	for n := range want {
		if _, ok := have[n]; !ok {
			return false, nil
		}
	}
	return true, nil
}
