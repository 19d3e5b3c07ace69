//go:build linux

package integration

import (
	"os"
	"slices"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

// finds wants a program in the container to reach another by name, with the
// resolver of its C library, and that nslookup agrees.
func finds(t *testing.T, container, name, address string) {
	t.Helper()
	got := docker(t, "exec", container, "sh", "-c", "ping -c1 -w5 "+name+" | head -1; nslookup "+name+" | awk '/^Address/ {a = $NF} END {print a}'")
	if l := lines(got); len(l) != 2 || !strings.Contains(l[0], "("+address+")") || l[1] != address {
		t.Errorf("%s looks %s up: %q, want %s", container, name, got, address)
	}
}

func lost(t *testing.T, container, name string) {
	t.Helper()
	if r := engine(t).Docker("exec", container, "ping", "-c1", "-w1", name); r.Code == 0 || !strings.Contains(r.Stderr, "bad address") {
		t.Errorf("%s finds %s: %s%s", container, name, r.Stdout, r.Stderr)
	}
}

func TestNamesOnNetworks(t *testing.T) {
	t.Parallel()
	network, other := networkOn(t, engine(t)), networkOn(t, engine(t), "--internal")
	web := idle(t, "--network", network, "--hostname", "web-host", "--network-alias", "service", "--network-alias", "both")
	second := idle(t, "--network", network, "--network-alias", "both")
	client := idle(t, "--network", network)
	inner, innerPeer := idle(t, "--network", other), idle(t, "--network", other)
	address := on(t, web, network, ".IPAddress")
	for _, name := range []string{web, web + "." + network, inspect(t, web, ".Id")[:12], "web-host", "service", "Service"} {
		finds(t, client, name, address)
	}
	finds(t, web, web, address)
	lost(t, client, inner)
	lost(t, inner, web)
	finds(t, inner, innerPeer, on(t, innerPeer, other, ".IPAddress"))
	lost(t, idle(t), web) // the default bridge knows no names

	want := []string{address, on(t, second, network, ".IPAddress")}
	slices.Sort(want)
	both := func() []string {
		got := lines(docker(t, "exec", client, "sh", "-c", "nslookup both | awk '/^Name/ {n = 1} n && /^Address/ {print $NF}' | sort -u"))
		return got
	}
	if got := both(); !slices.Equal(got, want) {
		t.Errorf("both: %v, want %v", got, want)
	}
	if got := docker(t, "exec", client, "nslookup", address); !strings.Contains(got, "name = "+web+"."+network) {
		t.Errorf("name of %s: %s", address, got)
	}

	// Names change with the containers.
	docker(t, "rename", web, web+"-new")
	removeLater(t, engine(t), web+"-new")
	finds(t, client, web+"-new", address)
	lost(t, client, web)
	docker(t, "stop", "-t", "0", second)
	if got := both(); !slices.Equal(got, []string{address}) {
		t.Errorf("both, when one has stopped: %v", got)
	}
	docker(t, "network", "connect", "--alias", "late", other, web+"-new")
	finds(t, inner, "late", on(t, web+"-new", other, ".IPAddress"))
	docker(t, "network", "disconnect", other, web+"-new")
	lost(t, inner, "late")
}

// TestGlibcNames: the host's getent, with the C library that it is linked to.
func TestGlibcNames(t *testing.T) {
	t.Parallel()
	network := networkOn(t, engine(t))
	web := idle(t, "--network", network)
	got := run(t, "--network", network, "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "-v", "/usr/lib:/usr/lib:ro", "-v", "/usr/bin/getent:/getent:ro",
		"busybox", "sh", "-c", "echo hosts: files dns > /etc/nsswitch.conf; /getent ahosts "+web+" | awk '{print $1}' | sort -u")
	if want := on(t, web, network, ".IPAddress"); got != want {
		t.Errorf("got %q, want %s", got, want)
	}
}

// TestResolverFile: what /etc/resolv.conf says on a network with names, and what is
// asked elsewhere for other names.
func TestResolverFile(t *testing.T) {
	t.Parallel()
	network := networkOn(t, engine(t))
	got := run(t, "--network", network, "--dns", "192.0.2.7", "--dns-search", "example.org", "--dns-option", "timeout:1", "busybox", "cat", "/etc/resolv.conf")
	for _, want := range []string{"nameserver 127.0.0.11\n", "search example.org\n", "options timeout:1 ndots:0\n", "# ExtServers: [192.0.2.7]"} {
		if !strings.Contains(got+"\n", want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	got = run(t, "--network", network, "--dns-option", "ndots:2", "busybox", "grep", "options", "/etc/resolv.conf")
	if got != "options ndots:2" {
		t.Errorf("with ndots: %q", got)
	}
	got = run(t, "--network", network, "--add-host", "gate:host-gateway", "busybox", "grep", "gate", "/etc/hosts")
	if want := docker(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"); got != want+"\tgate" {
		t.Errorf("host-gateway: %q, want %s", got, want)
	}
	// A file that was edited inside is left alone by a connect.
	name := idle(t)
	docker(t, "exec", name, "sh", "-c", "echo nameserver 192.0.2.1 > /etc/resolv.conf; echo 192.0.2.9 mine >> /etc/hosts")
	docker(t, "network", "connect", network, name)
	docker(t, "network", "disconnect", network, name)
	if got := docker(t, "exec", name, "sh", "-c", "cat /etc/resolv.conf; grep -c mine /etc/hosts"); got != "nameserver 192.0.2.1\n1" {
		t.Errorf("edited files: %q", got)
	}
}

// TestForwardedNames: a server in a container answers, on the network's port 53, for
// the names that no network knows, and is asked from the container of the query.
func TestForwardedNames(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	network := networkOn(t, engine(t))
	resolver := background(t, "--network", network, "-v", self+":/helper:ro", "-e", helperEnv+"=name-server", "busybox", "/helper")
	client := idle(t, "--network", network, "--dns", on(t, resolver, network, ".IPAddress"))
	testutil.Eventually(t, "the name server answers", func() bool {
		return engine(t).Docker("exec", client, "nslookup", "example.org").Code == 0
	})
	got := docker(t, "exec", client, "sh", "-c", "nslookup example.org | awk '/^Address/ {a = $NF} END {print a}'")
	if want := on(t, client, network, ".IPAddress"); got != want { // it answers with the asker's address
		t.Errorf("got %q, want %s", got, want)
	}
	finds(t, client, resolver, on(t, resolver, network, ".IPAddress"))
}

// TestNetworkLinks: --link on a network of one's own is an alias for one container.
func TestNetworkLinks(t *testing.T) {
	t.Parallel()
	network := networkOn(t, engine(t))
	db, app, other := idle(t, "--network", network), unique(t), idle(t, "--network", network)
	removeLater(t, engine(t), app)
	docker(t, "run", "-d", "--name", app, "--network", network, "--link", db+":storage", "busybox", "sleep", "600")
	address := on(t, db, network, ".IPAddress")
	finds(t, app, "storage", address)
	finds(t, app, db, address)
	lost(t, other, "storage")
	if got := on(t, app, network, ".Links"); got != "["+db+":storage]" {
		t.Errorf("links: %s", got)
	}
	docker(t, "network", "disconnect", network, other)
	docker(t, "network", "connect", "--link", db+":storage", network, other)
	finds(t, other, "storage", address)
	dockerFails(t, "could not get container for nobody: No such container: nobody", "create", "--network", network, "--link", "nobody:x", "busybox")
	dockerFails(t, "--link (HostConfig.Links) is not supported yet", "run", "--rm", "--link", db, "busybox", "true")
}

// TestSeveralNetworks: a container is created on more than one network.
func TestSeveralNetworks(t *testing.T) {
	t.Parallel()
	front, back := networkOn(t, engine(t)), networkOn(t, engine(t))
	web, db := idle(t, "--network", front), idle(t, "--network", back)
	app := idle(t, "--network", front, "--network", "name="+back+",alias=middle,gw-priority=2")
	finds(t, app, web, on(t, web, front, ".IPAddress"))
	finds(t, app, db, on(t, db, back, ".IPAddress"))
	finds(t, db, "middle", on(t, app, back, ".IPAddress"))
	lost(t, web, "middle")
	if got, want := docker(t, "exec", app, "sh", "-c", "ip route | awk '/default/ {print $3}'"), on(t, app, back, ".Gateway"); got != want {
		t.Errorf("default route by %s, want %s", got, want)
	}
}
