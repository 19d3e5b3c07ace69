package logs_test

import (
	"bufio"
	"bytes"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"slipway/container/logs"
	"slipway/container/logs/wire"

	"github.com/containerd/errdefs"
)

// raw sends a request as another version of the daemon could.
func (r *rig) raw(t *testing.T, req any) wire.Reply {
	t.Helper()
	conn, err := wire.Dial(t.Context(), r.root)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := wire.WriteLine(conn, req); err != nil {
		t.Fatal(err)
	}
	var reply wire.Reply
	if err := wire.ReadLine(bufio.NewReader(conn), &reply); err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestKeeperMakesRoomForAnother(t *testing.T) {
	r := newRig(t)
	c := r.register(t, "c1", nil)
	a, err := r.Attach(t.Context(), "c1", logs.AttachOptions{Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	s := startShim(t, c.fifos)
	s.print(0, "before, ")
	pid := r.pid()
	if reply := r.raw(t, wire.Request{Version: wire.Version + 1, Op: wire.OpList}); reply.Code != wire.CodeVersion || reply.Version != wire.Version {
		t.Errorf("another version: %+v", reply)
	}
	if reply := r.raw(t, wire.Request{Version: wire.Version + 1, Op: wire.OpRetire}); reply.Code != wire.CodeNone {
		t.Errorf("retire: %+v", reply)
	}
	s.print(0, "after\n")
	s.exit()
	r.finish(t, "c1")
	var out bytes.Buffer
	if err := a.Copy(t.Context(), &out, nil); err != nil {
		t.Fatal(err)
	}
	logged, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil)
	if out.String() != "before, after\n" || logged != out.String() {
		t.Errorf("attached %q, logged %q", &out, logged)
	}
	if r.pid() == pid {
		t.Error("the keeper did not make room")
	}
}

// TestKeeperReplacedAtTheEnd: a client gets all output of a container that ends
// while the keeper is replaced.
func TestKeeperReplacedAtTheEnd(t *testing.T) {
	r := newRig(t)
	for i := range 12 {
		id := "c" + strconv.Itoa(i)
		c := r.register(t, id, nil)
		a, err := r.Attach(t.Context(), id, logs.AttachOptions{Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		s := startShim(t, c.fifos)
		s.print(0, "before, ")
		if reply := r.raw(t, wire.Request{Version: wire.Version, Op: wire.OpRetire}); reply.Code != wire.CodeNone {
			t.Fatalf("retire: %+v", reply)
		}
		time.Sleep(time.Duration(i%8) * 50 * time.Microsecond)
		s.print(0, "after\n")
		s.exit()
		r.finish(t, id)
		var out bytes.Buffer
		if err := a.Copy(t.Context(), &out, nil); err != nil {
			t.Fatal(err)
		}
		if out.String() != "before, after\n" {
			t.Fatalf("round %d: %q", i, &out)
		}
		if err := r.Unregister(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeeperRefuses(t *testing.T) {
	r := newRig(t)
	for name, req := range map[string]any{
		"no request":      map[string]any{"version": wire.Version},
		"no container":    wire.Request{Version: wire.Version, Op: wire.OpRegister},
		"a path as id":    wire.Request{Version: wire.Version, Op: wire.OpUnregister, ID: "../../etc"},
		"unknown driver":  wire.Request{Version: wire.Version, Op: wire.OpRegister, ID: "c", Register: &wire.Register{Run: "1", Stdout: "/x", Log: wire.LogConfig{Driver: "syslog"}}},
		"a relative path": wire.Request{Version: wire.Version, Op: wire.OpRegister, ID: "c", Register: &wire.Register{Run: "1", Stdout: "/x", Log: wire.LogConfig{Driver: "json-file", Path: "x"}}},
	} {
		if reply := r.raw(t, req); reply.Code != wire.CodeInvalid {
			t.Errorf("%s: %+v", name, reply)
		}
	}
	// What is no FIFO is not read.
	err := r.Register(t.Context(), logs.Registration{ID: "c", Run: "1", Stdout: "/etc/passwd", Log: logs.LogConfig{Driver: logs.DriverNone}})
	if err == nil {
		t.Error("a file was taken for a FIFO")
	}
	if _, err := r.Attach(t.Context(), "unknown", logs.AttachOptions{Stdout: true}); !errdefs.IsNotFound(err) {
		t.Errorf("attach to none: %v", err)
	}
	r.register(t, "c1", nil)
	if err := logs.Shutdown(t.Context(), r.root); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("shut down with a container: %v", err)
	}
}

func TestTerminal(t *testing.T) {
	r := newRig(t)
	fifos, err := logs.MakeFIFOs(filepath.Join(r.root, "io", "tty"), true, true)
	if err != nil {
		t.Fatal(err)
	}
	c := r.register(t, "tty", func(reg *logs.Registration) { reg.Stdout, reg.Stderr = fifos.Stdout, fifos.Stderr })
	a, err := r.Attach(t.Context(), "tty", logs.AttachOptions{Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	s := startShim(t, fifos)
	s.print(0, "$ ls\r\n")
	s.exit()
	if err := r.Wait(t.Context(), "tty"); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if err := a.Copy(t.Context(), &out, &errOut); err != nil || out.String() != "$ ls\r\n" || errOut.Len() != 0 {
		t.Errorf("attached %q %q, %v", &out, &errOut, err)
	}
	if logged, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil); logged != out.String() {
		t.Errorf("logged %q", logged)
	}
}
