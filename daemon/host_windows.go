package daemon

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/windows"
)

func readHost() hostFacts {
	v := windows.RtlGetVersion()
	return hostFacts{
		kernel: fmt.Sprintf("%d.%d %d", v.MajorVersion, v.MinorVersion, v.BuildNumber),
		os:     "Windows", osVersion: fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber), arch: runtime.GOARCH,
	}
}
