package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/network/firewall"
	"slipway/network/hostport"
	"slipway/state"
)

func wantError(t *testing.T, err error, class error, text string) {
	t.Helper()
	if err == nil || (class != nil && !errors.Is(err, class)) || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want class %v with %q", err, class, text)
	}
}

func wantNoLeaks(t *testing.T, d *daemon, live ...string) {
	t.Helper()
	leaks, err := d.CheckLeaks(t.Context(), live)
	must(t, err)
	for _, l := range leaks {
		t.Errorf("leak: %s", l)
	}
}

func TestDefaultNetworks(t *testing.T) {
	d := newDaemon(t, nil)
	for name, driver := range map[string]string{"bridge": "bridge", "host": "host", "none": "null"} {
		n, err := d.Get(name)
		must(t, err)
		if n.Driver != driver || n.Scope != "local" {
			t.Errorf("%s: driver %q, scope %q", name, n.Driver, n.Scope)
		}
		wantError(t, d.Remove(t.Context(), name), errdefs.ErrPermissionDenied, name+" is a pre-defined network and cannot be removed")
	}
	n, err := d.Get("bridge")
	must(t, err)
	if len(n.IPAM.Config) != 1 || n.IPAM.Config[0].Subnet.String() != "172.17.0.0/16" || n.IPAM.Config[0].Gateway.String() != "172.17.0.1" {
		t.Errorf("bridge has %+v", n.IPAM.Config)
	}
	if n.Options[optionBridge] != DefaultBridge || n.Options[optionDefaultBridge] != "true" {
		t.Errorf("bridge has options %v", n.Options)
	}
}

// A daemon whose default bridge another one has would take all of that one's
// interfaces for leftovers.
func TestBridgeIsOneDaemons(t *testing.T) {
	d := newDaemon(t, nil)
	d.guest("web", publish("8080:80/tcp"))
	serve(t, d.ns("web"), "web", "80")
	rival, dir := d.cfg, t.TempDir()
	store, err := state.Open(filepath.Join(dir, "slipway.db"))
	must(t, err)
	rival.State, rival.ExecRoot = store, filepath.Join(dir, "run")
	for range 2 { // a refusal leaves the claim where it is
		_, err = New(t.Context(), rival)
		wantError(t, err, errdefs.ErrUnavailable, "another slipwayd uses the bridge slipway0: choose another with --bridge")
	}
	must(t, store.Close())

	// With another bridge they live side by side, and claims outlive a flush of all rules.
	second := newDaemon(t, func(c *Config) { c.BridgeName = "slipway1" })
	_, _, err = second.Create(t.Context(), mobynetwork.CreateRequest{Name: "stolen", Options: map[string]string{optionBridge: DefaultBridge}})
	wantError(t, err, errdefs.ErrFailedPrecondition, "bridge slipway0: it belongs to the slipwayd of the bridge slipway0")
	conn, err := nftables.New()
	must(t, err)
	conn.FlushRuleset()
	must(t, conn.Flush())
	_, err = firewall.Claim(claimName(DefaultBridge))
	wantError(t, err, errdefs.ErrUnavailable, "another process")

	// The next daemon has the bridge once the first is gone.
	d.crash()
	d.open()
	d.restore(id("web"))
	wantReach(t, "", "127.0.0.1:8080", "web")
	wantNoLeaks(t, d, id("web"))
}

func TestSubnetAvoidsTheHosts(t *testing.T) {
	needRoot(t)
	dummy := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "vpn0", Flags: net.FlagUp}}
	must(t, netlink.LinkAdd(dummy))
	t.Cleanup(func() { must(t, netlink.LinkDel(dummy)) })
	for _, s := range []string{"172.17.5.1/24", "172.16.0.0/12"} {
		addr, err := netlink.ParseAddr(s)
		must(t, err)
		if strings.HasSuffix(s, "/24") {
			must(t, netlink.AddrAdd(dummy, addr))
		} else {
			must(t, netlink.LinkSetUp(dummy))
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: dummy.Index, Dst: addr.IPNet}))
		}
	}
	d := newDaemon(t, nil)
	n, err := d.Get("bridge")
	must(t, err)
	if got := n.IPAM.Config[0].Subnet.String(); got != "192.168.0.0/20" {
		t.Errorf("chose %s", got)
	}
}

