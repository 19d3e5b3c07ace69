package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/network/firewall"
	"slipway/network/hostport"
)

func TestRestoreAfterKill(t *testing.T) {
	d := newDaemon(t, nil)
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "second"}))
	outside := neighbour(t)
	web := d.guest("web", publish("8080:80/tcp"))
	d.guest("gated", func(r *EndpointRequest) { r.Ports, r.Gate = portMap("8082:80/tcp"), true })
	gone := d.guest("gone", func(r *EndpointRequest) { r.Network, r.Ports = "second", portMap("8081:80/tcp") })
	for _, name := range []string{"web", "gated", "gone"} {
		serve(t, d.ns(name), name, "80")
	}
	d.crash()
	wantReach(t, outside, "10.99.0.1:8080", "web") // while the daemon is away

	d.open()
	leaks, err := d.CheckLeaks(t.Context(), []string{id("web"), id("gated")})
	must(t, err)
	if len(leaks) != 4 { // namespace, interface, endpoint, redirection
		t.Errorf("before Restore: %q", leaks)
	}
	conn, err := nftables.New() // what a restart of the host's firewall service does
	must(t, err)
	conn.FlushRuleset()
	must(t, conn.Flush())
	d.restore(id("web"), id("gated"))
	wantNoLeaks(t, d, id("web"), id("gated"))
	wantReach(t, outside, "10.99.0.1:8080", "web")
	wantBlocked(t, outside, "10.99.0.1:8081")
	wantBlocked(t, outside, "10.99.0.1:8082")
	must(t, d.OpenPorts(t.Context(), id("gated")))
	wantReach(t, outside, "10.99.0.1:8082", "gated")
	if _, err := d.tryGuest("rival", publish("8080:80/tcp")); err == nil {
		t.Error("the port of a surviving container was given away")
	}
	if got := d.Endpoints(id("web")); len(got) != 1 || got[0].ID != web.ID {
		t.Errorf("endpoints after restore: %+v", got)
	}
	again := d.guest("again", func(r *EndpointRequest) { r.Network, r.Ports = "second", portMap("8081:80/tcp") })
	if again.Address != gone.Address {
		t.Errorf("the lease of a container that ended was kept: %v, %v", gone.Address, again.Address)
	}
}

func TestRestoreAfterReboot(t *testing.T) {
	d := newDaemon(t, nil)
	d.guest("web", publish("8080:80/tcp"))
	d.crash()
	must(t, unix.Unmount(d.ns("web"), unix.MNT_DETACH))
	must(t, os.RemoveAll(d.cfg.ExecRoot))
	link, err := netlink.LinkByName(DefaultBridge)
	must(t, err)
	must(t, netlink.LinkDel(link))
	d.open()
	d.restore()
	wantNoLeaks(t, d)
	d.guest("web", publish("8080:80/tcp"))
	serve(t, d.ns("web"), "web", "80")
	wantReach(t, "", "127.0.0.1:8080", "web")
}

