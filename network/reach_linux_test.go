package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// withAndWithoutBridgeNetfilter runs a test with packets between two ports of a
// bridge passing the host's firewall, and without.
func withAndWithoutBridgeNetfilter(t *testing.T, test func(*testing.T)) {
	t.Helper()
	needRoot(t)
	const name = "net/bridge/bridge-nf-call-iptables"
	before, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		t.Run("without br_netfilter", test)
		return
	}
	t.Cleanup(func() { sysctl(t, "", name, string(before)) })
	for _, value := range []string{"0", "1"} {
		sysctl(t, "", name, value)
		t.Run("bridge-nf-call-iptables "+value, test)
	}
}

func TestPublishedPortIsReached(t *testing.T) {
	withAndWithoutBridgeNetfilter(t, testPublishedPortIsReached)
}

func testPublishedPortIsReached(t *testing.T) {
	t.Helper()
	d := newDaemon(t, nil)
	outside := neighbour(t)
	web := d.guest("web", publish("8080:80/tcp"))
	serve(t, d.ns("web"), "web", "80")
	d.guest("other", nil)
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "second"}))
	d.guest("far", func(r *EndpointRequest) { r.Network = "second" })

	if seen := wantReach(t, outside, "10.99.0.1:8080", "web"); seen != "10.99.0.2" {
		t.Errorf("the container saw the client as %s, want its real address", seen)
	}
	wantReach(t, "", "127.0.0.1:8080", "web")
	wantReach(t, "", "127.0.0.7:8080", "web")
	wantReach(t, "", "10.99.0.1:8080", "web")
	wantReach(t, "", web.Address.Addr().String()+":80", "web")
	wantReach(t, "", web.Gateway.String()+":8080", "web")
	for _, from := range []string{"other", "far", "web"} {
		wantReach(t, d.ns(from), "10.99.0.1:8080", "web")
	}
	wantReach(t, d.ns("other"), web.Gateway.String()+":8080", "web")

	must(t, d.DeleteSandbox(t.Context(), id("web")))
	wantBlocked(t, outside, "10.99.0.1:8080")
	wantBlocked(t, "", "127.0.0.1:8080")
}

func TestUnpublishedIsNotReachedFromOutside(t *testing.T) {
	d := newDaemon(t, nil)
	outside := neighbour(t)
	web := d.guest("web", publish("8080:80/tcp"))
	serve(t, d.ns("web"), "web", "80")
	serve(t, d.ns("web"), "secret", "81")
	wantReach(t, outside, "10.99.0.1:8080", "web")
	wantBlocked(t, outside, web.Address.Addr().String()+":81")
	wantBlocked(t, outside, web.Address.Addr().String()+":80") // only through the published port
	wantBlocked(t, outside, "10.99.0.1:81")
}

// A neighbour that controls its own routes must not get to a port published on
// the loopback, whatever the host's own settings are.
func TestLoopbackPortIsNotReachedByNeighbour(t *testing.T) {
	d := newDaemon(t, nil)
	outside := neighbour(t)
	db := d.guest("db", publish("127.0.0.1:5432:5432/tcp"))
	serve(t, d.ns("db"), "db", "5432")
	serve(t, "", "host", "5433")
	sysctl(t, "", "net/ipv4/conf/all/route_localnet", "1") // as kube-proxy leaves it
	t.Cleanup(func() { sysctl(t, "", "net/ipv4/conf/all/route_localnet", "0") })
	for _, name := range []string{"all", "out0"} {
		sysctl(t, "", "net/ipv4/conf/"+name+"/rp_filter", "0")
	}
	wantReach(t, "", "127.0.0.1:5432", "db")
	wantBlocked(t, "", "10.99.0.1:5432")
	wantBlocked(t, outside, "10.99.0.1:5432")
	wantBlocked(t, outside, db.Address.Addr().String()+":5432")

	// Now with 127.0.0.1 routed over the wire.
	sysctl(t, outside, "net/ipv4/conf/all/route_localnet", "1")
	_, err := in(t, outside, func() (struct{}, error) {
		link, err := netlink.LinkByName("wire0")
		must(t, err)
		return struct{}{}, netlink.RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index, Gw: net.IPv4(10, 99, 0, 1),
			Dst: &net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(32, 32)},
		})
	})
	must(t, err)
	wantBlocked(t, outside, "127.0.0.1:5432")
	wantBlocked(t, outside, "127.0.0.1:5433") // a server of the host, reachable only because of route_localnet
}