func TestCreateAndRemove(t *testing.T) {
	d := newDaemon(t, nil)
	netID, _, err := d.Create(t.Context(), mobynetwork.CreateRequest{
		Name: "app", Labels: map[string]string{"a": "b"},
		Options: map[string]string{optionBridge: "app0", optionMTU: "1400"},
		IPAM: &mobynetwork.IPAM{Config: []mobynetwork.IPAMConfig{{
			Subnet: netip.MustParsePrefix("10.55.0.0/24"), Gateway: netip.MustParseAddr("10.55.0.254"), IPRange: netip.MustParsePrefix("10.55.0.128/30"),
			AuxAddress: map[string]netip.Addr{"router": netip.MustParseAddr("10.55.0.129")},
		}}},
	})
	must(t, err)
	link, err := netlink.LinkByName("app0")
	must(t, err)
	if link.Attrs().MTU != 1400 {
		t.Errorf("bridge has MTU %d", link.Attrs().MTU)
	}
	join := func(r *EndpointRequest) { r.Network = netID[:8] }
	first := d.guest("c1", join)
	if first.Address.String() != "10.55.0.128/24" || first.Gateway.String() != "10.55.0.254" || first.MAC.String() != "02:42:0a:37:00:80" {
		t.Errorf("endpoint %+v", first)
	}
	fixed := d.guest("c2", func(r *EndpointRequest) {
		join(r)
		r.IPv4, r.MAC = netip.MustParseAddr("10.55.0.7"), mobynetwork.HardwareAddr{2, 1, 1, 1, 1, 1}
	})
	seen, err := in(t, d.ns("c2"), func() (*netlink.LinkAttrs, error) {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return nil, err
		}
		return l.Attrs(), nil
	})
	must(t, err)
	if fixed.Address.Addr().String() != "10.55.0.7" || seen.HardwareAddr.String() != "02:01:01:01:01:01" || seen.MTU != 1400 {
		t.Errorf("endpoint %v, interface %v, MTU %d", fixed.Address, seen.HardwareAddr, seen.MTU)
	}
	_, err = d.tryGuest("c3", func(r *EndpointRequest) { join(r); r.IPv4 = first.Address.Addr() })
	wantError(t, err, errdefs.ErrPermissionDenied, "Address already in use")
	_, err = d.tryGuest("c3", func(r *EndpointRequest) { join(r); r.IPv4 = netip.MustParseAddr("10.56.0.1") })
	wantError(t, err, errdefs.ErrInvalidArgument, "no configured subnet contains IP address")
	_, err = d.tryGuest("c1", join)
	wantError(t, err, errdefs.ErrPermissionDenied, "endpoint with name c1 already exists in network app")
	d.guest("c4", join)
	d.guest("c5", join)
	_, err = d.tryGuest("c6", join)
	wantError(t, err, errdefs.ErrResourceExhausted, "no available IPv4 addresses")

	n, err := d.Get("app")
	must(t, err)
	if n.Containers[id("c1")].IPv4Address.String() != "10.55.0.128/24" || n.Containers[id("c1")].Name != "c1" || n.Labels["a"] != "b" {
		t.Errorf("inspect: %+v", n)
	}
	wantError(t, d.Remove(t.Context(), "app"), errdefs.ErrPermissionDenied, "error while removing network: network app has active endpoints (name:\"c1\" id:\"")
	for _, name := range []string{"c1", "c2", "c3", "c4", "c5", "c6"} {
		must(t, d.DeleteSandbox(t.Context(), id(name)))
		must(t, d.DeleteSandbox(t.Context(), id(name)))
	}
	must(t, d.Remove(t.Context(), "app"))
	wantError(t, d.Remove(t.Context(), "app"), errdefs.ErrNotFound, "network app not found")
	if _, err := netlink.LinkByName("app0"); err == nil {
		t.Error("the bridge is still there")
	}
	wantNoLeaks(t, d)
}

