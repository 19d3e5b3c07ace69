// Command slipway-init is the first process of containers that were asked for
// one (docker run --init): it starts the container's program, passes signals on
// to it, reaps the orphans that the kernel gives it, and ends with the
// program's exit code.
//
// Usage: slipway-init [-- ] PROGRAM [ARGUMENT ...]
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "slipway-init: a program is needed")
		os.Exit(2)
	}
	code, err := run(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "slipway-init:", err)
	}
	os.Exit(code)
}

// The exit codes of a program that cannot be started are a shell's.
const (
	notExecutable = 126
	notFound      = 127
)

func run(args []string) (int, error) {
	signals := make(chan os.Signal, 128)
	signal.Notify(signals) // all that can be caught, before the program could be missed
	path, err := exec.LookPath(args[0])
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return notFound, err
		}
		return notExecutable, err
	}
	// The program leads a process group of its own, which gets the terminal, so
	// that the keys of the terminal reach it and not this process as well.
	tty := isTerminal()
	program, err := os.StartProcess(path, args, &os.ProcAttr{ //nolint:gosec // to start what it is told is its purpose
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Env:   os.Environ(),
		Sys:   &syscall.SysProcAttr{Setpgid: true, Foreground: tty, Ctty: int(os.Stdin.Fd())},
	})
	if err != nil {
		return notExecutable, err
	}
	for s := range signals {
		number, ok := s.(syscall.Signal)
		switch {
		case !ok, number == unix.SIGURG: // the Go runtime's own
		case number == unix.SIGCHLD:
			if code, ended := reap(program.Pid); ended {
				return code, nil
			}
		case number == unix.SIGTTIN, number == unix.SIGTTOU: // for this process only
		default:
			_ = unix.Kill(program.Pid, number) // it may be ending at this moment
		}
	}
	return 0, nil
}

func isTerminal() bool {
	_, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS)
	return err == nil
}

// reap collects all children that have ended, and reports the exit code of the
// program if it is among them.
func reap(program int) (code int, ended bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid == 0 {
			return code, ended
		}
		if pid != program {
			continue
		}
		ended = true
		code = status.ExitStatus()
		if status.Signaled() {
			code = 128 + int(status.Signal())
		}
	}
}
