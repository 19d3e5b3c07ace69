package testutil

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/console"
)

// Terminal is a command in a terminal of its own, as a user sees it.
type Terminal struct {
	t      *testing.T
	pty    console.Console
	cmd    *exec.Cmd
	exited chan struct{}

	mu     sync.Mutex
	screen bytes.Buffer
}

// InTerminal starts the docker client in a terminal of the given size.
func (d *Daemon) InTerminal(t *testing.T, height, width uint16, args ...string) *Terminal {
	t.Helper()
	pty, path, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	term := &Terminal{t: t, pty: pty, exited: make(chan struct{})}
	term.Resize(height, width)
	term.cmd = d.DockerCommand(context.WithoutCancel(t.Context()), args...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = tty, tty, tty
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	term.cmd.Env = append(term.cmd.Env, "TERM=xterm")
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(term.read)
	readers.Go(func() {
		defer close(term.exited)
		_ = term.cmd.Wait() // how it ended is in ProcessState
	})
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill() // fails only if it has just ended
		<-term.exited
		_ = pty.Close()
		readers.Wait()
	})
	return term
}

func (term *Terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := term.pty.Read(buf)
		term.mu.Lock()
		term.screen.Write(buf[:n])
		term.mu.Unlock()
		if err != nil { // EIO once the last program has left the terminal
			return
		}
	}
}

// Screen is everything that was shown so far.
func (term *Terminal) Screen() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.screen.String()
}

// Type sends keys; "\x04" is Ctrl-D.
func (term *Terminal) Type(keys string) {
	term.t.Helper()
	if _, err := term.pty.Write([]byte(keys)); err != nil {
		term.t.Fatal(err)
	}
}

// Expect waits until the text was shown.
func (term *Terminal) Expect(text string) {
	term.t.Helper()
	Eventually(term.t, "the terminal shows "+text, func() bool {
		return strings.Contains(term.Screen(), text)
	})
}

// Resize gives the terminal another size, as a user does with the mouse.
func (term *Terminal) Resize(height, width uint16) {
	term.t.Helper()
	if err := term.pty.Resize(console.WinSize{Height: height, Width: width}); err != nil {
		term.t.Fatal(err)
	}
}

// Kill ends the client without a chance to say goodbye.
func (term *Terminal) Kill() {
	term.t.Helper()
	if err := term.cmd.Process.Kill(); err != nil {
		term.t.Fatal(err)
	}
	<-term.exited
}

// ExitCode waits for the end of the command.
func (term *Terminal) ExitCode() int {
	term.t.Helper()
	Eventually(term.t, "the command in the terminal ends", func() bool {
		select {
		case <-term.exited:
			return true
		default:
			return false
		}
	})
	return term.cmd.ProcessState.ExitCode()
}