// A container must not pass for the host itself, whose services trust the loopback.
// No setting of the host but our own route_localnet lets such a packet in.
func TestLoopbackSourceIsDropped(t *testing.T) {
	d := newDaemon(t, nil)
	neighbour(t)
	web := d.guest("web", publish("127.0.0.1:8080:80/tcp"))
	serve(t, d.ns("web"), "web", "80")
	for _, name := range []string{"all", DefaultBridge} {
		sysctl(t, "", "net/ipv4/conf/"+name+"/rp_filter", "0") // the kernel's default, not every distribution's
	}
	sysctl(t, d.ns("web"), "net/ipv4/conf/all/route_localnet", "1") // sends what otherwise takes a raw socket
	heard, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", ":5300")
	must(t, err)
	defer heard.Close()
	send := func(source, host string) {
		t.Helper()
		must1(t)(in(t, d.ns("web"), func() (struct{}, error) {
			dialer := &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(source)}}
			c, err := dialer.DialContext(t.Context(), "udp4", host+":5300")
			if err != nil {
				return struct{}{}, err
			}
			defer c.Close()
			_, err = c.Write([]byte(source))
			return struct{}{}, err
		}))
	}
	receive := func(patience time.Duration) string {
		t.Helper()
		must(t, heard.SetReadDeadline(time.Now().Add(patience)))
		buffer := make([]byte, 64)
		n, _, err := heard.ReadFrom(buffer)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return string(buffer[:n])
	}
	for _, host := range []string{web.Gateway.String(), "10.99.0.1"} {
		send("127.0.0.5", host)
		if got := receive(shortly); got != "" {
			t.Errorf("a datagram to %s came in as from %s", host, got)
		}
		own := web.Address.Addr().String()
		send(own, host)
		if got := receive(patience); got != own {
			t.Errorf("the host got %q on %s, want a datagram from %s", got, host, own)
		}
	}
	wantReach(t, "", "127.0.0.1:8080", "web")
}

// A host that forwards packets only since we need it does not become a router
// between its own interfaces.
func TestHostIsNoRouter(t *testing.T) {
	needRoot(t)
	const forward = "net/ipv4/ip_forward"
	before, err := os.ReadFile("/proc/sys/" + forward)
	must(t, err)
	t.Cleanup(func() { sysctl(t, "", forward, string(before)) })
	sysctl(t, "", forward, "0")
	left, right := machine(t, "out0", "10.99.0"), machine(t, "out1", "10.98.0")
	serve(t, right, "right", "80")
	d := newDaemon(t, nil)
	d.guest("web", publish("8080:80/tcp"))
	serve(t, d.ns("web"), "web", "80")
	other := newDaemon(t, func(c *Config) { c.BridgeName = "slipway1" }) // finds forwarding turned on
	other.guest("far", publish("8081:80/tcp"))
	serve(t, other.ns("far"), "far", "80")
	check := func(when string) {
		t.Helper()
		t.Log(when)
		wantBlocked(t, left, "10.98.0.2:80")
		wantReach(t, "", "10.98.0.2:80", "right")
		for _, c := range []struct{ ns, published, name string }{{d.ns("web"), "10.99.0.1:8080", "web"}, {other.ns("far"), "10.99.0.1:8081", "far"}} {
			wantReach(t, c.ns, "10.98.0.2:80", "right")
			wantReach(t, left, c.published, c.name)
		}
	}
	check("at first")
	d.crash()
	d.open()
	d.restore(id("web"))
	check("after a restart")
	sysctl(t, "", forward, "0")
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "second"}))
	check("turned off and on again")

	// Now somebody turns it on before the daemon starts, in another boot.
	record, err := d.forwardingRecords.Get(forwardingKey)
	must(t, err)
	record.Boot = "an earlier one"
	must(t, d.forwardingRecords.Put(forwardingKey, record))
	d.crash()
	d.open()
	d.restore(id("web"))
	wantReach(t, left, "10.98.0.2:80", "right")
	wantReach(t, left, "10.99.0.1:8080", "web")

	sysctl(t, "", forward, "0") // and a daemon that runs sees it go
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "third"}))
	check("turned off later")
}

func TestContainersAmongThemselves(t *testing.T) {
	withAndWithoutBridgeNetfilter(t, testContainersAmongThemselves)
}

