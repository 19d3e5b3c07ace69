package logs_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway/container/logs"
)

const loggerName = "slipway-logger"

var binDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "slipway-logger-")
	if err != nil {
		panic(err)
	}
	binDir = dir
	args := []string{"build", "-o", dir, fmt.Sprintf("-race=%v", raceDetector), "slipway/cmd/slipway-logger"}
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build the log keeper: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// kill ends the keeper without warning and reports whether there was one.
func (r *rig) kill() bool {
	pid := r.pid()
	return pid > 1 && syscall.Kill(pid, syscall.SIGKILL) == nil
}

// endKeeper ends a keeper that the test process has started, and waits for it.
func endKeeper(pid int) {
	_ = syscall.Kill(pid, syscall.SIGTERM)
	for range 500 {
		var ws unix.WaitStatus
		if got, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil); got == pid || errors.Is(err, unix.ECHILD) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// memory tells what memory the keeper has.
func (r *rig) memory() string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid()))
	var out strings.Builder
	for l := range strings.Lines(string(b)) {
		if strings.HasPrefix(l, "VmRSS") || strings.HasPrefix(l, "RssAnon") {
			out.WriteString(strings.TrimSpace(l) + " ")
		}
	}
	return out.String()
}

// descriptors counts the keeper's open files.
func (r *rig) descriptors() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.pid()))
	return len(entries)
}

// shim holds a container's FIFOs as containerd's shim does: both ends.
type shim struct {
	t    *testing.T
	out  [2]io.Writer
	ends []*os.File
}

func startShim(t *testing.T, f logs.FIFOs) *shim {
	t.Helper()
	s := &shim{t: t}
	for i, path := range []string{f.Stdout, f.Stderr} {
		if path == "" {
			continue
		}
		for end, flag := range []int{os.O_WRONLY, os.O_RDONLY} {
			f, err := os.OpenFile(path, flag, 0)
			if err != nil {
				t.Fatal(err)
			}
			s.ends = append(s.ends, f)
			if end == 0 {
				s.out[i] = f
			}
		}
	}
	t.Cleanup(s.exit)
	return s
}

func (s *shim) exit() {
	for _, f := range s.ends {
		_ = f.Close()
	}
}
