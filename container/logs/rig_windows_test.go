package logs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"slipway/container/logs"
	"slipway/container/logs/keeper"
	"slipway/internal/pipe"
	"slipway/internal/relay"
)

const loggerName = "slipway-logger.exe"

var binDir string

// TestMain runs the tests or, in a copy of the test program that has the keeper's name, the keeper: there is no
// compiler on the machine that the tests run on.
func TestMain(m *testing.M) {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	if strings.EqualFold(filepath.Base(self), loggerName) {
		os.Exit(keep(os.Args[2]))
	}
	if binDir, err = os.MkdirTemp("", "slipway-logger-"); err != nil {
		panic(err)
	}
	program, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(filepath.Join(binDir, loggerName), program, 0o700)
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(binDir)
	os.Exit(code)
}

// keep does what the program slipway-logger does.
func keep(execRoot string) int {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	server, err := keeper.New(keeper.Config{ExecRoot: execRoot, Logger: logger})
	if errors.Is(err, keeper.ErrRunning) {
		return 3
	}
	if err == nil {
		err = server.Serve(context.Background())
	}
	if err != nil {
		logger.Error("log keeper failed", slog.Any("error", err))
		return 1
	}
	return 0
}

// kill ends the keeper without warning and reports whether there was one.
func (r *rig) kill() bool { return terminate(r.pid()) }

func terminate(pid int) bool {
	process, err := windows.OpenProcess(windows.PROCESS_TERMINATE|windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return false
	}
	defer windows.CloseHandle(process) //nolint:errcheck // it was only asked
	if windows.TerminateProcess(process, 9) != nil {
		return false
	}
	_, _ = windows.WaitForSingleObject(process, 5000)
	return true
}

// endKeeper ends a keeper and waits for it.
func endKeeper(pid int) { terminate(pid) }

// descriptors counts the keeper's open handles.
func (r *rig) descriptors() int {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_INFORMATION, false, uint32(r.pid()))
	if err != nil {
		return 1 << 30
	}
	defer windows.CloseHandle(process) //nolint:errcheck // it was only asked
	var n uint32
	if ok, _, _ := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetProcessHandleCount").Call(uintptr(process), uintptr(unsafe.Pointer(&n))); ok == 0 {
		return 1 << 30
	}
	return int(n)
}

// memory tells what memory the keeper has.
func (*rig) memory() string { return "unknown" }

// shim prints into a container's pipes as the job-object shim does.
type shim struct {
	t       *testing.T
	out     [2]io.Writer
	senders []*relay.Sender
}

func startShim(t *testing.T, f logs.FIFOs) *shim {
	t.Helper()
	s := &shim{t: t}
	for i, path := range []string{f.Stdout, f.Stderr} {
		if path == "" {
			continue
		}
		sender := relay.NewSender(context.Background(), func(ctx context.Context) (net.Conn, error) {
			return pipe.DialChecked(ctx, path, pipe.Trusted)
		})
		s.out[i] = sender
		s.senders = append(s.senders, sender)
	}
	t.Cleanup(s.exit)
	return s
}

func (s *shim) exit() {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Second, errors.New("the keeper takes no output"))
	defer cancel()
	for i, sender := range s.senders {
		if err := sender.Close(ctx); err != nil {
			s.t.Error(fmt.Errorf("stream %d: %w", i, err))
		}
	}
	s.senders = nil
}
