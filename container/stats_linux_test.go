package container

import (
	"strings"
	"testing"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"
)

func TestParseInterfaces(t *testing.T) {
	got, err := parseInterfaces(strings.NewReader(`Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     500       5    0    0    0     0          0         0      500       5    0    0    0     0       0          0
  eth0:    1006      11    1    2    0     0          0         0     1280      15    3    4    0     0       0          0
eth1:7 0 0 0 0 0 0 0 8 0 0 0 0 0 0 0
`))
	want := map[string]mobycontainer.NetworkStats{
		"eth0": {RxBytes: 1006, RxPackets: 11, RxErrors: 1, RxDropped: 2, TxBytes: 1280, TxPackets: 15, TxErrors: 3, TxDropped: 4},
		"eth1": {RxBytes: 7, TxBytes: 8},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, err := parseInterfaces(strings.NewReader("lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n")); got != nil || err != nil {
		t.Errorf("loopback alone: %v, %v", got, err)
	}
}

func TestParseHostCPU(t *testing.T) {
	got, online, err := parseHostCPU(strings.NewReader("cpu  1 2 3 4 5 6 7 1000 1000 0\ncpu0 1 1 1 1 1 1 1 0 0 0\ncpu1 0 1 2 3 4 5 6 0 0 0\nintr 1 2 3 4 5 6 7 8 9\n"))
	if err != nil || got != 28*10_000_000 || online != 2 {
		t.Errorf("%d ns, %d processors, %v", got, online, err)
	}
	if _, _, err := parseHostCPU(strings.NewReader("intr 1\n")); err == nil {
		t.Error("no processors are no error")
	}
}

// TestMetrics: what the client computes its columns of is there for both versions
// of control groups.
func TestMetrics(t *testing.T) {
	var v1, v2 mobycontainer.StatsResponse
	fromV1(&v1, &cgroup1.Metrics{
		CPU:    &cgroup1.CPUStat{Usage: &cgroup1.CPUUsage{Total: 5000, Kernel: 2000, User: 3000, PerCPU: []uint64{1000, 4000}}, Throttling: &cgroup1.Throttle{Periods: 3, ThrottledPeriods: 2, ThrottledTime: 1000}},
		Memory: &cgroup1.MemoryStat{Usage: &cgroup1.MemoryEntry{Usage: 100, Max: 200, Limit: 300, Failcnt: 4}, TotalInactiveFile: 7, HierarchicalSwapLimit: 8, PgPgIn: 9},
		Pids:   &cgroup1.PidsStat{Current: 2, Limit: 10},
		Blkio:  &cgroup1.BlkIOStat{IoServiceBytesRecursive: []*cgroup1.BlkIOEntry{{Op: "Read", Major: 8, Value: 512}}},
	})
	fromV2(&v2, &cgroup2.Metrics{
		CPU:          &cgroup2.CPUStat{UsageUsec: 5, SystemUsec: 2, UserUsec: 3, NrPeriods: 3, NrThrottled: 2, ThrottledUsec: 1},
		Memory:       &cgroup2.MemoryStat{Usage: 100, UsageLimit: 300, InactiveFile: 7, Anon: 9},
		MemoryEvents: &cgroup2.MemoryEvents{Oom: 4},
		Pids:         &cgroup2.PidsStat{Current: 2, Limit: 10},
		Io:           &cgroup2.IOStat{Usage: []*cgroup2.IOEntry{{Major: 8, Rbytes: 512, Wbytes: 1024}}},
	})
	if v1.MemoryStats.Stats["total_inactive_file"] != 7 || v1.MemoryStats.Stats["hierarchical_memsw_limit"] != 8 || v1.MemoryStats.Stats["pgpgin"] != 9 || v1.MemoryStats.MaxUsage != 200 {
		t.Errorf("version 1: %+v", v1.MemoryStats)
	}
	if v2.MemoryStats.Stats["inactive_file"] != 7 || v2.MemoryStats.Stats["anon"] != 9 {
		t.Errorf("version 2: %+v", v2.MemoryStats)
	}
	v1.CPUStats.CPUUsage.PercpuUsage, v1.MemoryStats.MaxUsage = nil, 0 // version 2 has none
	v1.MemoryStats.Stats, v2.MemoryStats.Stats = nil, nil
	wantIO := []mobycontainer.BlkioStatEntry{{Major: 8, Op: "read", Value: 512}, {Major: 8, Op: "write", Value: 1024}}
	if diff := cmp.Diff(wantIO, v2.BlkioStats.IoServiceBytesRecursive); diff != "" {
		t.Error(diff)
	}
	if io := v1.BlkioStats.IoServiceBytesRecursive; len(io) != 1 || io[0].Op != "Read" || io[0].Value != 512 {
		t.Errorf("version 1: %+v", io)
	}
	v1.BlkioStats, v2.BlkioStats = mobycontainer.BlkioStats{}, mobycontainer.BlkioStats{}
	if diff := cmp.Diff(v1, v2); diff != "" {
		t.Errorf("version 1 (-), version 2 (+):\n%s", diff)
	}
	// A controller may be missing.
	fromV1(&v1, &cgroup1.Metrics{})
	fromV2(&v2, &cgroup2.Metrics{})
}
