package container

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	mobycontainer "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// measure fills in what the run uses now.
func (r *run) measure(ctx context.Context, rec *Record, stats *mobycontainer.StatsResponse) error {
	metric, err := r.task.Metrics(ctx)
	if err != nil {
		return err
	}
	stats.Read = time.Now()
	metrics, err := typeurl.UnmarshalAny(metric.Data)
	if err != nil {
		return err
	}
	switch metrics := metrics.(type) {
	case *cgroup1.Metrics:
		fromV1(stats, metrics)
	case *cgroup2.Metrics:
		fromV2(stats, metrics)
	default:
		return fmt.Errorf("unknown metrics %T: %w", metrics, errdefs.ErrInternal)
	}
	// A group without a limit has the largest number.
	if limit, err := machineMemory(); err == nil {
		stats.MemoryStats.Limit = min(stats.MemoryStats.Limit, limit)
	}
	if stats.CPUStats.SystemUsage, stats.CPUStats.OnlineCPUs, err = hostCPU(); err != nil {
		return err
	}
	if rec.HostConfig.NetworkMode.IsHost() {
		return nil // the host's interfaces are none of the container's
	}
	stats.Networks, err = interfaces(r)
	return err
}

// interfaces are the counters of the interfaces in the run's network namespace.
func interfaces(r *run) (map[string]mobycontainer.NetworkStats, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", r.task.Pid()))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseInterfaces(f)
}

// parseInterfaces reads /proc/net/dev without the loopback.
func parseInterfaces(file io.Reader) (map[string]mobycontainer.NetworkStats, error) {
	var found map[string]mobycontainer.NetworkStats
	for lines := bufio.NewScanner(file); ; {
		if !lines.Scan() {
			return found, lines.Err()
		}
		name, counters, ok := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(counters)
		name = strings.TrimSpace(name)
		if !ok || name == "lo" || len(fields) < 12 {
			continue // also the titles
		}
		var stats mobycontainer.NetworkStats
		for at, counter := range map[int]*uint64{
			0: &stats.RxBytes, 1: &stats.RxPackets, 2: &stats.RxErrors, 3: &stats.RxDropped,
			8: &stats.TxBytes, 9: &stats.TxPackets, 10: &stats.TxErrors, 11: &stats.TxDropped,
		} {
			n, err := strconv.ParseUint(fields[at], 10, 64)
			if err != nil {
				return nil, err
			}
			*counter = n
		}
		if found == nil {
			found = map[string]mobycontainer.NetworkStats{}
		}
		found[name] = stats
	}
}

// hostCPU is the time that all processors have spent since the host's start, in
// nanoseconds, and how many of them there are.
func hostCPU() (nanoseconds uint64, online uint32, err error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	return parseHostCPU(f)
}

const (
	// tick is the unit of /proc/stat, the same on all of Linux's platforms.
	tick = uint64(time.Second / 100)
	// cpuTimes are user, nice, system, idle, iowait, irq and softirq; the times of
	// guests are in those of users.
	cpuTimes = 7
)

func parseHostCPU(file io.Reader) (nanoseconds uint64, online uint32, err error) {
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) <= cpuTimes || !strings.HasPrefix(fields[0], "cpu"):
		case fields[0] != "cpu":
			online++
		default:
			for _, field := range fields[1 : 1+cpuTimes] {
				n, err := strconv.ParseUint(field, 10, 64)
				if err != nil {
					return 0, 0, fmt.Errorf("/proc/stat: %w", err)
				}
				nanoseconds += n * tick
			}
		}
	}
	if err := lines.Err(); err != nil {
		return 0, 0, err
	}
	if online == 0 {
		return 0, 0, errors.New("/proc/stat has no processors")
	}
	return nanoseconds, online, nil
}

var machineMemory = sync.OnceValues(func() (uint64, error) {
	var info unix.Sysinfo_t
	err := unix.Sysinfo(&info)
	return info.Totalram * uint64(info.Unit), err
})
