package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is the keeper that this daemon has started, if it has. It is used by one goroutine at a time.
type process struct {
	pid int // 0: none, or it has ended
}

// ensure starts a keeper unless the last one that was started still runs.
func (p *process) ensure(cfg Config) error {
	if p.pid != 0 {
		got, err := unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
		if got == 0 && err == nil {
			return nil
		}
		p.pid = 0
	}
	out, err := os.OpenFile(filepath.Join(cfg.ExecRoot, "logger.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	// Not bound to a context: it outlives the daemon. A session of its own keeps the terminal's signals away.
	cmd := exec.Command(filepath.Join(cfg.BinDir, "slipway-logger"), "--exec-root", cfg.ExecRoot) //nolint:noctx // our own program
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.pid = cmd.Process.Pid
	return cmd.Process.Release()
}

// anchor is a FIFO opened for reading that nobody reads: the FIFO keeps its content even if both the
// log keeper and the container's shim are gone. It is a bare descriptor, since the runtime's poller would
// wake this process for every line that a container prints.
type anchor int

func openAnchors(paths ...string) ([]anchor, error) {
	var all []anchor
	for _, path := range paths {
		if path == "" {
			continue
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			err = &fs.PathError{Op: "open", Path: path, Err: err}
			for _, a := range all {
				err = errors.Join(err, a.close())
			}
			return nil, err
		}
		all = append(all, anchor(fd))
	}
	return all, nil
}

func (a anchor) close() error { return os.NewSyscallError("close", unix.Close(int(a))) }

// MakeFIFOs makes the FIFOs of a container in dir, for root only. Existing ones are kept.
func MakeFIFOs(dir string, stdin, tty bool) (FIFOs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return FIFOs{}, err
	}
	f := FIFOs{Stdout: filepath.Join(dir, "stdout")}
	if stdin {
		f.Stdin = filepath.Join(dir, "stdin")
	}
	if !tty {
		f.Stderr = filepath.Join(dir, "stderr")
	}
	for _, path := range []string{f.Stdin, f.Stdout, f.Stderr} {
		if path == "" {
			continue
		}
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			return FIFOs{}, &fs.PathError{Op: "mkfifo", Path: path, Err: err}
		}
		if fi, err := os.Lstat(path); err != nil {
			return FIFOs{}, err
		} else if fi.Mode().Type() != fs.ModeNamedPipe {
			return FIFOs{}, fmt.Errorf("%s is not a FIFO", path)
		}
	}
	return f, nil
}
