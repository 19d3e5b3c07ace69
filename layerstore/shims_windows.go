package layerstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Shim is the process of a shim that was started by this store, or by one before
// it with the same state directory.
type Shim struct {
	ID  string // of its task
	PID int
}

// Shims lists the shims that are running. containerd itself loses those that were
// started by a process that was killed before it had written down where they
// listen.
func (s *Store) Shims() ([]Shim, error) {
	snapshot, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return nil, fmt.Errorf("listing the processes: %w", err)
	}
	defer windows.CloseHandle(snapshot) //nolint:errcheck // a handle that was only asked
	var shims []Shim
	entry := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(snapshot, &entry); err == nil; err = windows.Process32Next(snapshot, &entry) {
		if !isShim(windows.UTF16ToString(entry.ExeFile[:])) {
			continue
		}
		if id := s.shimOf(entry.ProcessID); id != "" {
			shims = append(shims, Shim{ID: id, PID: int(entry.ProcessID)})
		}
	}
	if !errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		return nil, fmt.Errorf("listing the processes: %w", err)
	}
	return shims, nil
}

func isShim(program string) bool {
	return strings.HasPrefix(strings.ToLower(program), "containerd-shim-")
}

// shimOf returns the task of the process, or "" if it is no shim of this store, or none
// that can be asked.
func (s *Store) shimOf(pid uint32) string {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.PROCESS_VM_READ, false, pid)
	if err != nil {
		return ""
	}
	defer windows.CloseHandle(process) //nolint:errcheck // a handle that was only asked
	return s.shimID(process)
}

// shimID returns the task of an open process, or "" if it is no shim of this store.
func (s *Store) shimID(process windows.Handle) string {
	line, err := commandLine(process)
	if err != nil {
		return "" // it is ending
	}
	args, err := windows.DecomposeCommandLine(line)
	if err != nil || argument(args, "-namespace") != Namespace || argument(args, "-address") != s.address {
		return ""
	}
	return argument(args, "-id")
}

// argument returns what follows name among args.
func argument(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// commandLine reads the command line of a process where Microsoft's "PEB structure" says it is: the
// call that would return it came with Windows 8.1, and Wine 8 does not have it.
func commandLine(process windows.Handle) (string, error) {
	var (
		basic      windows.PROCESS_BASIC_INFORMATION
		block      windows.PEB
		parameters windows.RTL_USER_PROCESS_PARAMETERS
	)
	err := windows.NtQueryInformationProcess(process, windows.ProcessBasicInformation, unsafe.Pointer(&basic), uint32(unsafe.Sizeof(basic)), nil)
	if err != nil {
		return "", err
	}
	if err := readMemory(process, uintptr(unsafe.Pointer(basic.PebBaseAddress)), &block); err != nil {
		return "", err
	}
	if err := readMemory(process, uintptr(unsafe.Pointer(block.ProcessParameters)), &parameters); err != nil {
		return "", err
	}
	length := parameters.CommandLine.Length // in bytes
	if length < 2 {
		return "", nil
	}
	text := make([]uint16, length/2)
	from := uintptr(unsafe.Pointer(parameters.CommandLine.Buffer))
	if err := windows.ReadProcessMemory(process, from, (*byte)(unsafe.Pointer(&text[0])), uintptr(len(text))*2, nil); err != nil {
		return "", err
	}
	return windows.UTF16ToString(text), nil
}

func readMemory[T any](process windows.Handle, from uintptr, to *T) error {
	return windows.ReadProcessMemory(process, from, (*byte)(unsafe.Pointer(to)), unsafe.Sizeof(*to), nil)
}

// KillShim ends a shim, and with it its container; it is no error if it has ended by itself.
func (s *Store) KillShim(shim Shim) error {
	const access = windows.PROCESS_QUERY_LIMITED_INFORMATION | windows.PROCESS_VM_READ | windows.PROCESS_TERMINATE | windows.SYNCHRONIZE
	process, err := windows.OpenProcess(access, false, uint32(shim.PID)) //nolint:gosec // process ids have 32 bits
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("shim of %s: %w", shim.ID, err)
	}
	defer windows.CloseHandle(process) //nolint:errcheck // nothing to be done
	// With the handle open the id is not used again.
	if s.shimID(process) != shim.ID {
		return nil
	}
	if err := windows.TerminateProcess(process, 1); err != nil {
		if event, waitErr := windows.WaitForSingleObject(process, 0); waitErr == nil && event == windows.WAIT_OBJECT_0 {
			return nil
		}
		return fmt.Errorf("ending the shim of %s: %w", shim.ID, err)
	}
	return nil
}
