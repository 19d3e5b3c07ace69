package job

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Program says what to run in a container.
type Program struct {
	// Args is the program and its arguments. They are quoted as Microsoft's C
	// library reads them.
	Args []string
	// CommandLine is used as it is instead of Args, unless it is empty.
	CommandLine string
	// Env is the whole environment, from [Environment].
	Env []string
	// Dir is the working directory as a path of the container, made if it is missing. Empty: the root.
	Dir string
	// Stdin, Stdout and Stderr are what the program inherits. Nil is nothing: reading ends at
	// once, writing vanishes.
	Stdin, Stdout, Stderr *os.File
}

// Process is a process of a container that this package made.
type Process struct {
	// PID is the process's id on the host.
	PID uint32

	handle windows.Handle
	thread windows.Handle // until started

	mu     sync.Mutex
	exited chan struct{}
	code   uint32
	at     time.Time
}

// Start lets the process run. Starting it again does nothing.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.thread == 0 {
		return nil
	}
	if _, err := windows.ResumeThread(p.thread); err != nil {
		return fmt.Errorf("starting process %d: %w", p.PID, err)
	}
	err := windows.CloseHandle(p.thread)
	p.thread = 0
	return err
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Exit returns the exit code and when the process ended; valid once Exited is closed.
func (p *Process) Exit() (code uint32, at time.Time) {
	<-p.exited
	return p.code, p.at
}

// Kill ends this process alone, with an exit code. It is no error if it has ended.
func (p *Process) Kill(code uint32) error {
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := windows.TerminateProcess(p.handle, code); err != nil && !p.hasEnded() {
		return fmt.Errorf("terminating process %d: %w", p.PID, err)
	}
	return nil
}

func (p *Process) hasEnded() bool {
	event, err := windows.WaitForSingleObject(p.handle, 0)
	return err == nil && event == windows.WAIT_OBJECT_0
}

// watch waits for the end of the process and says it. It holds a thread meanwhile.
func (p *Process) watch() {
	_, err := windows.WaitForSingleObject(p.handle, windows.INFINITE)
	p.at = time.Now()
	if err == nil {
		err = windows.GetExitCodeProcess(p.handle, &p.code)
	}
	if err != nil {
		p.code = 255
	}
	close(p.exited)
}

// close lets go of the handles. The process's id may be another's from then on.
func (p *Process) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.thread != 0 {
		err = windows.CloseHandle(p.thread)
	}
	p.thread = 0
	return errors.Join(err, windows.CloseHandle(p.handle))
}

// spawner makes processes in a container.
type spawner struct {
	jobs         []windows.Handle // outer first
	token        windows.Token
	capabilities *securityCapabilities // or nil
	// otherAccount says that the token is not of the shim's account, which may not use the shim's desktop.
	otherAccount bool
}

// spawn makes a suspended process within all jobs. Nothing is inherited by it but its
// three standard handles.
func (s *spawner) spawn(path, commandLine, dir string, p Program) (*Process, error) {
	std, err := inheritable(p)
	if err != nil {
		return nil, err
	}
	defer std.close()
	startup := windows.StartupInfoEx{}
	startup.Cb = uint32(unsafe.Sizeof(startup))
	startup.Flags = windows.STARTF_USESTDHANDLES
	startup.StdInput, startup.StdOutput, startup.StdErr = std.handles[0], std.handles[1], std.handles[2]
	if s.otherAccount {
		// The empty name has the system find or make one for the account.
		startup.Desktop = new(uint16)
	}
	attributes, err := s.attributes(std)
	if err != nil {
		return nil, err
	}
	defer attributes.Delete()
	startup.ProcThreadAttributeList = attributes.List()
	return s.create(path, commandLine, dir, p.Env, &startup)
}

