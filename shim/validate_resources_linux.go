package shim

import (
	"runtime"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// minMemory leaves room for the runtime's own start in the container's group.
const minMemory = 6 << 20

// validateResources checks the limits, drops what the kernel cannot enforce,
// and returns Docker's warnings about that.
func (f *facts) validateResources(r *mobycontainer.Resources) (warnings []string, err error) {
	warn := func(text string) { warnings = append(warnings, text) }
	for _, check := range []func(*mobycontainer.Resources, func(string)) error{
		f.validateMemory, f.validateOOMAndPids, f.validateCPU, f.validateCpuset, f.validateBlockIO,
	} {
		if err := check(r, warn); err != nil {
			return warnings, err
		}
	}
	return warnings, validateUlimits(r.Ulimits)
}

func (f *facts) validateMemory(r *mobycontainer.Resources, warn func(string)) error {
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 {
		r.MemorySwappiness = nil // the command line's way to say nothing
	}
	if r.Memory != 0 && r.Memory < minMemory {
		return invalid("Minimum memory limit allowed is 6MB")
	}
	if r.Memory > 0 && !f.memory {
		warn("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !f.swap {
		warn("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	if r.MemorySwap < -1 {
		return invalid("Invalid memory swap limit %d: use -1 for unlimited swap", r.MemorySwap)
	}
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	if r.MemorySwappiness != nil && !f.swappiness {
		warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if s := r.MemorySwappiness; s != nil && (*s < 0 || *s > 100) {
		return invalid("Invalid value: %v, valid memory swappiness range is 0-100", *s)
	}
	if r.MemoryReservation > 0 && !f.reservation {
		warn("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	if r.MemoryReservation != 0 && r.MemoryReservation < minMemory {
		return invalid("Minimum memory reservation allowed is 6MB")
	}
	if r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation {
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return nil
}

func (f *facts) validateOOMAndPids(r *mobycontainer.Resources, warn func(string)) error {
	if r.OomKillDisable != nil && !f.oomKillDisable {
		if *r.OomKillDisable {
			warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		}
		r.OomKillDisable = nil
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	if r.PidsLimit != nil && !f.pids {
		if *r.PidsLimit > 0 {
			warn("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		}
		r.PidsLimit = nil
	}
	return nil
}

func (f *facts) validateCPU(r *mobycontainer.Resources, warn func(string)) error {
	if r.NanoCPUs > 0 && r.CPUPeriod > 0 {
		return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	}
	if r.NanoCPUs > 0 && r.CPUQuota > 0 {
		return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	}
	if r.NanoCPUs > 0 && !f.cpuCFS {
		return invalid("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	}
	if n := runtime.NumCPU(); r.NanoCPUs < 0 || r.NanoCPUs > int64(n)*1e9 {
		return invalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", n)
	}
	if r.CPUShares < 0 {
		return invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	if r.CPUShares > 0 && !f.cpuShares {
		warn("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	if (r.CPUPeriod != 0 || r.CPUQuota != 0) && !f.cpuCFS {
		warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	if r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000) {
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	}
	if r.CPUQuota > 0 && r.CPUQuota < 1000 {
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if r.CPUPercent > 0 {
		warn("linux does not support CPU percent. Percent discarded.")
		r.CPUPercent = 0
	}
	if r.CPUCount > 0 {
		warn("linux does not support CPU count. Count discarded.")
		r.CPUCount = 0
	}
	return nil
}

func (f *facts) validateCpuset(r *mobycontainer.Resources, warn func(string)) error {
	if (r.CpusetCpus != "" || r.CpusetMems != "") && !f.cpuset {
		warn("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
	}
	if ok, err := covers(f.cpus, r.CpusetCpus); err != nil {
		return invalid("Invalid value %s for cpuset cpus: %s", r.CpusetCpus, err)
	} else if !ok {
		return invalid("Requested CPUs are not available - requested %s, available: %s", r.CpusetCpus, f.cpus)
	}
	if ok, err := covers(f.mems, r.CpusetMems); err != nil {
		return invalid("Invalid value %s for cpuset mems: %s", r.CpusetMems, err)
	} else if !ok {
		return invalid("Requested memory nodes are not available - requested %s, available: %s", r.CpusetMems, f.mems)
	}
	return nil
}

func (f *facts) validateBlockIO(r *mobycontainer.Resources, warn func(string)) error {
	if r.BlkioWeight > 0 && !f.blkioWeight {
		warn("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return invalid("Range of blkio weight is from 10 to 1000")
	}
	if r.IOMaximumBandwidth != 0 || r.IOMaximumIOps != 0 {
		return invalid("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps")
	}
	if len(r.BlkioWeightDevice) > 0 && !f.blkioWeightDevice {
		warn("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = nil
	}
	if len(r.BlkioDeviceReadBps) > 0 && !f.readBps {
		warn("Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.")
		r.BlkioDeviceReadBps = nil
	}
	if len(r.BlkioDeviceWriteBps) > 0 && !f.writeBps {
		warn("Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.")
		r.BlkioDeviceWriteBps = nil
	}
	if len(r.BlkioDeviceReadIOps) > 0 && !f.readIOps {
		warn("Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.")
		r.BlkioDeviceReadIOps = nil
	}
	if len(r.BlkioDeviceWriteIOps) > 0 && !f.writeIOps {
		warn("Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.")
		r.BlkioDeviceWriteIOps = nil
	}
	return nil
}

func validateUlimits(limits []*mobycontainer.Ulimit) error {
	for _, limit := range limits {
		if limit == nil {
			return invalid("invalid ulimit: null")
		}
		if !rlimitNames[limit.Name] {
			return invalid("invalid ulimit type: %s", limit.Name)
		}
		if err := orderedLimit(limit.Soft, limit.Hard); err != nil {
			return err
		}
	}
	return nil
}

// orderedLimit refuses a soft limit above the hard one; -1 is unlimited.
func orderedLimit(soft, hard int64) error {
	switch {
	case soft < -1 || hard < -1:
		return invalid("invalid ulimit argument: %d:%d", soft, hard)
	case hard == -1:
		return nil
	case soft == -1:
		return invalid("ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: %d", hard)
	case soft > hard:
		return invalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", soft, hard)
	default:
		return nil
	}
}

// rlimitNames are Docker's names of the limits that a container may set.
var rlimitNames = map[string]bool{
	"core": true, "cpu": true, "data": true, "fsize": true, "locks": true, "memlock": true, "msgqueue": true, "nice": true,
	"nofile": true, "nproc": true, "rss": true, "rtprio": true, "rttime": true, "sigpending": true, "stack": true,
}
