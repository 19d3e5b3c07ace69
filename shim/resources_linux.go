package shim

import (
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setResources fills the limits that cgroups enforce.
func setResources(spec *specs.Spec, host *mobycontainer.HostConfig) (err error) {
	spec.Linux.Resources, err = resources(&host.Resources)
	return err
}

func resources(r *mobycontainer.Resources) (*specs.LinuxResources, error) {
	blockIO, err := blockIO(r)
	if err != nil {
		return nil, err
	}
	limits := &specs.LinuxResources{Memory: memory(r), CPU: cpu(r), BlockIO: blockIO}
	if limit := r.PidsLimit; limit != nil {
		n := *limit
		if n <= 0 {
			n = -1
		}
		limits.Pids = &specs.LinuxPids{Limit: &n}
	}
	return limits, nil
}

func memory(r *mobycontainer.Resources) *specs.LinuxMemory {
	m := specs.LinuxMemory{
		Limit:       positive(r.Memory),
		Reservation: positive(r.MemoryReservation),
		Swap:        positive(r.MemorySwap),
	}
	if r.MemorySwappiness != nil {
		n := uint64(*r.MemorySwappiness) //nolint:gosec // validated: 0 to 100
		m.Swappiness = &n
	}
	if r.OomKillDisable != nil {
		disable := *r.OomKillDisable
		m.DisableOOMKiller = &disable
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func positive(n int64) *int64 {
	if n <= 0 {
		return nil
	}
	return &n
}

func cpu(r *mobycontainer.Resources) *specs.LinuxCPU {
	c := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares > 0 {
		n := uint64(r.CPUShares)
		c.Shares = &n
	}
	if r.NanoCPUs > 0 {
		period := uint64(100 * time.Millisecond / time.Microsecond)
		quota := r.NanoCPUs * int64(period) / 1e9
		c.Period, c.Quota = &period, &quota
	}
	if r.CPUPeriod > 0 {
		n := uint64(r.CPUPeriod)
		c.Period = &n
	}
	if r.CPUQuota != 0 {
		n := r.CPUQuota
		c.Quota = &n
	}
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

func blockIO(r *mobycontainer.Resources) (*specs.LinuxBlockIO, error) {
	var b specs.LinuxBlockIO
	if r.BlkioWeight != 0 {
		weight := r.BlkioWeight
		b.Weight = &weight
	}
	for _, device := range r.BlkioWeightDevice {
		major, minor, err := deviceNumber(device.Path)
		if err != nil {
			return nil, err
		}
		weight := device.Weight
		d := specs.LinuxWeightDevice{Weight: &weight}
		d.Major, d.Minor = major, minor
		b.WeightDevice = append(b.WeightDevice, d)
	}
	for _, list := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice},
		{r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice},
		{r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, device := range list.from {
			major, minor, err := deviceNumber(device.Path)
			if err != nil {
				return nil, err
			}
			d := specs.LinuxThrottleDevice{Rate: device.Rate}
			d.Major, d.Minor = major, minor
			*list.to = append(*list.to, d)
		}
	}
	if b.Weight == nil && b.WeightDevice == nil && b.ThrottleReadBpsDevice == nil && b.ThrottleWriteBpsDevice == nil &&
		b.ThrottleReadIOPSDevice == nil && b.ThrottleWriteIOPSDevice == nil {
		return nil, nil
	}
	return &b, nil
}

func deviceNumber(path string) (major, minor int64, err error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("stat %s: %s", path, err))
	}
	return int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev)), nil
}

// rlimits joins the container's limits with the daemon's defaults, which they
// override by name.
func rlimits(own, defaults []*mobycontainer.Ulimit) []specs.POSIXRlimit {
	var limits []specs.POSIXRlimit
	seen := map[string]struct{}{}
	for _, list := range [][]*mobycontainer.Ulimit{own, defaults} {
		for _, limit := range list {
			if _, known := seen[limit.Name]; known {
				continue
			}
			seen[limit.Name] = struct{}{}
			limits = append(limits, specs.POSIXRlimit{
				Type: "RLIMIT_" + strings.ToUpper(limit.Name),
				Soft: uint64(limit.Soft), //nolint:gosec // -1 is RLIM_INFINITY
				Hard: uint64(limit.Hard), //nolint:gosec // as above
			})
		}
	}
	return limits
}
