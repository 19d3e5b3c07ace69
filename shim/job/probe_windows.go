package job

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	procVirtualAllocEx   = kernel32.NewProc("VirtualAllocEx")
	procGetPriorityClass = kernel32.NewProc("GetPriorityClass")
)

// Probe finds out what this host can limit. What can be seen is tried: a process that never runs
// is put beyond the limit, and either that is refused or the limit is worth nothing. (Wine takes most
// limits, shows them when asked, and does nothing.) Of rates it can only be seen
// whether the kernel takes them.
func Probe() Backends {
	b := Backends{Memory: Guard, Processes: Guard, CPU: None, Priority: None, Network: None, IO: None}
	for _, probe := range []struct {
		backend *Backend
		works   func(*object) (bool, error)
	}{
		{&b.Memory, memoryWorks},
		{&b.Processes, processesWork},
		{&b.Priority, priorityWorks},
		{&b.CPU, takes(Limits{CPURate: fullCPU / 2})},
		{&b.Network, takes(Limits{NetworkRate: 1 << 30})},
		{&b.IO, takes(Limits{IOBandwidth: 1 << 30})},
	} {
		if works, err := inJob(probe.works); err == nil && works {
			*probe.backend = Kernel
		}
	}
	return b
}

// inJob gives a probe a job of its own, which ends afterwards.
func inJob(probe func(*object) (bool, error)) (works bool, err error) {
	job, err := newObject("")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, job.terminate(0), job.close()) }()
	return probe(job)
}

// takes reports whether the kernel takes a limit.
func takes(l Limits) func(*object) (bool, error) {
	return func(job *object) (bool, error) { return job.limit(l) == nil, nil }
}

// idle makes a process that never runs, and puts it into the job.
func idle(job *object) (windows.Handle, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	path, err := windows.UTF16PtrFromString(self)
	if err != nil {
		return 0, err
	}
	startup := windows.StartupInfo{Cb: uint32(unsafe.Sizeof(windows.StartupInfo{}))}
	var info windows.ProcessInformation
	const flags = windows.CREATE_SUSPENDED | windows.DETACHED_PROCESS
	if err := windows.CreateProcess(path, nil, nil, nil, false, flags, nil, nil, &startup, &info); err != nil {
		return 0, err
	}
	err = windows.CloseHandle(info.Thread)
	if assignErr := windows.AssignProcessToJobObject(job.handle, info.Process); assignErr != nil {
		return 0, errors.Join(err, assignErr, windows.TerminateProcess(info.Process, 0), windows.CloseHandle(info.Process))
	}
	return info.Process, err
}

func memoryWorks(job *object) (bool, error) {
	const limit = 64 << 20
	if err := job.setBasic(Limits{Memory: limit}); err != nil {
		return false, err
	}
	process, err := idle(job)
	if err != nil {
		return false, err
	}
	defer windows.CloseHandle(process) //nolint:errcheck // ended with the job
	got, _, _ := procVirtualAllocEx.Call(uintptr(process), 0, limit, windows.MEM_COMMIT|windows.MEM_RESERVE, windows.PAGE_READWRITE)
	return got == 0, nil
}

func processesWork(job *object) (bool, error) {
	if err := job.setBasic(Limits{Processes: 1}); err != nil {
		return false, err
	}
	first, err := idle(job)
	if err != nil {
		return false, err
	}
	defer windows.CloseHandle(first) //nolint:errcheck // ended with the job
	second, err := idle(job)
	if err != nil {
		return true, nil //nolint:nilerr // that is the limit
	}
	return false, windows.CloseHandle(second)
}

func priorityWorks(job *object) (bool, error) {
	below := priorities["below-normal"]
	if err := job.setBasic(Limits{Priority: below}); err != nil {
		return false, err
	}
	process, err := idle(job)
	if err != nil {
		return false, err
	}
	defer windows.CloseHandle(process) //nolint:errcheck // ended with the job
	// The process's own class, not what the job says.
	class, _, _ := procGetPriorityClass.Call(uintptr(process))
	return uint32(class) == below, nil //nolint:gosec // a class has 32 bits
}
