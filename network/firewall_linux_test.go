package network

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	mobynetwork "github.com/moby/moby/api/types/network"
)

// A rule set that somebody flushed is whole again after the next change.
func TestFirewallHeals(t *testing.T) {
	d := newDaemon(t, nil)
	d.guest("web", publish("8080:80/tcp"))
	serve(t, d.ns("web"), "web", "80")
	conn, err := nftables.New()
	must(t, err)
	conn.FlushRuleset()
	must(t, conn.Flush())
	wantBlocked(t, "", "127.0.0.1:8080")
	d.guest("other", publish("8081:80/tcp"))
	wantReach(t, "", "127.0.0.1:8080", "web")
	wantNoLeaks(t, d, id("web"), id("other"))
}

// dropForwards makes a chain that drops what passes through the host.
func dropForwards(t *testing.T, family nftables.TableFamily, table, chain string) (remove func()) {
	t.Helper()
	conn, err := nftables.New()
	must(t, err)
	policy := nftables.ChainPolicyDrop
	tab := conn.AddTable(&nftables.Table{Family: family, Name: table})
	conn.AddChain(&nftables.Chain{
		Name: chain, Table: tab, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &policy,
	})
	must(t, conn.Flush())
	return func() { conn.DelTable(tab); must(t, conn.Flush()) }
}

func (d *daemon) conflicts() []string {
	d.t.Helper()
	found, err := d.Conflicts(d.t.Context())
	must(d.t, err)
	return found
}

// What Docker does to the host's firewall, before and after we start.
func TestIPTablesForwardIsJoined(t *testing.T) {
	remove := dropForwards(t, nftables.TableFamilyIPv4, "filter", "FORWARD")
	defer func() { remove() }()
	d := newDaemon(t, nil)
	outside := neighbour(t)
	serve(t, outside, "outside", "80")
	d.guest("web", publish("8080:80/tcp"))
	serve(t, d.ns("web"), "web", "80")
	serve(t, d.ns("web"), "secret", "81")
	check := func() {
		t.Helper()
		wantReach(t, outside, "10.99.0.1:8080", "web")
		wantReach(t, d.ns("web"), "10.99.0.2:80", "outside")
		wantBlocked(t, outside, d.Endpoints(id("web"))[0].Address.Addr().String()+":81")
		if found := d.conflicts(); len(found) != 0 {
			t.Errorf("conflicts: %q", found)
		}
	}
	check()
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "second"}))
	d.guest("far", func(r *EndpointRequest) { r.Network = "second" })
	wantReach(t, d.ns("far"), "10.99.0.2:80", "outside")

	ctx, cancel := context.WithCancelCause(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- d.Watch(ctx) }()
	time.Sleep(100 * time.Millisecond) // until it listens
	remove()
	wantReach(t, outside, "10.99.0.1:8080", "web")
	remove = dropForwards(t, nftables.TableFamilyIPv4, "filter", "FORWARD")
	for deadline := time.Now().Add(5 * time.Second); len(d.conflicts()) != 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	check()
	cancel(errors.New("enough"))
	must(t, <-watched)

	must(t, d.DeleteSandbox(t.Context(), id("far")))
	must(t, d.Remove(t.Context(), "second"))
	conn, err := nftables.New()
	must(t, err)
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"}
	rules, err := conn.GetRules(table, &nftables.Chain{Name: "FORWARD", Table: table})
	must(t, err)
	if len(rules) != 2 {
		t.Errorf("%d rules of ours are in the chain, want 2, for the one bridge left", len(rules))
	}
}

func TestOthersAreNamed(t *testing.T) {
	d := newDaemon(t, nil)
	defer dropForwards(t, nftables.TableFamilyINet, "firewall", "forward")()
	if found := d.conflicts(); len(found) != 1 || found[0] != "inet firewall forward" {
		t.Errorf("found %q", found)
	}
}

// Flushed rules come back without any operation of ours.
func TestWatchRepairs(t *testing.T) {
	d := newDaemon(t, nil)
	d.guest("web", publish("8080:80/tcp"))
	serve(t, d.ns("web"), "web", "80")
	ctx, cancel := context.WithCancelCause(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- d.Watch(ctx) }()
	time.Sleep(100 * time.Millisecond) // until it listens
	conn, err := nftables.New()
	must(t, err)
	for _, flush := range []func(){
		conn.FlushRuleset,
		func() {
			conn.FlushTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName(DefaultBridge)})
		},
	} {
		flush()
		must(t, conn.Flush())
		wantBlocked(t, "", "127.0.0.1:8080")
		time.Sleep(time.Second)
		wantReach(t, "", "127.0.0.1:8080", "web")
	}
	cancel(errors.New("enough"))
	must(t, <-watched)
	wantNoLeaks(t, d, id("web"))
}

// Lost members of sets and maps come back as well, and nothing is rebuilt for no reason.
func TestWatchRepairsElements(t *testing.T) {
	d := newDaemon(t, nil)
	outside := neighbour(t)
	serve(t, outside, "outside", "80")
	d.guest("web", publish("8080:80/tcp", "127.0.0.1:8081:80/tcp", "5353:53/udp"))
	serve(t, d.ns("web"), "web", "80")
	for _, name := range []string{"second", "third"} { // subnets side by side
		must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: name}))
	}
	must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: "inner", Internal: true}))
	ctx, cancel := context.WithCancelCause(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- d.Watch(ctx) }()
	time.Sleep(100 * time.Millisecond) // until it listens
	conn, err := nftables.New()
	must(t, err)
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName(DefaultBridge)}
	works := func() bool {
		for _, address := range []string{"127.0.0.1:8080", "127.0.0.1:8081"} {
			if got, _, err := ask(t, "", address, shortly); err != nil || got != "web" {
				return false
			}
		}
		got, seen, err := ask(t, d.ns("web"), "10.99.0.2:80", shortly)
		return err == nil && got == "outside" && seen == "10.99.0.1"
	}
	for _, name := range []string{"any_ports", "addr_ports", "masq", "bridges"} {
		set, err := conn.GetSetByName(table, name)
		must(t, err)
		conn.FlushSet(set)
		must(t, conn.Flush())
		if works() {
			t.Errorf("all works without set %s", name)
		}
		deadline := time.Now().Add(patience)
		for !works() && time.Now().Before(deadline) {
			time.Sleep(50 * time.Millisecond)
		}
		if !works() {
			t.Fatalf("set %s was emptied and not filled again", name)
		}
	}

	// A chain of somebody else's in the table would go with a rebuild.
	conn.AddChain(&nftables.Chain{Name: "guest", Table: table})
	must(t, conn.Flush())
	d.guest("other", publish("8082:80/tcp"))
	time.Sleep(time.Second)
	chains, err := conn.ListChainsOfTableFamily(table.Family)
	must(t, err)
	if !slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Name == "guest" }) {
		t.Error("the table was rebuilt, though nothing was missing")
	}
	cancel(errors.New("enough"))
	must(t, <-watched)
	wantNoLeaks(t, d, id("web"), id("other"))
}
