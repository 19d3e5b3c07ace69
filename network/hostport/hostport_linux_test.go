package hostport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A reserved port is nobody else's, however it was chosen and whatever the other
// one's options are, and it is free again after Close.
func TestReserveIsExclusive(t *testing.T) {
	for _, proto := range []Protocol{TCP, UDP} {
		random, err := Reserve(proto, netip.MustParseAddrPort("127.0.0.1:0"))
		must(t, err)
		certain, err := Reserve(proto, netip.AddrPortFrom(netip.IPv4Unspecified(), freePort(t)))
		must(t, err)
		for _, r := range []*Reservation{random, certain} {
			name := fmt.Sprintf("%s %s", proto, r.Addr)
			if again, err := Reserve(proto, r.Addr); !errors.Is(err, ErrInUse) {
				t.Errorf("%s was reserved twice: %v, %v", name, again, err)
			}
			if again, err := Reserve(proto, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), r.Addr.Port())); !errors.Is(err, ErrInUse) {
				t.Errorf("%s was reserved twice, for one address: %v, %v", name, again, err)
			}
			listener, err := listen(t, proto, r.Addr) // with SO_REUSEADDR, as most servers do
			if err == nil {
				t.Errorf("a server could listen on %s", name)
				_ = listener.Close()
			}
			if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp4", r.Addr.String()); proto == TCP && !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("connecting to %s: %v, %v; want a refusal", name, conn, err)
			}
			must(t, r.Close())
			must(t, r.Close())
			free, err := Reserve(proto, r.Addr)
			must(t, err)
			must(t, free.Close())
		}
	}
}

// A server that has just stopped leaves connections in TIME_WAIT, which must not
// keep a container from its port.
func TestReserveAfterServer(t *testing.T) {
	listener, err := listen(t, TCP, netip.MustParseAddrPort("127.0.0.1:0"))
	must(t, err)
	l, _ := listener.(net.Listener)
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp4", l.Addr().String())
	must(t, err)
	server, err := l.Accept()
	must(t, err)
	must(t, server.Close()) // the side that closes first waits
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	must(t, client.Close())
	must(t, l.Close())
	time.Sleep(10 * time.Millisecond)
	r, err := Reserve(TCP, netip.MustParseAddrPort(l.Addr().String()))
	must(t, err)
	must(t, r.Close())
}

func listen(t *testing.T, proto Protocol, addr netip.AddrPort) (io.Closer, error) {
	t.Helper()
	var config net.ListenConfig
	if proto == UDP {
		return config.ListenPacket(t.Context(), "udp4", addr.String())
	}
	return config.Listen(t.Context(), "tcp4", addr.String())
}

// freePort finds a port that is free for both protocols at this moment.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		tcp, err := Reserve(TCP, netip.MustParseAddrPort("0.0.0.0:0"))
		must(t, err)
		udp, err := Reserve(UDP, tcp.Addr)
		must(t, tcp.Close())
		if err == nil {
			must(t, udp.Close())
			return tcp.Addr.Port()
		}
	}
	t.Fatal("no free port")
	return 0
}
