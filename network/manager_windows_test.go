package network

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/containerd/errdefs"
	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/events"
	"slipway/network/hostport"
	"slipway/state"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open makes the manager of a daemon that starts, with the containers that live.
func open(t *testing.T, dir string, live ...string) (*Manager, func()) {
	t.Helper()
	store, err := state.Open(filepath.Join(dir, "db"))
	must(t, err)
	m, err := New(t.Context(), Config{ExecRoot: dir, State: store, Events: events.New(), Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	must(t, m.Restore(t.Context(), live))
	return m, func() {
		must(t, m.Close())
		must(t, store.Close())
	}
}

// reach tells whom a port of the host leads to.
func reach(t *testing.T, binding mobynetwork.PortBinding) string {
	t.Helper()
	conn, err := net.Dial("tcp4", "127.0.0.1:"+binding.HostPort)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	b := make([]byte, 100)
	n, _ := conn.Read(b)
	return string(b[:n])
}

func greet(t *testing.T, at netip.Addr, port uint16, name string) {
	t.Helper()
	l, err := net.Listen("tcp4", netip.AddrPortFrom(at, port).String())
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(name))
			_ = conn.Close()
		}
	}()
}

// TestContainersShareTheHost: three containers with one and the same port, over a restart of the daemon.
func TestContainersShareTheHost(t *testing.T) {
	dir := t.TempDir()
	m, done := open(t, dir)
	port := mobynetwork.MustParsePort("25432/tcp")
	bindings := map[string]mobynetwork.PortBinding{}
	for _, name := range []string{"a", "b", "c"} {
		_, err := m.NewSandbox(t.Context(), name)
		must(t, err)
		e, err := m.Connect(t.Context(), EndpointRequest{
			SandboxID: name, Network: "default", ContainerName: name, Ports: mobynetwork.PortMap{port: {{}}}, Gate: name == "c",
		})
		must(t, err)
		if e.NetworkName != "nat" || !e.Address.Addr().IsLoopback() {
			t.Errorf("%s is at %s on %s", name, e.Address, e.NetworkName)
		}
		bindings[name] = e.Ports[port][0]
		greet(t, e.Address.Addr(), port.Num(), name)
	}
	check := func(want map[string]string) {
		t.Helper()
		for name, answer := range want {
			if got := reach(t, bindings[name]); got != answer {
				t.Errorf("%s answers %q, not %q", name, got, answer)
			}
		}
	}
	check(map[string]string{"a": "a", "b": "b", "c": ""})
	must(t, m.OpenPorts(t.Context(), "c"))
	check(map[string]string{"c": "c"})
	done()

	m, done = open(t, dir, "a", "c")
	defer done()
	check(map[string]string{"a": "a", "c": "c"})
	leaks, err := m.CheckLeaks(t.Context(), []string{"a", "c"})
	if err != nil || len(leaks) > 0 {
		t.Errorf("leaks %q, %v", leaks, err)
	}
	number, err := strconv.ParseUint(bindings["a"].HostPort, 10, 16)
	must(t, err)
	_, err = m.Connect(t.Context(), EndpointRequest{
		SandboxID: "d", Network: "nat", ContainerName: "d", OnHost: true,
		Ports: mobynetwork.PortMap{mobynetwork.MustParsePort(strconv.FormatUint(number, 10) + "/tcp"): {{HostPort: bindings["a"].HostPort}}},
	})
	if !errors.Is(err, hostport.ErrInUse) {
		t.Errorf("the port of another container: %v", err)
	}
	for _, id := range []string{"a", "c"} {
		must(t, m.DeleteSandbox(t.Context(), id))
	}
	l, err := net.Listen("tcp4", "0.0.0.0:"+bindings["a"].HostPort)
	must(t, err)
	must(t, l.Close())
}

func TestNetworksThatWindowsHasNot(t *testing.T) {
	m, done := open(t, t.TempDir())
	defer done()
	if _, _, err := m.Create(t.Context(), mobynetwork.CreateRequest{Name: "mine"}); !errdefs.IsNotImplemented(err) {
		t.Errorf("a network of one's own: %v", err)
	}
	if _, err := m.Connect(t.Context(), EndpointRequest{SandboxID: "x", Network: "none", ContainerName: "x"}); !errdefs.IsNotImplemented(err) {
		t.Errorf("--network none: %v", err)
	}
	for _, name := range []string{"host", "bridge"} {
		if _, err := m.Get(name); !errdefs.IsNotFound(err) {
			t.Errorf("network %s: %v", name, err)
		}
	}
	list, err := m.List(Filters{})
	must(t, err)
	var names []string
	for _, n := range list {
		names = append(names, n.Name+" "+n.Driver)
	}
	if len(names) != 2 {
		t.Errorf("networks %q", names)
	}
}