func testContainersAmongThemselves(t *testing.T) {
	t.Helper()
	d := newDaemon(t, nil)
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "second"}))
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "apart", Options: map[string]string{optionICC: "false"}}))
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "inner", Internal: true}))
	addr := map[string]string{}
	for name, network := range map[string]string{
		"a1": "bridge", "a2": "bridge", "b1": "second", "c1": "apart", "c2": "apart", "i1": "inner", "i2": "inner",
	} {
		e := d.guest(name, func(r *EndpointRequest) { r.Network = network })
		addr[name] = e.Address.Addr().String() + ":80"
		serve(t, d.ns(name), name, "80")
	}
	d.guest("pub", publish("8080:80/tcp"))
	serve(t, d.ns("pub"), "pub", "80")
	outside := neighbour(t)
	serve(t, outside, "outside", "80")

	wantReach(t, d.ns("a1"), addr["a2"], "a2")
	wantReach(t, d.ns("i1"), addr["i2"], "i2")
	wantBlocked(t, d.ns("c1"), addr["c2"])
	for _, pair := range [][2]string{{"a1", "b1"}, {"b1", "a1"}, {"a1", "i1"}, {"i1", "a1"}, {"i1", "b1"}} {
		wantBlocked(t, d.ns(pair[0]), addr[pair[1]])
	}
	for _, from := range []string{"a1", "b1", "c1"} {
		if seen := wantReach(t, d.ns(from), "10.99.0.2:80", "outside"); seen != "10.99.0.1" {
			t.Errorf("%s reached the outside as %s, want the host's address", from, seen)
		}
	}
	wantReach(t, d.ns("c1"), "10.99.0.1:8080", "pub")

	// An internal network has no way out, not even for a container that makes itself one.
	wantBlocked(t, d.ns("i1"), "10.99.0.2:80")
	inner := must1(t)(d.Get("inner"))
	_, err := in(t, d.ns("i1"), func() (struct{}, error) {
		return struct{}{}, netlink.RouteAdd(&netlink.Route{Gw: inner.IPAM.Config[0].Gateway.AsSlice()})
	})
	must(t, err)
	wantBlocked(t, d.ns("i1"), "10.99.0.2:80")
	wantBlocked(t, d.ns("i1"), "10.99.0.1:8080")
	wantBlocked(t, d.ns("i1"), addr["a1"])
	wantBlocked(t, outside, addr["i1"])
	heard, err := in(t, outside, func() (net.PacketConn, error) {
		return (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", ":53")
	})
	must(t, err)
	defer heard.Close()
	must1(t)(in(t, d.ns("i1"), func() (struct{}, error) {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "udp4", "10.99.0.2:53")
		if err != nil {
			return struct{}{}, err
		}
		defer c.Close()
		_, err = c.Write([]byte("secret"))
		return struct{}{}, err
	}))
	must(t, heard.SetReadDeadline(time.Now().Add(shortly)))
	if _, _, err := heard.ReadFrom(make([]byte, 64)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a datagram left the internal network: %v", err)
	}
}

func TestGate(t *testing.T) {
	d := newDaemon(t, nil)
	d.guest("clone", func(r *EndpointRequest) { r.Ports, r.Gate = portMap("5432:5432/tcp"), true })
	serve(t, d.ns("clone"), "clone", "5432")
	wantBlocked(t, "", "127.0.0.1:5432")
	if _, err := d.tryGuest("rival", publish("5432:5432/tcp")); err == nil {
		t.Error("a closed port was given away")
	}
	must(t, d.OpenPorts(t.Context(), id("clone")))
	wantReach(t, "", "127.0.0.1:5432", "clone")
	must(t, d.OpenPorts(t.Context(), id("clone")))
}

// A client that goes on sending from one port reaches whichever container has the
// published port now, and nobody else's.
func TestUDP(t *testing.T) {
	d := newDaemon(t, nil)
	client, err := (&net.Dialer{}).DialContext(t.Context(), "udp4", "127.0.0.1:5353")
	must(t, err)
	defer client.Close()
	_, _ = client.Write([]byte("too early")) // refused, but the kernel remembers the flow
	for _, name := range []string{"one", "two"} {
		d.guest(name, publish("5353:53/udp"))
		server, err := in(t, d.ns(name), func() (net.PacketConn, error) {
			return (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", ":53")
		})
		must(t, err)
		deadline := time.Now().Add(patience)
		must(t, errors.Join(server.SetDeadline(deadline), client.SetDeadline(deadline)))
		if _, err := client.Write([]byte("question")); err != nil { // the error of the one before
			must1(t)(client.Write([]byte("question")))
		}
		buffer := make([]byte, 64)
		n, from, err := server.ReadFrom(buffer)
		must(t, err)
		must1(t)(server.WriteTo(append([]byte(name+": "), buffer[:n]...), from))
		n, err = client.Read(buffer)
		must(t, err)
		if got := string(buffer[:n]); got != name+": question" {
			t.Errorf("got %q back from %s", got, name)
		}
		must(t, errors.Join(server.Close(), d.DeleteSandbox(t.Context(), id(name))))
	}
}

// must1 returns a function that passes a result on or ends the test.
func must1(tb testing.TB) func(values ...any) mobynetwork.Inspect {
	tb.Helper()
	return func(values ...any) mobynetwork.Inspect {
		tb.Helper()
		if err, _ := values[len(values)-1].(error); err != nil {
			tb.Fatal(err)
		}
		n, _ := values[0].(mobynetwork.Inspect)
		return n
	}
}

// The first packet after Connect must arrive, also on a bridge that had no ports
// until then: a lost SYN costs a client of a fresh database clone a second.
func TestFirstPacketArrives(t *testing.T) {
	var uname unix.Utsname
	must(t, unix.Uname(&uname))
	var major, minor int
	_, _ = fmt.Sscanf(unix.ByteSliceToString(uname.Release[:]), "%d.%d", &major, &minor)
	if major < 6 || major == 6 && minor < 8 {
		t.Skip("needs Linux 6.8, which activates a new interface when asked for it")
	}
	d := newDaemon(t, nil)
	for i := range 30 {
		name := fmt.Sprintf("c%d", i)
		d.guest(name, publish("8080:80/tcp"))
		serve(t, d.ns(name), name, "80")
		if server, _, err := ask(t, "", "127.0.0.1:8080", 900*time.Millisecond); err != nil || server != name {
			t.Fatalf("connection %d: got %q, %v", i, server, err)
		}
		must(t, d.DeleteSandbox(t.Context(), id(name)))
	}
}