func TestCreateRefuses(t *testing.T) {
	d := newDaemon(t, nil)
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "app", Options: map[string]string{optionBridge: "app0"}}))
	yes, no := true, false
	subnet := func(s string) *mobynetwork.IPAM {
		return &mobynetwork.IPAM{Config: []mobynetwork.IPAMConfig{{Subnet: netip.MustParsePrefix(s)}}}
	}
	for _, test := range []struct {
		req   mobynetwork.CreateRequest
		class error
		text  string
	}{
		{mobynetwork.CreateRequest{Name: "app"}, errdefs.ErrConflict, "network with name app already exists"},
		{mobynetwork.CreateRequest{Name: "bridge"}, errdefs.ErrPermissionDenied, "operation is not permitted on predefined bridge network"},
		{mobynetwork.CreateRequest{Name: " "}, errdefs.ErrInvalidArgument, "name is empty"},
		{mobynetwork.CreateRequest{Name: "a/b"}, errdefs.ErrInvalidArgument, "invalid network name"},
		{mobynetwork.CreateRequest{Name: "x", Driver: "macvlan"}, errdefs.ErrNotImplemented, "macvlan"},
		{mobynetwork.CreateRequest{Name: "x", Driver: "host"}, errdefs.ErrPermissionDenied, "only one instance of \"host\" network is allowed"},
		{mobynetwork.CreateRequest{Name: "x", Driver: "foo"}, errdefs.ErrNotFound, "foo"},
		{mobynetwork.CreateRequest{Name: "x", Scope: "swarm"}, errdefs.ErrNotImplemented, "swarm"},
		{mobynetwork.CreateRequest{Name: "x", EnableIPv6: &yes}, errdefs.ErrNotImplemented, "IPv6"},
		{mobynetwork.CreateRequest{Name: "x", EnableIPv4: &no}, errdefs.ErrNotImplemented, "IPv4"},
		{mobynetwork.CreateRequest{Name: "x", Ingress: true}, errdefs.ErrNotImplemented, "ingress"},
		{mobynetwork.CreateRequest{Name: "x", ConfigOnly: true}, errdefs.ErrNotImplemented, "config-only"},
		{mobynetwork.CreateRequest{Name: "x", ConfigFrom: &mobynetwork.ConfigReference{Network: "y"}}, errdefs.ErrNotImplemented, "config-from"},
		{mobynetwork.CreateRequest{Name: "x", Options: map[string]string{"com.docker.network.foo": "1"}}, errdefs.ErrNotImplemented, "com.docker.network.foo"},
		{mobynetwork.CreateRequest{Name: "x", Options: map[string]string{optionMTU: "a lot"}}, errdefs.ErrInvalidArgument, optionMTU},
		{mobynetwork.CreateRequest{Name: "x", Options: map[string]string{optionMTU: "5"}}, errdefs.ErrInvalidArgument, "invalid MTU"},
		{mobynetwork.CreateRequest{Name: "x", Options: map[string]string{optionICC: "maybe"}}, errdefs.ErrInvalidArgument, optionICC},
		{mobynetwork.CreateRequest{Name: "x", Options: map[string]string{optionBridge: "a-name-that-is-too-long"}}, errdefs.ErrInvalidArgument, "invalid bridge name"},
		{mobynetwork.CreateRequest{Name: "x", Options: map[string]string{optionBridge: "app0"}}, errdefs.ErrPermissionDenied, "networks have same bridge name"},
		{mobynetwork.CreateRequest{Name: "x", Options: map[string]string{optionBridge: "lo"}}, errdefs.ErrFailedPrecondition, "not a bridge"},
		{mobynetwork.CreateRequest{Name: "x", IPAM: subnet("172.17.8.0/24")}, errdefs.ErrPermissionDenied, "Pool overlaps with other one on this address space"},
		{mobynetwork.CreateRequest{Name: "x", IPAM: subnet("fd00::/64")}, errdefs.ErrNotImplemented, "IPv6"},
		{mobynetwork.CreateRequest{Name: "x", IPAM: subnet("10.0.0.0/31")}, errdefs.ErrInvalidArgument, "invalid subnet"},
		{mobynetwork.CreateRequest{Name: "x", IPAM: subnet("127.5.0.0/16")}, errdefs.ErrInvalidArgument, "invalid subnet"},
		{mobynetwork.CreateRequest{Name: "x", IPAM: &mobynetwork.IPAM{Driver: "dhcp"}}, errdefs.ErrNotImplemented, "dhcp"},
		{mobynetwork.CreateRequest{Name: "x", IPAM: &mobynetwork.IPAM{Options: map[string]string{"k": "v"}}}, errdefs.ErrNotImplemented, "\"k\""},
		{mobynetwork.CreateRequest{Name: "x", IPAM: &mobynetwork.IPAM{Config: []mobynetwork.IPAMConfig{{
			Subnet: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.2.0.1"),
		}}}}, errdefs.ErrInvalidArgument, "gateway 10.2.0.1"},
		{mobynetwork.CreateRequest{Name: "x", IPAM: &mobynetwork.IPAM{Config: []mobynetwork.IPAMConfig{{
			Subnet: netip.MustParsePrefix("10.1.0.0/24"), IPRange: netip.MustParsePrefix("10.1.1.0/28"),
		}}}}, errdefs.ErrInvalidArgument, "range 10.1.1.0/28"},
	} {
		_, _, err := d.Create(t.Context(), test.req)
		wantError(t, err, test.class, test.text)
	}
	if all, err := d.List(nil); err != nil || len(all) != 4 {
		t.Errorf("%d networks are left, want 4: %v", len(all), err)
	}
	wantNoLeaks(t, d)
}

