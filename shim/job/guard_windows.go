package job

import (
	"fmt"
	"log/slog"
	"unsafe"

	"golang.org/x/sys/windows"
)

// look returns what the processes use at the time. Those that end meanwhile are left out.
func look(pids []uint32) []usage {
	all := make([]usage, 0, len(pids))
	for _, pid := range pids {
		if u, ok := lookAt(pid); ok {
			all = append(all, u)
		}
	}
	return all
}

func lookAt(pid uint32) (usage, bool) {
	handle, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.PROCESS_VM_READ, false, pid)
	if err != nil {
		return usage{}, false
	}
	defer windows.CloseHandle(handle) //nolint:errcheck // a handle that was only asked
	u := usage{pid: pid}
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(handle, &created, &exited, &kernel, &user); err == nil {
		u.created = created.Nanoseconds()
	}
	var m memoryCounters
	m.size = uint32(unsafe.Sizeof(m))
	if ok, _, _ := procGetProcessMemoryInfo.Call(uintptr(handle), uintptr(unsafe.Pointer(&m)), unsafe.Sizeof(m)); ok != 0 {
		u.private, u.resident = uint64(max(m.private, m.pagefile)), uint64(m.workingSet)
	}
	return u, true
}

// guard looks at the container's processes and ends those that are beyond its limits.
func (c *Container) guard() error {
	limits := c.cfg.Limits
	if limits.Memory == 0 && limits.Processes == 0 {
		return nil
	}
	pids, err := c.inner.pids()
	if err != nil {
		return err
	}
	if limits.Processes > 0 && len(pids) > tooMany(limits.Processes) {
		c.cfg.Log.Warn("the container makes processes faster than they can be ended, and is ended", slog.Int("processes", len(pids)))
		return c.inner.terminate(ExitKilled)
	}
	all := look(pids)
	if used := memory(all); limits.Memory > 0 && used > limits.Memory {
		c.tellOutOfMemory()
		c.cfg.Log.Warn("the container is beyond its memory limit and is ended", slog.Uint64("used", used), slog.Uint64("limit", limits.Memory))
		return c.inner.terminate(ExitKilled)
	}
	for _, pid := range excess(all, limits.Processes, c.firstPID()) {
		if err := c.inner.endOne(pid); err != nil {
			return err
		}
	}
	return nil
}

// endOne terminates one process, if it is in the job.
func (o *object) endOne(pid uint32) error {
	handle, err := windows.OpenProcess(processTerminateAndQuery, false, pid)
	if err != nil {
		return nil // it has ended
	}
	defer windows.CloseHandle(handle) //nolint:errcheck // nothing to be done
	var within int32
	if ok, _, _ := procIsProcessInJob.Call(uintptr(handle), uintptr(o.handle), uintptr(unsafe.Pointer(&within))); ok == 0 || within == 0 {
		return nil // it has ended, and another process has its id
	}
	if err := windows.TerminateProcess(handle, ExitKilled); err != nil {
		if event, waitErr := windows.WaitForSingleObject(handle, 0); waitErr == nil && event == windows.WAIT_OBJECT_0 {
			return nil
		}
		return fmt.Errorf("terminating process %d, which is beyond the limit: %w", pid, err)
	}
	return nil
}

// tooMany is how many processes are so far beyond the limit that ending the newest is
// hopeless: a program that makes processes without end is as fast as the guard.
func tooMany(limit uint32) int { return 2*int(limit) + 8 }
