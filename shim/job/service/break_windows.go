package service

import (
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/windows"
)

// breakAction is the argument with which this program runs inside a container to send CTRL_BREAK: only a
// process at the same console can.
const breakAction = "ctrl-break"

var (
	kernel32          = windows.NewLazySystemDLL("kernel32.dll")
	procFreeConsole   = kernel32.NewProc("FreeConsole")
	procAttachConsole = kernel32.NewProc("AttachConsole")
)

// sendBreak sends CTRL_BREAK to the process group of pid, by way of its console. See Microsoft's
// "GenerateConsoleCtrlEvent function".
func sendBreak(pid uint32) error {
	// This process has no console of its own or one that nobody sees; and it must not end by its own signal.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	_, _, _ = procFreeConsole.Call() // fails where there is none
	if ok, _, err := procAttachConsole.Call(uintptr(pid)); ok == 0 {
		return fmt.Errorf("attaching to the console of process %d: %w", pid, err)
	}
	if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, pid); err != nil {
		return fmt.Errorf("sending CTRL_BREAK to process %d: %w", pid, err)
	}
	return nil
}

// deadline is the moment after so long.
func deadline(after time.Duration) time.Time { return time.Now().Add(after) }