func TestPortConflicts(t *testing.T) {
	d := newDaemon(t, nil)
	d.guest("first", publish("8080:80/tcp", "127.0.0.1:9000:80/tcp"))
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:7000")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	for _, binding := range []string{"8080:80/tcp", "127.0.0.1:8080:80/tcp", "9000:80/tcp", "7000:80/tcp", "8080-8080:1/tcp"} {
		e, err := d.tryGuest("second", publish("6000:60/tcp", binding))
		if err == nil {
			t.Errorf("%s was given twice: %v", binding, e.Ports)
		}
		wantError(t, err, hostport.ErrInUse, "failed: port is already allocated")
	}
	_, err = d.tryGuest("second", publish("8080:80/tcp"))
	wantError(t, err, nil, "driver failed programming external connectivity on endpoint second (")
	wantError(t, err, nil, "): Bind for 0.0.0.0:8080 failed: port is already allocated")
	_, err = d.tryGuest("second", publish("10.1.2.3:80:80/tcp"))
	wantError(t, err, unix.EADDRNOTAVAIL, "Bind for 10.1.2.3:80 failed")

	// The other way round: what is published cannot be taken by the host's programs.
	if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", ":8080"); err == nil {
		t.Error("a program of the host could listen on a published port")
		_ = l.Close()
	}
	// A failed attempt holds nothing, and the first one's ports are free after it.
	d.guest("third", publish("6000:60/tcp", "8080:80/udp"))
	must(t, d.DeleteSandbox(t.Context(), id("first")))
	d.guest("fourth", publish("8080:80/tcp", "9000:80/tcp"))
}

