package job

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	kernel32 = windows.NewLazySystemDLL("kernel32.dll")
	advapi32 = windows.NewLazySystemDLL("advapi32.dll")
	ntdll    = windows.NewLazySystemDLL("ntdll.dll")

	procCreateJobObject      = kernel32.NewProc("CreateJobObjectW")
	procOpenJobObject        = kernel32.NewProc("OpenJobObjectW")
	procIsProcessInJob       = kernel32.NewProc("IsProcessInJob")
	procGetProcessMemoryInfo = kernel32.NewProc("K32GetProcessMemoryInfo")
	procCreateRestricted     = advapi32.NewProc("CreateRestrictedToken")
	procNtSuspendProcess     = ntdll.NewProc("NtSuspendProcess")
	procNtResumeProcess      = ntdll.NewProc("NtResumeProcess")
)

// Values of winbase.h and winnt.h that golang.org/x/sys/windows does not have.
const (
	jobAllAccess               = 0x1f001f
	attributeJobList           = 0x2000d // PROC_THREAD_ATTRIBUTE_JOB_LIST
	attributeSecurityCaps      = 0x20009 // PROC_THREAD_ATTRIBUTE_SECURITY_CAPABILITIES
	messageNewProcess          = 6       // JOB_OBJECT_MSG_NEW_PROCESS
	messageActiveProcessZero   = 4       // JOB_OBJECT_MSG_ACTIVE_PROCESS_ZERO
	messageJobMemoryLimit      = 10      // JOB_OBJECT_MSG_JOB_MEMORY_LIMIT
	netRateEnable              = 1       // JOB_OBJECT_NET_RATE_CONTROL_ENABLE
	netRateMaxBandwidth        = 2       // JOB_OBJECT_NET_RATE_CONTROL_MAX_BANDWIDTH
	cpuRateEnable              = 1       // JOB_OBJECT_CPU_RATE_CONTROL_ENABLE
	cpuRateWeightBased         = 2       // JOB_OBJECT_CPU_RATE_CONTROL_WEIGHT_BASED
	cpuRateHardCap             = 4       // JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP
	disableMaxPrivilege        = 1       // DISABLE_MAX_PRIVILEGE
	tokenIntegrityMediumRID    = 0x2000  // SECURITY_MANDATORY_MEDIUM_RID
	completionWaitInfinite     = 0xffffffff
	processTerminateAndQuery   = windows.PROCESS_TERMINATE | windows.PROCESS_QUERY_INFORMATION | windows.SYNCHRONIZE
	processSuspendAndResume    = windows.PROCESS_SUSPEND_RESUME | windows.PROCESS_QUERY_LIMITED_INFORMATION | windows.SYNCHRONIZE
	reservedForExitOfFirst     = ^uint32(0) // our own message: the first process has ended
	reservedForEndOfTheWatcher = reservedForExitOfFirst - 1
)

// cpuRate is JOBOBJECT_CPU_RATE_CONTROL_INFORMATION.
type cpuRate struct{ flags, value uint32 }

// netRate is JOBOBJECT_NET_RATE_CONTROL_INFORMATION.
type netRate struct {
	maxBandwidth uint64
	flags        uint32
	_            byte // the packets' DSCP tag
}

// completionPort is JOBOBJECT_ASSOCIATE_COMPLETION_PORT.
type completionPort struct {
	key  uintptr
	port windows.Handle
}

// basicAccounting is JOBOBJECT_BASIC_ACCOUNTING_INFORMATION. Times are in 100 ns.
type basicAccounting struct {
	userTime, kernelTime int64
	_, _                 int64  // the same of this period
	_                    uint32 // page faults
	_, active, _         uint32 // processes ever, now, ended at a limit
}

// ioCounters is IO_COUNTERS.
type ioCounters struct {
	readOperations, writeOperations, _ uint64
	readBytes, writeBytes, _           uint64
}

// basicAndIO is JOBOBJECT_BASIC_AND_IO_ACCOUNTING_INFORMATION.
type basicAndIO struct {
	basic basicAccounting
	io    ioCounters
}

// memoryCounters is PROCESS_MEMORY_COUNTERS_EX.
type memoryCounters struct {
	size, pageFaults               uint32
	peakWorkingSet, workingSet     uintptr
	quotaPeakPaged, quotaPaged     uintptr
	quotaPeakNonPaged, quotaNonPag uintptr
	pagefile, peakPagefile         uintptr
	private                        uintptr
}

func setJobInformation[T any](job windows.Handle, class uint32, info *T) error {
	_, err := windows.SetInformationJobObject(job, class, uintptr(unsafe.Pointer(info)), uint32(unsafe.Sizeof(*info))) //nolint:gosec // a small structure
	return err
}

func jobInformation[T any](job windows.Handle, class int32, info *T) error {
	return windows.QueryInformationJobObject(job, class, uintptr(unsafe.Pointer(info)), uint32(unsafe.Sizeof(*info)), nil) //nolint:gosec // a small structure
}

// ntCall calls a function that returns an NTSTATUS.
func ntCall(proc *windows.LazyProc, args ...uintptr) error {
	if err := proc.Find(); err != nil {
		return err
	}
	if status, _, _ := proc.Call(args...); int32(status) < 0 { //nolint:gosec // a status has 32 bits
		return windows.NTStatus(status) //nolint:gosec // as above
	}
	return nil
}

// ioRate is JOBOBJECT_IO_RATE_CONTROL_INFORMATION. No volume named is all.
type ioRate struct {
	maxIOps, maxBandwidth, reservationIOps int64
	volumeName                             *uint16
	baseIOSize, controlFlags               uint32
}

func (r *ioRate) pointer() unsafe.Pointer { return unsafe.Pointer(r) }
