package service

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"unsafe"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/windows"

	"slipway/shim/job"
)

// consoleAction is the argument with which this program runs inside a container to make a pseudo console
// and run the real program at it: width, height, path and command line follow. The pseudo console's host is a
// process that the system starts for the one that asks, so that is done where it has to stay.
//
// Its standard input and output are the terminal's bytes. Its standard error is for reading: sizes, as
// two big-endian numbers of 16 bits, width and height.
const consoleAction = "console"

const (
	defaultWidth, defaultHeight = 80, 24
	sizeMessage                 = 4
	// consoleFailed is the exit code if the console or the program could not be made.
	consoleFailed = 126
)

// withConsole returns the program that runs p at a terminal.
func withConsole(container *job.Container, p job.Program, size *specs.Box) (job.Program, error) {
	if kernel32.NewProc("CreatePseudoConsole").Find() != nil {
		return p, fmt.Errorf("a terminal (--tty) needs Windows Server 2019, Windows 10 1809 or later: %w", errdefs.ErrNotImplemented)
	}
	path, commandLine, err := container.Resolve(p)
	if err != nil {
		return p, err
	}
	self, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("the shim's own path: %w", err)
	}
	width, height := uint(defaultWidth), uint(defaultHeight)
	if size != nil && size.Width > 0 && size.Height > 0 {
		width, height = size.Width, size.Height
	}
	p.CommandLine = ""
	p.Args = []string{self, consoleAction, strconv.FormatUint(uint64(width), 10), strconv.FormatUint(uint64(height), 10), path, commandLine}
	return p, nil
}

// writeSize tells a console's process its terminal's size.
func writeSize(to io.Writer, width, height uint32) error {
	var message [sizeMessage]byte
	binary.BigEndian.PutUint16(message[:], uint16(min(width, 0x7fff)))
	binary.BigEndian.PutUint16(message[2:], uint16(min(height, 0x7fff)))
	_, err := to.Write(message[:])
	return err
}

// runConsole is the console's process. It returns the program's exit code.
func runConsole(args []string) (uint32, error) {
	if len(args) != 4 {
		return consoleFailed, fmt.Errorf("%s width height path command-line: %w", consoleAction, errdefs.ErrInvalidArgument)
	}
	width, err1 := strconv.ParseInt(args[0], 10, 16)
	height, err2 := strconv.ParseInt(args[1], 10, 16)
	if err := errors.Join(err1, err2); err != nil {
		return consoleFailed, err
	}
	toConsole, input, err1 := os.Pipe()
	output, fromConsole, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		return consoleFailed, err
	}
	var console windows.Handle
	size := windows.Coord{X: int16(width), Y: int16(height)}
	if err := windows.CreatePseudoConsole(size, windows.Handle(toConsole.Fd()), windows.Handle(fromConsole.Fd()), 0, &console); err != nil {
		return consoleFailed, fmt.Errorf("making a pseudo console: %w", err)
	}
	process, err := atConsole(console, args[2], args[3])
	if err != nil {
		windows.ClosePseudoConsole(console)
		return consoleFailed, err
	}
	_, _ = toConsole.Close(), fromConsole.Close()
	copied := make(chan struct{})
	go func() { defer close(copied); _, _ = io.Copy(os.Stdout, output) }()
	go func() { _, _ = io.Copy(input, os.Stdin) }()
	go resizeAsTold(console)
	code, err := waitFor(process)
	// What is on the screen is written out meanwhile.
	windows.ClosePseudoConsole(console)
	<-copied
	return code, err
}

// atConsole starts a program at a pseudo console.
func atConsole(console windows.Handle, path, commandLine string) (windows.Handle, error) {
	attributes, err := windows.NewProcThreadAttributeList(1)
	if err != nil {
		return 0, err
	}
	defer attributes.Delete()
	// Not a pointer to the handle but the handle itself, as in Microsoft's "Creating a Pseudoconsole session".
	if err := attributes.Update(windows.PROC_THREAD_ATTRIBUTE_PSEUDOCONSOLE, *(*unsafe.Pointer)(unsafe.Pointer(&console)), unsafe.Sizeof(console)); err != nil {
		return 0, err
	}
	path16, err1 := windows.UTF16PtrFromString(path)
	line16, err2 := windows.UTF16PtrFromString(commandLine)
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	startup := windows.StartupInfoEx{ProcThreadAttributeList: attributes.List()}
	startup.Cb = uint32(unsafe.Sizeof(startup))
	// With no handles said, the program would get this process's, which are no console.
	startup.Flags = windows.STARTF_USESTDHANDLES
	var info windows.ProcessInformation
	if err := windows.CreateProcess(path16, line16, nil, nil, false, windows.EXTENDED_STARTUPINFO_PRESENT, nil, nil, &startup.StartupInfo, &info); err != nil {
		return 0, fmt.Errorf("starting %s: %w", path, err)
	}
	return info.Process, windows.CloseHandle(info.Thread)
}

func resizeAsTold(console windows.Handle) {
	var message [sizeMessage]byte
	for {
		if _, err := io.ReadFull(os.Stderr, message[:]); err != nil {
			return
		}
		size := windows.Coord{X: int16(binary.BigEndian.Uint16(message[:])), Y: int16(binary.BigEndian.Uint16(message[2:]))} //nolint:gosec // bounded by the sender
		_ = windows.ResizePseudoConsole(console, size)                                                                       // the old size stays
	}
}

func waitFor(process windows.Handle) (code uint32, err error) {
	if _, err := windows.WaitForSingleObject(process, windows.INFINITE); err != nil {
		return consoleFailed, err
	}
	err = windows.GetExitCodeProcess(process, &code)
	return code, err
}
