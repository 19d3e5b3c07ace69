package job

import (
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// uiLimits keep the processes of a job from the desktop of others: no log-off, no
// settings, no clipboard, no other desktop.
const uiLimits = windows.JOB_OBJECT_UILIMIT_EXITWINDOWS | windows.JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS |
	windows.JOB_OBJECT_UILIMIT_DISPLAYSETTINGS | windows.JOB_OBJECT_UILIMIT_DESKTOP | windows.JOB_OBJECT_UILIMIT_GLOBALATOMS |
	windows.JOB_OBJECT_UILIMIT_READCLIPBOARD | windows.JOB_OBJECT_UILIMIT_WRITECLIPBOARD

// limit gives the job its limits. What the guard does as well may fail here; anything else
// that the system does not take is errdefs.ErrNotImplemented.
func (o *object) limit(l Limits) error {
	if err := o.setBasic(l); err != nil {
		return err
	}
	ui := windows.JOBOBJECT_BASIC_UI_RESTRICTIONS{UIRestrictionsClass: uiLimits}
	if err := setJobInformation(o.handle, windows.JobObjectBasicUIRestrictions, &ui); err != nil {
		return fmt.Errorf("keeping the job from the desktop: %w", err)
	}
	if err := o.setCPU(l); err != nil {
		return err
	}
	if l.NetworkRate > 0 {
		rate := netRate{maxBandwidth: l.NetworkRate, flags: netRateEnable | netRateMaxBandwidth}
		if err := setJobInformation(o.handle, windows.JobObjectNetRateControlInformation, &rate); err != nil {
			return unavailable("an outgoing network rate", NetworkRateAnnotation, err)
		}
	}
	if l.IOBandwidth > 0 || l.IORate > 0 {
		return o.setIORate(l)
	}
	return nil
}

// unavailable says that this system has no backend for a limit.
func unavailable(what, option string, err error) error {
	return fmt.Errorf("this Windows cannot limit %s (%s): %w: %w", what, option, err, errdefs.ErrNotImplemented)
}

// setBasic sets what JOBOBJECT_EXTENDED_LIMIT_INFORMATION has. No flag lets a process
// break away.
func (o *object) setBasic(l Limits) error {
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	basic := &info.BasicLimitInformation
	// A crash ends the program instead of asking nobody at a dialog box.
	basic.LimitFlags = windows.JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION
	if l.Processes > 0 {
		basic.LimitFlags |= windows.JOB_OBJECT_LIMIT_ACTIVE_PROCESS
		basic.ActiveProcessLimit = l.Processes
	}
	if l.Priority > 0 {
		basic.LimitFlags |= windows.JOB_OBJECT_LIMIT_PRIORITY_CLASS
		basic.PriorityClass = l.Priority
	}
	if l.Memory > 0 {
		info.BasicLimitInformation.LimitFlags |= windows.JOB_OBJECT_LIMIT_JOB_MEMORY
		info.JobMemoryLimit = uintptr(l.Memory)
	}
	if err := setJobInformation(o.handle, windows.JobObjectExtendedLimitInformation, &info); err != nil {
		return fmt.Errorf("setting the job's limits: %w", err)
	}
	return nil
}

func (o *object) setCPU(l Limits) error {
	var rate cpuRate
	switch {
	case l.CPURate > 0:
		rate = cpuRate{flags: cpuRateEnable | cpuRateHardCap, value: l.CPURate}
	case l.CPUWeight > 0:
		rate = cpuRate{flags: cpuRateEnable | cpuRateWeightBased, value: l.CPUWeight}
	default:
		return nil
	}
	if err := setJobInformation(o.handle, windows.JobObjectCpuRateControlInformation, &rate); err != nil {
		return unavailable("processor time", "--cpus, --cpu-percent, --cpu-count and --cpu-shares", err)
	}
	return nil
}

// setIORate limits disk I/O, which has a function of its own that only some versions have
// (Microsoft's "SetIoRateControlInformationJobObject function").
func (o *object) setIORate(l Limits) error {
	const option = "--io-maxbandwidth and --io-maxiops"
	proc := kernel32.NewProc("SetIoRateControlInformationJobObject")
	if err := proc.Find(); err != nil {
		return unavailable("disk input and output", option, err)
	}
	info := ioRate{maxIOps: int64(l.IORate), maxBandwidth: int64(l.IOBandwidth), controlFlags: 1} //nolint:gosec // checked by the engine
	if ok, _, err := proc.Call(uintptr(o.handle), uintptr(info.pointer())); ok == 0 {
		return unavailable("disk input and output", option, err)
	}
	return nil
}
