package daemon

import (
	"fmt"
	"runtime"
	"unsafe"

	"slipway/shim"
	"slipway/shim/job"

	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

func readHost() hostFacts {
	v := windows.RtlGetVersion()
	by := shim.Backends()
	return hostFacts{
		kernel: fmt.Sprintf("%d.%d %d", v.MajorVersion, v.MinorVersion, v.BuildNumber), os: productName(),
		osVersion: fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber), arch: runtime.GOARCH, memory: memory(),
		limits: hostLimits{memory: by.Memory != job.None, cpu: by.CPU != job.None, pids: by.Processes != job.None},
	}
}

// describeSystem adds what the engine is made of on this system. Which limits are
// enforced, and by what, stands with the storage driver: Docker has no place for it.
func describeSystem(info *system.Info) {
	info.Plugins.Network = []string{"nat", "null"}
	info.Isolation = "job"
	info.Runtimes = map[string]system.RuntimeWithStatus{shim.JobName: {Runtime: system.Runtime{Path: shim.JobName}}}
	info.DefaultRuntime = shim.JobName
	info.DriverStatus = append(info.DriverStatus, [2]string{"Job limits", shim.Backends().String()})
}

// productName is how Windows calls itself, "Windows" if it does not say.
func productName() string {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `SOFTWARE\Microsoft\Windows NT\CurrentVersion`, registry.QUERY_VALUE)
	if err != nil {
		return "Windows"
	}
	defer key.Close()
	name, _, err := key.GetStringValue("ProductName")
	if err != nil {
		return "Windows"
	}
	return name
}

// memoryStatus is MEMORYSTATUSEX of Microsoft's documentation.
type memoryStatus struct {
	length, load                                                              uint32
	totalPhys, availPhys, totalPage, availPage, totalVirtual, availVirtual, _ uint64
}

// memory is how much the machine has, in bytes; 0 if that cannot be found out.
func memory() int64 {
	status := memoryStatus{length: uint32(unsafe.Sizeof(memoryStatus{}))}
	ok, _, _ := windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalMemoryStatusEx").Call(uintptr(unsafe.Pointer(&status)))
	if ok == 0 {
		return 0
	}
	return int64(status.totalPhys) //nolint:gosec // bytes of memory fit
}