func TestPlantedLeaksAreFound(t *testing.T) {
	d := newDaemon(t, nil)
	d.guest("web", publish("8080:80/tcp"))
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "front"}))
	d.guest("named", func(r *EndpointRequest) { r.Network = "front" })
	live := []string{id("web"), id("named")}
	ctx := t.Context()
	table := d.platform.filter.(*firewall.Table)
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "vethlost"})
	veth.PeerName = "vethlostpeer"
	bridge, err := netlink.LinkByName(DefaultBridge)
	must(t, err)
	veth.MasterIndex = bridge.Attrs().Index
	lost := netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br-lost"}}
	f := firewall.Forward{Protocol: hostport.TCP, Host: netip.MustParseAddrPort("0.0.0.0:99"), To: netip.MustParseAddrPort("172.17.0.9:9")}
	stray := firewall.Network{Bridge: "br-x", Subnet: netip.MustParsePrefix("10.77.0.0/24")}
	for _, plant := range []struct {
		text   string
		do, un func() error
	}{
		{"network namespace", func() error { _, err := d.platform.CreateSandbox(ctx, "lost"); return err }, func() error { return d.platform.DeleteSandbox(ctx, "lost") }},
		{"interface vethlost", func() error { return netlink.LinkAdd(veth) }, func() error { return netlink.LinkDel(veth) }},
		{"bridge br-lost", func() error {
			return errors.Join(netlink.LinkAdd(&lost), netlink.LinkSetAlias(&lost, "slipway:"+DefaultBridge))
		}, func() error { return netlink.LinkDel(&lost) }},
		{"firewall redirects", func() error { return table.Open(ctx, []firewall.Forward{f}) }, func() error { return table.Close(ctx, []firewall.Forward{f}) }},
		{"does not redirect", func() error { return table.Close(ctx, d.Endpoints(id("web"))[0].forwards()) }, func() error { return table.Open(ctx, d.Endpoints(id("web"))[0].forwards()) }},
		{"firewall knows bridge br-x", func() error { return table.AddNetwork(ctx, stray) }, func() error { return table.RemoveNetwork(ctx, stray) }},
		{
			"has no name server", func() error { d.stopResolver(ctx, id("named")); return nil },
			func() error { return d.ensureResolver(ctx, d.sandbox(id("named"))) },
		},
		{"belongs to container dead", func() error {
			return d.storeSandbox(sandboxRecord{Version: 1, ID: "dead", Endpoints: []Endpoint{{ID: newID(), NetworkName: "bridge", Address: netip.MustParsePrefix("172.17.0.200/16")}}})
		}, func() error { return d.storeSandbox(sandboxRecord{ID: "dead"}) }},
	} {
		must(t, plant.do())
		leaks, err := d.CheckLeaks(ctx, live)
		must(t, err)
		if len(leaks) != 1 || !strings.Contains(leaks[0], plant.text) {
			t.Errorf("planted %q, found %q", plant.text, leaks)
		}
		must(t, plant.un())
		wantNoLeaks(t, d, live...)
	}
}

func TestFailedConnectLeavesNothing(t *testing.T) {
	d := newDaemon(t, nil)
	ctx := t.Context()
	// Without a namespace, the veth pair fails, after record and ports.
	_, err := d.Connect(ctx, EndpointRequest{SandboxID: id("x"), Network: "bridge", ContainerName: "x", Ports: portMap("8080:80/tcp")})
	wantError(t, err, nil, "network namespace of")
	wantNoLeaks(t, d)
	if all, err := d.sandboxRecords.All(); err != nil || len(all) != 0 {
		t.Errorf("records left: %v, %v", all, err)
	}
	cancelled, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("the client went away"))
	if _, err := d.Connect(cancelled, EndpointRequest{SandboxID: id("x"), Network: "bridge"}); err == nil {
		t.Error("connected for a client that is gone")
	}
	e := d.guest("y", publish("8080:80/tcp"))
	if e.Address.Addr().String() != "172.17.0.3" && e.Address.Addr().String() != "172.17.0.2" {
		t.Errorf("address %v", e.Address)
	}
}

func TestDefaultNetworkFollowsTheConfiguration(t *testing.T) {
	d := newDaemon(t, func(c *Config) { c.BIP = "10.7.0.1/24" })
	d.guest("web", nil)
	d.crash()
	d.cfg.BIP, d.cfg.FixedCIDR = "10.8.0.5/24", "10.8.0.64/26"
	d.open()
	d.restore(id("web"))
	if e := d.guest("x", nil); !strings.HasPrefix(e.Address.String(), "10.7.0.") {
		t.Errorf("address %s while the old subnet is in use", e.Address)
	}
	d.crash()
	d.open()
	d.restore()
	if e := d.guest("y", nil); e.Address.String() != "10.8.0.64/24" || e.Gateway.String() != "10.8.0.5" {
		t.Errorf("address %s, gateway %s", e.Address, e.Gateway)
	}
}
