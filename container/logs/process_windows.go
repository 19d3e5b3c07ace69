package logs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/windows"

	"slipway/container/logs/wire"
	"slipway/internal/sharedfile"
)

// process is the keeper that this daemon has started, if it has. It is used by one goroutine at a time.
type process struct {
	started *os.Process // nil: none, or it has ended
}

// ensure starts a keeper unless the last one that was started still runs.
func (p *process) ensure(cfg Config) error {
	if p.started != nil && running(p.started) {
		return nil
	}
	if p.started != nil {
		_ = p.started.Release()
		p.started = nil
	}
	// Shared, so that an administrator can rename it.
	out, err := sharedfile.Open(filepath.Join(cfg.ExecRoot, "logger.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	// It outlives the daemon: no console, whose end would be its own, and not in the daemon's job, unless that lets
	// nobody out; then it ends with the job and the next daemon starts another.
	const flags = windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP
	for _, breakaway := range []uint32{windows.CREATE_BREAKAWAY_FROM_JOB, 0} {
		cmd := exec.Command(filepath.Join(cfg.BinDir, "slipway-logger.exe"), "--exec-root", cfg.ExecRoot) //nolint:noctx // our own program, not bound to a context
		cmd.Dir = cfg.ExecRoot
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: flags | breakaway, HideWindow: true}
		err = cmd.Start()
		if err == nil {
			p.started = cmd.Process
			return nil
		}
		if !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return err
		}
	}
	return err
}

// running reports whether a process has not ended.
func running(p *os.Process) bool {
	alive := false
	err := p.WithHandle(func(handle uintptr) {
		event, err := windows.WaitForSingleObject(windows.Handle(handle), 0)
		alive = err == nil && event == uint32(windows.WAIT_TIMEOUT)
	})
	return err == nil && alive
}

// anchor is of no use on Windows: what is in a pipe lasts as long as the shim, which keeps it until the log keeper has
// stored it (package relay).
type anchor struct{}

func openAnchors(...string) ([]anchor, error) { return nil, nil }

func (anchor) close() error { return nil }

// MakeFIFOs returns the names of the pipes of a container whose directory is dir. They are made by those who listen on
// them: the log keeper on stdout and stderr, the engine on stdin.
func MakeFIFOs(dir string, stdin, tty bool) (FIFOs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return FIFOs{}, err
	}
	f := FIFOs{Stdout: wire.PipeName(dir, "stdout")}
	if stdin {
		f.Stdin = wire.PipeName(dir, "stdin")
	}
	if !tty {
		f.Stderr = wire.PipeName(dir, "stderr")
	}
	return f, nil
}
