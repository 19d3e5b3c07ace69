package agent

import (
	"bytes"
	"net"
	"os"
	"testing"
	"time"
)

// pair is a client and the server that it speaks to.
func pair(t *testing.T) (*Client, net.Conn, <-chan struct{}) {
	t.Helper()
	here, there := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = Serve(there, []string{"WHERE=machine"}) // the pipe is closed
	}()
	t.Cleanup(func() { _ = here.Close() })
	return NewClient(here), here, served
}

func needShell(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("no /bin/sh")
	}
}

func TestPrograms(t *testing.T) {
	needShell(t)
	c, _, _ := pair(t)
	for _, tt := range []struct {
		name           string
		argv           []string
		stdin          string
		stdout, stderr string
		code           int
	}{
		{"output", []string{"/bin/sh", "-c", "echo $WHERE $MORE; echo oops >&2; exit 3"}, "", "machine more\n", "oops\n", 3},
		{"input", []string{"/bin/sh", "-c", "cat; echo end"}, "line\n", "line\nend\n", "", 0},
		{"killed", []string{"/bin/sh", "-c", "kill -9 $$"}, "", "", "", -1},
		{"none", []string{"/no/such/program"}, "", "", "fork/exec /no/such/program: no such file or directory\n", -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			p, err := c.Start(Options{Env: []string{"MORE=more"}, Stdout: &stdout, Stderr: &stderr}, tt.argv...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Write([]byte(tt.stdin)); err != nil {
				t.Fatal(err)
			}
			if err := p.CloseInput(); err != nil {
				t.Fatal(err)
			}
			code, err := p.Wait(t.Context())
			if err != nil || code != tt.code {
				t.Errorf("code %d, %v, want %d", code, err, tt.code)
			}
			if stdout.String() != tt.stdout || stderr.String() != tt.stderr {
				t.Errorf("printed %q and %q", &stdout, &stderr)
			}
		})
	}
}

// TestGone: a machine that goes away ends the waiting outside and the programs
// inside.
func TestGone(t *testing.T) {
	needShell(t)
	c, stream, served := pair(t)
	p, err := c.Start(Options{}, "/bin/sh", "-c", "exec sleep 600")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(t.Context()); err == nil {
		t.Errorf("Wait: code %d and no error", code)
	}
	select {
	case <-c.Gone():
	case <-time.After(10 * time.Second):
		t.Error("Gone stays open")
	}
	select {
	case <-served:
	case <-time.After(10 * time.Second):
		t.Error("Serve does not return")
	}
}
