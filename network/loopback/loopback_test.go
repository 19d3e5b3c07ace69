package loopback_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"slipway/internal/testutil"
	"slipway/network/firewall"
	"slipway/network/hostport"
	"slipway/network/loopback"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	first  = netip.MustParseAddr("127.93.0.2")
	second = netip.MustParseAddr("127.93.0.3")
	all    = netip.IPv4Unspecified()
)

// serve is a container's program: it answers with its name and what it was sent, and then ends.
func serve(t *testing.T, at netip.AddrPort, name string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", at.String())
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b, _ := io.ReadAll(conn)
				_, _ = conn.Write([]byte(name + " got " + string(b)))
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// ask sends a question to a port of the host, ends it, and returns all of the answer.
func ask(t *testing.T, port uint16, question string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", netip.AddrPortFrom(loopback.Host, port).String(), 5*time.Second)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	if _, err := conn.Write([]byte(question)); err != nil {
		return ""
	}
	tcp, _ := conn.(*net.TCPConn)
	_ = tcp.CloseWrite()
	b, _ := io.ReadAll(conn)
	return string(b)
}

// TestSamePortInManyContainers: each listens on one and the same port at its own address, and is published elsewhere.
func TestSamePortInManyContainers(t *testing.T) {
	d := loopback.New()
	listening := serve(t, netip.AddrPortFrom(first, 0), "one")
	serve(t, netip.AddrPortFrom(second, listening.Port()), "two")
	var forwards []firewall.Forward
	for _, addr := range []netip.Addr{first, second} {
		r, err := d.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: netip.AddrPortFrom(all, 0), Container: listening.Port(), OnHost: false})
		must(t, err)
		t.Cleanup(func() { _ = r.Close() })
		forwards = append(forwards, firewall.Forward{Protocol: hostport.TCP, Host: r.Addr, To: netip.AddrPortFrom(addr, listening.Port())})
	}
	if got := ask(t, forwards[0].Host.Port(), "early"); got != "" {
		t.Errorf("before it is open: %q", got)
	}
	must(t, d.Open(t.Context(), forwards))
	for i, want := range []string{"one got x", "two got x"} {
		if got := ask(t, forwards[i].Host.Port(), "x"); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	must(t, d.Close(t.Context(), forwards[:1]))
	if got := ask(t, forwards[0].Host.Port(), "late"); got != "" {
		t.Errorf("after it was closed: %q", got)
	}
	if left, err := d.Forwards(t.Context()); err != nil || len(left) != 1 || left[0] != forwards[1] {
		t.Errorf("%v, %v", left, err)
	}
}

func TestReserveIsExclusive(t *testing.T) {
	d := loopback.New()
	r, err := d.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: netip.AddrPortFrom(all, 0), Container: 5432, OnHost: false})
	must(t, err)
	for _, addr := range []netip.Addr{all, loopback.Host} {
		if _, err := d.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: netip.AddrPortFrom(addr, r.Addr.Port()), Container: 80, OnHost: false}); !errors.Is(err, hostport.ErrInUse) {
			t.Errorf("again, for %s: %v", addr, err)
		}
	}
	if _, err := d.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: r.Addr, Container: r.Addr.Port(), OnHost: true}); !errors.Is(err, hostport.ErrInUse) {
		t.Errorf("again, as itself: %v", err)
	}
	port := r.Addr
	must(t, r.Close())
	must(t, r.Close())
	l, err := net.Listen("tcp4", port.String())
	must(t, err)
	if _, err := d.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: port, Container: 80, OnHost: false}); !errors.Is(err, hostport.ErrInUse) {
		t.Errorf("what a program listens on: %v", err)
	}
	if _, err := d.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: port, Container: port.Port(), OnHost: true}); !errors.Is(err, hostport.ErrInUse) {
		t.Errorf("what a program listens on, as itself: %v", err)
	}
	must(t, l.Close())
}

// TestPublishedAsItself: the container's program has the port, nobody else's container.
func TestPublishedAsItself(t *testing.T) {
	d := loopback.New()
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	port := netip.MustParseAddrPort(free.Addr().String()).Port()
	must(t, free.Close())
	r, err := d.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: netip.AddrPortFrom(all, port), Container: port, OnHost: true})
	must(t, err)
	if _, err := d.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: netip.AddrPortFrom(all, port), Container: port, OnHost: true}); !errors.Is(err, hostport.ErrInUse) {
		t.Errorf("twice: %v", err)
	}
	must(t, d.Open(t.Context(), []firewall.Forward{{Protocol: hostport.TCP, Host: r.Addr, To: netip.AddrPortFrom(loopback.Host, port)}}))
	serve(t, netip.AddrPortFrom(all, port), "itself")
	next := loopback.New() // the daemon that finds the container running
	if again, err := next.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: r.Addr, Container: port, OnHost: true, Again: true}); err != nil {
		t.Error(err)
	} else {
		must(t, again.Close())
	}
	if got := ask(t, port, "x"); got != "itself got x" {
		t.Errorf("%q", got)
	}
	must(t, r.Close())
	if _, err := d.Reserve(hostport.Request{Protocol: hostport.UDP, Addr: netip.AddrPortFrom(all, 0), Container: 53, OnHost: false}); !errdefs.IsNotImplemented(err) {
		t.Errorf("UDP as another port: %v", err)
	}
	if testutil.UnderWine() {
		return // its UDP lacks what Go's needs
	}
	u, err := d.Reserve(hostport.Request{Protocol: hostport.UDP, Addr: netip.AddrPortFrom(all, port), Container: port, OnHost: true})
	must(t, err)
	must(t, u.Close())
}

func TestResetOpensWhatIsReserved(t *testing.T) {
	d := loopback.New()
	listening := serve(t, netip.AddrPortFrom(first, 0), "one")
	r, err := d.Reserve(hostport.Request{Protocol: hostport.TCP, Addr: netip.AddrPortFrom(all, 0), Container: listening.Port(), OnHost: false})
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	there := firewall.Forward{Protocol: hostport.TCP, Host: r.Addr, To: listening}
	gone := firewall.Forward{Protocol: hostport.TCP, Host: netip.MustParseAddrPort("0.0.0.0:1"), To: listening}
	must(t, d.Reset(t.Context(), []firewall.Network{{Bridge: "b"}}, []firewall.Forward{gone, there}))
	if got := ask(t, r.Addr.Port(), "x"); got != "one got x" {
		t.Errorf("%q", got)
	}
	if err := d.Open(t.Context(), []firewall.Forward{gone}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a port that is not reserved: %v", err)
	}
	names, err := d.Bridges(t.Context())
	if err != nil || len(names) != 1 || names[0] != "b" {
		t.Errorf("%v, %v", names, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	must(t, d.Watch(ctx))
}