// attributes are the jobs, the handles and the AppContainer of a new process.
func (s *spawner) attributes(std *stdHandles) (*windows.ProcThreadAttributeListContainer, error) {
	list, err := windows.NewProcThreadAttributeList(3)
	if err != nil {
		return nil, fmt.Errorf("attributes of the process: %w", err)
	}
	inherited := std.handles[:]
	err = errors.Join(
		list.Update(windows.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, unsafe.Pointer(&inherited[0]), uintptr(len(inherited))*unsafe.Sizeof(inherited[0])),
		list.Update(attributeJobList, unsafe.Pointer(&s.jobs[0]), uintptr(len(s.jobs))*unsafe.Sizeof(s.jobs[0])),
	)
	if s.capabilities != nil {
		err = errors.Join(err, list.Update(attributeSecurityCaps, unsafe.Pointer(s.capabilities), unsafe.Sizeof(*s.capabilities)))
	}
	if err != nil {
		list.Delete()
		return nil, fmt.Errorf("attributes of the process: %w", err)
	}
	return list, nil
}

func (s *spawner) create(path, commandLine, dir string, env []string, startup *windows.StartupInfoEx) (*Process, error) {
	path16, err1 := windows.UTF16PtrFromString(path)
	line16, err2 := windows.UTF16PtrFromString(commandLine)
	dir16, err3 := windows.UTF16PtrFromString(dir)
	env16, err4 := block(env)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("program %q: %w", path, err)
	}
	// A console of its own without a window, so that it can get CTRL_BREAK, and nobody else then.
	const flags = windows.CREATE_SUSPENDED | windows.CREATE_UNICODE_ENVIRONMENT | windows.EXTENDED_STARTUPINFO_PRESENT |
		windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP
	var info windows.ProcessInformation
	err := windows.CreateProcessAsUser(s.token, path16, line16, nil, nil, true, flags, env16, dir16, &startup.StartupInfo, &info)
	if err != nil {
		return nil, startError(path, err)
	}
	p := &Process{PID: info.ProcessId, handle: info.Process, thread: info.Thread, exited: make(chan struct{})}
	if err := s.checkJobs(p); err != nil {
		return nil, errors.Join(err, windows.TerminateProcess(p.handle, 1), p.close())
	}
	go p.watch()
	return p, nil
}

// checkJobs makes sure that the process, which does not run yet, is where it has to be.
func (s *spawner) checkJobs(p *Process) error {
	for _, job := range s.jobs {
		var within int32
		if ok, _, err := procIsProcessInJob.Call(uintptr(p.handle), uintptr(job), uintptr(unsafe.Pointer(&within))); ok == 0 {
			return fmt.Errorf("asking for the job of process %d: %w", p.PID, err)
		}
		if within != 0 {
			continue
		}
		// Systems before Windows 10 do not know the attribute.
		if err := windows.AssignProcessToJobObject(job, p.handle); err != nil {
			return fmt.Errorf("putting process %d into the container's job: %w", p.PID, err)
		}
	}
	return nil
}

// block returns env as CreateProcess takes it.
func block(env []string) (*uint16, error) {
	var out []uint16
	for _, entry := range env {
		entry16, err := windows.UTF16FromString(entry)
		if err != nil {
			return nil, fmt.Errorf("variable %q: %w", entry, err)
		}
		out = append(out, entry16...)
	}
	if len(env) == 0 {
		out = append(out, 0)
	}
	out = append(out, 0)
	return &out[0], nil
}

// stdHandles are inheritable copies of a program's standard handles.
type stdHandles struct{ handles [3]windows.Handle }

func inheritable(p Program) (_ *stdHandles, err error) {
	std := &stdHandles{}
	defer func() {
		if err != nil {
			std.close()
		}
	}()
	self := windows.CurrentProcess()
	for i, file := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
		if file == nil {
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				return nil, fmt.Errorf("standard handles: %w", err)
			}
			defer null.Close()
			file = null
		}
		if err := windows.DuplicateHandle(self, windows.Handle(file.Fd()), self, &std.handles[i], 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
			return nil, fmt.Errorf("standard handles: %w", err)
		}
	}
	return std, nil
}

func (s *stdHandles) close() {
	for _, h := range s.handles {
		if h != 0 {
			_ = windows.CloseHandle(h)
		}
	}
}