func TestPortChoice(t *testing.T) {
	d := newDaemon(t, nil)
	d.guest("holder", publish("8000:80/tcp"))
	e := d.guest("c", func(r *EndpointRequest) {
		r.Ports = portMap("8000-8002:80/tcp", "0:81/tcp")
		r.Exposed = mobynetwork.PortSet{mobynetwork.MustParsePort("82/tcp"): {}, mobynetwork.MustParsePort("83/udp"): {}}
		r.PublishAll = true
	})
	port := func(s string) mobynetwork.PortBinding { return e.Ports[mobynetwork.MustParsePort(s)][0] }
	if port("80/tcp").HostPort != "8001" || port("80/tcp").HostIP.String() != "0.0.0.0" {
		t.Errorf("of the range 8000-8002 got %+v", port("80/tcp"))
	}
	for _, p := range []string{"81/tcp", "82/tcp", "83/udp"} {
		if number, _, err := parseHostPort(port(p).HostPort); err != nil || number < 1024 {
			t.Errorf("%s got %+v", p, port(p))
		}
	}
	shown := d.guest("exposed", func(r *EndpointRequest) {
		r.Exposed = mobynetwork.PortSet{mobynetwork.MustParsePort("82/tcp"): {}}
	})
	if bindings, there := shown.Ports[mobynetwork.MustParsePort("82/tcp")]; !there || bindings != nil {
		t.Errorf("an exposed port is shown as %v, %v", bindings, there)
	}
	for _, bad := range []string{"x:80/tcp", "70000:80/tcp", "90-80:80/tcp", "1:80/sctp"} {
		if _, err := d.tryGuest("bad", publish(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestHostAndNone(t *testing.T) {
	d := newDaemon(t, nil)
	for _, name := range []string{"host", "none"} {
		e, err := d.Connect(t.Context(), EndpointRequest{SandboxID: id(name), Network: name, ContainerName: name})
		must(t, err)
		if e.Address.IsValid() || e.Interface != "" {
			t.Errorf("%s: %+v", name, e)
		}
		n, err := d.Get(name)
		must(t, err)
		if n.Containers[id(name)].Name != name {
			t.Errorf("%s lists %v", name, n.Containers)
		}
		_, err = d.Connect(t.Context(), EndpointRequest{SandboxID: id(name), Network: "bridge", ContainerName: name})
		wantError(t, err, errdefs.ErrPermissionDenied, "container cannot be connected to multiple networks")
	}
	wantNoLeaks(t, d, id("host"), id("none"))
}

// The default route and the published ports move when their network goes.
func TestDisconnectHandsOver(t *testing.T) {
	d := newDaemon(t, nil)
	outside := neighbour(t)
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "second"}))
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "inner", Internal: true}))
	connect := func(network string) Endpoint {
		e, err := d.tryGuest("web", func(r *EndpointRequest) { r.Network, r.Ports = network, portMap("8080:80/tcp") })
		must(t, err)
		return e
	}
	if e := connect("inner"); e.Primary || len(e.Ports) != 0 {
		t.Errorf("the internal network publishes: %+v", e)
	}
	connect("bridge")
	if e := connect("second"); e.Primary || e.Interface != "eth2" {
		t.Errorf("the third endpoint is %+v", e)
	}
	serve(t, d.ns("web"), "web", "80")
	wantReach(t, outside, "10.99.0.1:8080", "web")
	must(t, d.Disconnect(t.Context(), id("web"), "bridge"))
	must(t, d.Disconnect(t.Context(), id("web"), "bridge"))
	wantReach(t, outside, "10.99.0.1:8080", "web")
	wantReach(t, "", "127.0.0.1:8080", "web")
	must(t, d.Disconnect(t.Context(), id("web"), "second"))
	wantBlocked(t, outside, "10.99.0.1:8080")
	d.guest("next", publish("8080:80/tcp"))
	wantNoLeaks(t, d, id("web"), id("next"))
}

