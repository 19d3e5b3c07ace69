package container

import (
	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// fromV1 puts the metrics of a group of version 1 where Docker has them.
func fromV1(stats *mobycontainer.StatsResponse, metrics *cgroup1.Metrics) {
	if io := metrics.Blkio; io != nil {
		stats.BlkioStats = mobycontainer.BlkioStats{
			IoServiceBytesRecursive: blkioEntries(io.IoServiceBytesRecursive),
			IoServicedRecursive:     blkioEntries(io.IoServicedRecursive),
			IoQueuedRecursive:       blkioEntries(io.IoQueuedRecursive),
			IoServiceTimeRecursive:  blkioEntries(io.IoServiceTimeRecursive),
			IoWaitTimeRecursive:     blkioEntries(io.IoWaitTimeRecursive),
			IoMergedRecursive:       blkioEntries(io.IoMergedRecursive),
			IoTimeRecursive:         blkioEntries(io.IoTimeRecursive),
			SectorsRecursive:        blkioEntries(io.SectorsRecursive),
		}
	}
	if usage := metrics.CPU.GetUsage(); usage != nil {
		stats.CPUStats.CPUUsage = mobycontainer.CPUUsage{
			TotalUsage: usage.Total, PercpuUsage: usage.PerCPU, UsageInKernelmode: usage.Kernel, UsageInUsermode: usage.User,
		}
	}
	if throttling := metrics.CPU.GetThrottling(); throttling != nil {
		stats.CPUStats.ThrottlingData = mobycontainer.ThrottlingData{
			Periods: throttling.Periods, ThrottledPeriods: throttling.ThrottledPeriods, ThrottledTime: throttling.ThrottledTime,
		}
	}
	if usage := metrics.Memory.GetUsage(); usage != nil {
		stats.MemoryStats.Usage, stats.MemoryStats.MaxUsage = usage.Usage, usage.Max
		stats.MemoryStats.Limit, stats.MemoryStats.Failcnt = usage.Limit, usage.Failcnt
	}
	if metrics.Memory != nil {
		stats.MemoryStats.Stats = memoryV1(metrics.Memory)
	}
	if pids := metrics.Pids; pids != nil {
		stats.PidsStats = mobycontainer.PidsStats{Current: pids.Current, Limit: pids.Limit}
	}
}

func blkioEntries(entries []*cgroup1.BlkIOEntry) []mobycontainer.BlkioStatEntry {
	out := make([]mobycontainer.BlkioStatEntry, len(entries))
	for i, e := range entries {
		out[i] = mobycontainer.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value}
	}
	return out
}

// memoryV1 has the kernel's names of memory.stat.
func memoryV1(m *cgroup1.MemoryStat) map[string]uint64 {
	return map[string]uint64{
		"cache": m.Cache, "rss": m.RSS, "rss_huge": m.RSSHuge, "mapped_file": m.MappedFile,
		"dirty": m.Dirty, "writeback": m.Writeback,
		"pgpgin": m.PgPgIn, "pgpgout": m.PgPgOut, "pgfault": m.PgFault, "pgmajfault": m.PgMajFault,
		"inactive_anon": m.InactiveAnon, "active_anon": m.ActiveAnon,
		"inactive_file": m.InactiveFile, "active_file": m.ActiveFile, "unevictable": m.Unevictable,
		"hierarchical_memory_limit": m.HierarchicalMemoryLimit, "hierarchical_memsw_limit": m.HierarchicalSwapLimit,
		"total_cache": m.TotalCache, "total_rss": m.TotalRSS, "total_rss_huge": m.TotalRSSHuge, "total_mapped_file": m.TotalMappedFile,
		"total_dirty": m.TotalDirty, "total_writeback": m.TotalWriteback,
		"total_pgpgin": m.TotalPgPgIn, "total_pgpgout": m.TotalPgPgOut, "total_pgfault": m.TotalPgFault, "total_pgmajfault": m.TotalPgMajFault,
		"total_inactive_anon": m.TotalInactiveAnon, "total_active_anon": m.TotalActiveAnon,
		"total_inactive_file": m.TotalInactiveFile, "total_active_file": m.TotalActiveFile, "total_unevictable": m.TotalUnevictable,
	}
}

// fromV2 puts the metrics of a group of version 2 where Docker has them. Times are
// in microseconds there.
func fromV2(stats *mobycontainer.StatsResponse, metrics *cgroup2.Metrics) {
	const microsecond = 1000
	for _, e := range metrics.Io.GetUsage() {
		stats.BlkioStats.IoServiceBytesRecursive = append(stats.BlkioStats.IoServiceBytesRecursive,
			mobycontainer.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: "read", Value: e.Rbytes},
			mobycontainer.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: "write", Value: e.Wbytes})
	}
	if cpu := metrics.CPU; cpu != nil {
		stats.CPUStats.CPUUsage = mobycontainer.CPUUsage{
			TotalUsage: cpu.UsageUsec * microsecond, UsageInKernelmode: cpu.SystemUsec * microsecond, UsageInUsermode: cpu.UserUsec * microsecond,
		}
		stats.CPUStats.ThrottlingData = mobycontainer.ThrottlingData{
			Periods: cpu.NrPeriods, ThrottledPeriods: cpu.NrThrottled, ThrottledTime: cpu.ThrottledUsec * microsecond,
		}
	}
	if memory := metrics.Memory; memory != nil {
		stats.MemoryStats = mobycontainer.MemoryStats{
			Usage: memory.Usage, Limit: memory.UsageLimit, Failcnt: metrics.MemoryEvents.GetOom(), Stats: memoryV2(memory),
		}
	}
	if pids := metrics.Pids; pids != nil {
		stats.PidsStats = mobycontainer.PidsStats{Current: pids.Current, Limit: pids.Limit}
	}
}

// memoryV2 has the kernel's names of memory.stat.
func memoryV2(m *cgroup2.MemoryStat) map[string]uint64 {
	return map[string]uint64{
		"anon": m.Anon, "file": m.File, "kernel_stack": m.KernelStack, "slab": m.Slab, "sock": m.Sock, "shmem": m.Shmem,
		"file_mapped": m.FileMapped, "file_dirty": m.FileDirty, "file_writeback": m.FileWriteback, "anon_thp": m.AnonThp,
		"inactive_anon": m.InactiveAnon, "active_anon": m.ActiveAnon, "inactive_file": m.InactiveFile, "active_file": m.ActiveFile,
		"unevictable": m.Unevictable, "slab_reclaimable": m.SlabReclaimable, "slab_unreclaimable": m.SlabUnreclaimable,
		"pgfault": m.Pgfault, "pgmajfault": m.Pgmajfault,
		"workingset_refault": m.WorkingsetRefault, "workingset_activate": m.WorkingsetActivate, "workingset_nodereclaim": m.WorkingsetNodereclaim,
		"pgrefill": m.Pgrefill, "pgscan": m.Pgscan, "pgsteal": m.Pgsteal, "pgactivate": m.Pgactivate, "pgdeactivate": m.Pgdeactivate,
		"pglazyfree": m.Pglazyfree, "pglazyfreed": m.Pglazyfreed, "thp_fault_alloc": m.ThpFaultAlloc, "thp_collapse_alloc": m.ThpCollapseAlloc,
	}
}
