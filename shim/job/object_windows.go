package job

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// object is a job object. Its methods are safe for concurrent use, except for close.
type object struct{ handle windows.Handle }

// onlySystem is the security descriptor of named jobs: for the system and administrators.
const onlySystem = "D:P(A;;GA;;;SY)(A;;GA;;;BA)"

// newObject makes a job; of that name if it is not empty, which must be free.
func newObject(name string) (*object, error) {
	if name == "" {
		handle, err := windows.CreateJobObject(nil, nil)
		if err != nil {
			return nil, fmt.Errorf("making a job: %w", err)
		}
		return &object{handle}, nil
	}
	descriptor, err := windows.SecurityDescriptorFromString(onlySystem)
	if err != nil {
		return nil, fmt.Errorf("the descriptor of jobs: %w", err)
	}
	attributes := windows.SecurityAttributes{SecurityDescriptor: descriptor}
	attributes.Length = uint32(unsafe.Sizeof(attributes))
	name16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, fmt.Errorf("job %q: %w", name, err)
	}
	// windows.CreateJobObject does not tell whether it has made or only opened it.
	made, _, err := procCreateJobObject.Call(uintptr(unsafe.Pointer(&attributes)), uintptr(unsafe.Pointer(name16)))
	switch {
	case made == 0:
		return nil, fmt.Errorf("making job %s: %w", name, err)
	case errors.Is(err, windows.ERROR_ALREADY_EXISTS):
		// Somebody's job: a container that still runs, or a squatter's.
		return nil, errors.Join(fmt.Errorf("there is a job %s already: %w", name, errdefs.ErrAlreadyExists), windows.CloseHandle(windows.Handle(made)))
	}
	return &object{windows.Handle(made)}, nil
}

// openObject opens the job of that name. One that is not there is errdefs.ErrNotFound.
func openObject(name string) (*object, error) {
	name16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, fmt.Errorf("job %q: %w", name, err)
	}
	const inherit = 0
	handle, _, err := procOpenJobObject.Call(jobAllAccess, inherit, uintptr(unsafe.Pointer(name16)))
	if handle == 0 {
		if errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
			return nil, fmt.Errorf("job %s: %w", name, errdefs.ErrNotFound)
		}
		return nil, fmt.Errorf("opening job %s: %w", name, err)
	}
	return &object{windows.Handle(handle)}, nil
}

func (o *object) close() error { return windows.CloseHandle(o.handle) }

// terminate ends every process of the job with an exit code.
func (o *object) terminate(code uint32) error {
	if err := windows.TerminateJobObject(o.handle, code); err != nil {
		return fmt.Errorf("terminating the job: %w", err)
	}
	return nil
}

// pids returns the ids of the processes in the job. Some may have ended meanwhile.
func (o *object) pids() ([]uint32, error) {
	for room := 64; ; room *= 2 {
		// JOBOBJECT_BASIC_PROCESS_ID_LIST: two counters of 32 bits, then ids of pointer size.
		list := make([]uintptr, 1+room)
		err := windows.QueryInformationJobObject(o.handle, windows.JobObjectBasicProcessIdList,
			uintptr(unsafe.Pointer(&list[0])), uint32(len(list))*uint32(unsafe.Sizeof(list[0])), nil) //nolint:gosec // a short list
		assigned, listed := uint32(list[0]), uint32(list[0]>>32) //nolint:gosec // the two halves
		if errors.Is(err, windows.ERROR_MORE_DATA) || err == nil && listed < assigned {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing the job's processes: %w", err)
		}
		pids := make([]uint32, listed)
		for i := range pids {
			pids[i] = uint32(list[1+i]) //nolint:gosec // process ids have 32 bits
		}
		return pids, nil
	}
}

// accounting returns the job's counters.
func (o *object) accounting() (basicAndIO, error) {
	var info basicAndIO
	if err := jobInformation(o.handle, windows.JobObjectBasicAndIoAccountingInformation, &info); err == nil {
		return info, nil
	}
	// Wine has no counters of input and output.
	if err := jobInformation(o.handle, windows.JobObjectBasicAccountingInformation, &info.basic); err != nil {
		return info, fmt.Errorf("reading the job's counters: %w", err)
	}
	return info, nil
}

// killOnClose makes the last handle's end the end of the job's processes.
func (o *object) killOnClose() error {
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if err := setJobInformation(o.handle, windows.JobObjectExtendedLimitInformation, &info); err != nil {
		return fmt.Errorf("making the job end with its handle: %w", err)
	}
	return nil
}

// report makes the job send messages to port.
func (o *object) report(port windows.Handle) error {
	info := completionPort{key: 1, port: port}
	if err := setJobInformation(o.handle, windows.JobObjectAssociateCompletionPortInformation, &info); err != nil {
		return fmt.Errorf("connecting the job to its completion port: %w", err)
	}
	return nil
}

// Terminate ends the processes of the job of that name. A job that is not there, or is empty, is
// errdefs.ErrNotFound.
func Terminate(name string, code uint32) error {
	o, err := openObject(name)
	if err != nil {
		return err
	}
	defer o.close()
	info, err := o.accounting()
	if err != nil {
		return err
	}
	if info.basic.active == 0 {
		return fmt.Errorf("job %s is empty: %w", name, errdefs.ErrNotFound)
	}
	return o.terminate(code)
}