// The endpoint with the highest priority, and among equals that of the first
// network by name, has the default route and the published ports, whatever the
// order in which they were connected.
func TestConnectTakesOver(t *testing.T) {
	d := newDaemon(t, nil)
	outside := neighbour(t)
	for _, name := range []string{"aa", "zz"} {
		must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: name}))
	}
	join := func(network string, priority int) Endpoint {
		return d.guest("web", func(r *EndpointRequest) {
			r.Network, r.GwPriority, r.Ports = network, priority, portMap("8080:80/tcp", "8053:53/udp")
		})
	}
	gateway := func() string {
		t.Helper()
		via, err := in(t, d.ns("web"), func() (string, error) {
			routes, err := netlink.RouteGet(net.IPv4(10, 99, 0, 2))
			if err != nil || len(routes) != 1 {
				return "", fmt.Errorf("%d routes: %w", len(routes), err)
			}
			all, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_DST)
			if len(all) != 1 {
				return "", fmt.Errorf("%d default routes", len(all))
			}
			return routes[0].Gw.String(), err
		})
		must(t, err)
		return via
	}
	check := func(want Endpoint) {
		t.Helper()
		if got := gateway(); got != want.Gateway.String() {
			t.Errorf("default route by %s, want %s of %s", got, want.Gateway, want.NetworkName)
		}
		wantReach(t, outside, "10.99.0.1:8080", "web")
		wantReach(t, "", "127.0.0.1:8080", "web")
		for _, e := range d.Endpoints(id("web")) {
			if has := len(e.Ports) > 0; has != (e.NetworkName == want.NetworkName) || e.Primary != has {
				t.Errorf("%s: primary %v, ports %v", e.NetworkName, e.Primary, e.Ports)
			}
		}
		wantNoLeaks(t, d, id("web"))
	}
	bridge := join("bridge", 0)
	serve(t, d.ns("web"), "web", "80")
	check(bridge)
	first := join("aa", 0)
	check(first)
	preferred := join("zz", 5)
	check(preferred)
	d.crash()
	d.open()
	d.restore(id("web"))
	check(preferred)
	must(t, d.Disconnect(t.Context(), id("web"), "bridge"))
	check(preferred)
	must(t, d.Disconnect(t.Context(), id("web"), "zz"))
	check(first)
	bridge = join("bridge", 1)
	check(bridge)

	// A connection that fails leaves the old one as it was.
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "broken"}))
	broken, err := d.lookup("broken")
	must(t, err)
	must(t, d.platform.RemoveBridge(t.Context(), broken.Bridge))
	if _, err := d.tryGuest("web", func(r *EndpointRequest) { r.Network, r.GwPriority = "broken", 9 }); err == nil {
		t.Error("connected to a network without a bridge")
	}
	check(bridge)
}

func TestThirtyAtOnce(t *testing.T) {
	d := newDaemon(t, nil)
	var wait sync.WaitGroup
	for round := range 2 {
		for i := range 30 {
			wait.Go(func() {
				name := fmt.Sprintf("c%d-%d", round, i)
				if _, err := d.tryGuest(name, func(r *EndpointRequest) { r.Ports = portMap("0:80/tcp") }); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := d.DeleteSandbox(t.Context(), id(name)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range 5 {
			wait.Go(func() {
				name := fmt.Sprintf("net%d", i)
				if _, _, err := d.Create(t.Context(), mobynetwork.CreateRequest{Name: name}); err != nil {
					t.Error(err)
				} else if err := d.Remove(t.Context(), name); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
	}
	seen, live := map[netip.Addr]bool{}, []string{}
	for _, s := range d.sandboxSnapshot() {
		live = append(live, s.ID)
		seen[s.Endpoints[0].Address.Addr()] = true
	}
	if len(seen) != 30 {
		t.Errorf("%d distinct addresses, want 30", len(seen))
	}
	wantNoLeaks(t, d, live...)
}

func TestTwoDaemons(t *testing.T) {
	one := newDaemon(t, func(c *Config) { c.BridgeName = "one0" })
	two := newDaemon(t, func(c *Config) { c.BridgeName = "two0" })
	a := one.guest("a", publish("8080:80/tcp"))
	b := two.guest("b", publish("8081:80/tcp"))
	serve(t, one.ns("a"), "a", "80")
	serve(t, two.ns("b"), "b", "80")
	if a.Address.Masked() == b.Address.Masked() {
		t.Fatalf("both use %s", a.Address.Masked())
	}
	wantReach(t, "", "127.0.0.1:8080", "a")
	wantReach(t, "", "127.0.0.1:8081", "b")
	wantBlocked(t, one.ns("a"), b.Address.Addr().String()+":80")
	two.restore(id("b"))
	wantReach(t, "", "127.0.0.1:8080", "a")
	wantNoLeaks(t, one, id("a"))
	wantNoLeaks(t, two, id("b"))
	_, err := two.tryGuest("c", publish("8080:80/tcp"))
	wantError(t, err, hostport.ErrInUse, "port is already allocated")
}

func BenchmarkStartStop(b *testing.B) {
	d := newDaemon(b, nil)
	for b.Loop() {
		d.guest("c", publish("8080:80/tcp"))
		must(b, d.DeleteSandbox(b.Context(), id("c")))
	}
}

func BenchmarkStart(b *testing.B) {
	d := newDaemon(b, nil)
	i := 0
	for b.Loop() {
		d.guest(fmt.Sprintf("c%d", i), publish("0:80/tcp"))
		i++
	}
}
