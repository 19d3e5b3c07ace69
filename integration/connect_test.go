//go:build linux

package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"
)

// networkOn creates a network that is removed at the end of the test, which must be
// after its containers.
func networkOn(t *testing.T, d *testutil.Daemon, options ...string) string {
	t.Helper()
	name := unique(t)
	t.Cleanup(func() {
		if d.Running() {
			d.Docker("network", "rm", name) // a test may have removed it
		}
	})
	d.MustDocker(t, append(append([]string{"network", "create"}, options...), name)...)
	return name
}

// on is a field of what a container has on a network.
func on(t *testing.T, container, network, field string) string {
	t.Helper()
	return inspect(t, container, fmt.Sprintf("with index .NetworkSettings.Networks %q}}{{%s}}{{end", network, field))
}

func TestConnectRunning(t *testing.T) {
	t.Parallel()
	network := networkOn(t, engine(t), "--subnet", "10.251.78.0/24")
	name := server(t, "--hostname", "srv", "-p", "127.0.0.1::80")
	port := strings.TrimPrefix(docker(t, "port", name, "80/tcp"), "127.0.0.1:")
	answers(t, "127.0.0.1:"+port, "srv")

	docker(t, "network", "connect", "--ip", "10.251.78.40", "--alias", "storage", "--gw-priority", "1", network, name)
	if got := on(t, name, network, ".IPAddress"); got != "10.251.78.40" {
		t.Errorf("address %q", got)
	}
	if got := on(t, name, network, ".Aliases}} {{.GwPriority}} {{.IPAMConfig.IPv4Address"); got != "[storage] 1 10.251.78.40" {
		t.Errorf("settings: %q", got)
	}
	if got := docker(t, "network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}", network); got != name+" 10.251.78.40/24" {
		t.Errorf("the network has %q", got)
	}
	inside := func(script string) string { t.Helper(); return docker(t, "exec", name, "sh", "-c", script) }
	if got := inside("ip -o -4 addr show dev eth1 | awk '{print $4}'; ip route | awk '/default/ {print $3, $5}'"); got != "10.251.78.40/24\n10.251.78.1 eth1" {
		t.Errorf("inside: %q", got)
	}
	if got := inside("grep srv /etc/hosts | wc -l; grep nameserver /etc/resolv.conf"); got != "2\nnameserver 127.0.0.11" {
		t.Errorf("files: %q", got)
	}
	answers(t, "10.251.78.40:80", "srv")
	answers(t, "127.0.0.1:"+port, "srv") // by the new gateway
	dockerFails(t, "endpoint with name "+name+" already exists in network "+network, "network", "connect", network, name)

	// It keeps both over a restart.
	docker(t, "restart", "-t", "0", name)
	if got := inside("ip -o -4 addr | grep -c eth; ip route | awk '/default/ {print $3}'"); got != "2\n10.251.78.1" {
		t.Errorf("after a restart: %q", got)
	}
	port = strings.TrimPrefix(docker(t, "port", name, "80/tcp"), "127.0.0.1:")
	docker(t, "network", "disconnect", network, name)
	if got := on(t, name, network, ".IPAddress"); got != "" {
		t.Errorf("still has %q", got)
	}
	if got := inside("ip -o -4 addr | grep -c eth; ip route | awk '/default/ {print $5}'; grep srv /etc/hosts | wc -l"); got != "1\neth0\n1" && got != "1\neth1\n1" {
		t.Errorf("after the disconnect: %q", got)
	}
	answers(t, "127.0.0.1:"+port, "srv")
	dockerFails(t, "is not connected to network "+network, "network", "disconnect", network, name)

	// Without any network it has nothing, and can have one again.
	docker(t, "network", "disconnect", "bridge", name)
	if got := inside("ls /sys/class/net") + docker(t, "port", name); got != "lo" {
		t.Errorf("without a network: %q", got)
	}
	if got := inspect(t, name, "len .NetworkSettings.Networks"); got != "0" {
		t.Errorf("networks: %s", got)
	}
	docker(t, "network", "connect", network, name)
	answers(t, strings.TrimSpace(on(t, name, network, ".IPAddress"))+":80", "srv")
	answers(t, docker(t, "port", name, "80/tcp"), "srv")
}

func TestConnectStopped(t *testing.T) {
	t.Parallel()
	network := networkOn(t, engine(t))
	name := createOnly(t, "busybox", "sh", "-c", "ip -o -4 addr | grep -c eth")
	docker(t, "network", "connect", "--alias", "storage", network, name)
	docker(t, "network", "connect", network, name) // as Docker: it is as it was
	docker(t, "network", "connect", "not-there-yet", name)
	if got := on(t, name, network, ".Aliases"); got != "[storage]" {
		t.Errorf("aliases %q", got)
	}
	dockerFails(t, "network not-there-yet not found", "start", "-a", name)
	docker(t, "network", "disconnect", "not-there-yet", name)
	if got := docker(t, "start", "-a", name); got != "2" {
		t.Errorf("interfaces: %q", got)
	}
	docker(t, "network", "disconnect", "bridge", name)
	if got := docker(t, "start", "-a", name); got != "1" {
		t.Errorf("interfaces: %q", got)
	}
	dockerFails(t, "is not connected to the network bridge", "network", "disconnect", "bridge", name)
}

func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	network := networkOn(t, engine(t))
	own := networkOn(t, engine(t), "--subnet", "10.251.79.0/24")
	running, none, host := idle(t), idle(t, "--network=none"), idle(t, "--network=host")
	stopped := createOnly(t, "busybox")
	for _, tc := range []struct {
		text string
		args []string
	}{
		{"No such container: nobody", []string{network, "nobody"}},
		{"endpoint nobody not found", []string{"-f", network, "nobody"}},
		{"network nowhere not found", []string{"nowhere", running}},
		{"cannot connect container to host network", []string{"host", running}},
		{"cannot be connected to multiple networks with one of the networks in private (none) mode", []string{"none", running}},
		{"cannot be connected to multiple networks with one of the networks in private (none) mode", []string{network, none}},
		{"container sharing network namespace with another container or host cannot be connected to any other network", []string{network, host}},
		{"user specified IP address is supported only when connecting to networks with user configured subnets", []string{"--ip", "ADDRESS", network, running}},
		{"no configured subnet contains IP address 10.1.1.1", []string{"--ip", "10.1.1.1", own, running}},
		{"no configured subnet contains IP address 10.1.1.1", []string{"--ip", "10.1.1.1", own, stopped}},
		{"Address already in use", []string{"--ip", "10.251.79.1", own, running}},
		{"network-scoped alias is supported only for containers in user defined networks", []string{"--alias", "x", "bridge", none}},
		{"--link-local-ip (IPAMConfig.LinkLocalIPs) is not supported yet", []string{"--link-local-ip", "169.254.1.1", network, running}},
		{"driver-opt of a network (DriverOpts) is not supported yet", []string{"--driver-opt", "a=b", network, running}},
		{"--ip6 (IPAMConfig.IPv6Address) is not supported yet", []string{"--ip6", "fd00::5", network, running}},
	} {
		command := "connect"
		if tc.args[0] == "-f" {
			command = "disconnect"
		}
		if i := slices.Index(tc.args, "ADDRESS"); i >= 0 {
			subnet := docker(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network)
			tc.args[i] = subnet + "00"
		}
		dockerFails(t, tc.text, append([]string{"network", command}, tc.args...)...)
	}
	dockerFails(t, "cannot disconnect container from host network", "network", "disconnect", "host", host)
	if got := inspect(t, running, "len .NetworkSettings.Networks"); got != "1" {
		t.Errorf("the container has %s networks", got)
	}
}

// TestConnectEvents: Docker's attributes, and none for a container that only will
// be connected.
func TestConnectEvents(t *testing.T) {
	t.Parallel()
	network := networkOn(t, engine(t))
	name, stopped := idle(t), createOnly(t, "busybox")
	began := time.Now()
	docker(t, "network", "connect", network, stopped)
	docker(t, "network", "connect", network, name)
	docker(t, "network", "disconnect", network, name)
	docker(t, "network", "disconnect", network, stopped)
	id, other := inspect(t, name, ".Id"), inspect(t, stopped, ".Id")
	stamp := func(at time.Time) string { return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond()) }
	got := docker(t, "events", "--since", stamp(began), "--until", stamp(time.Now()), "--filter", "network="+network,
		"--format", `{{.Type}} {{.Action}} {{index .Actor.Attributes "container"}} {{index .Actor.Attributes "name"}} {{index .Actor.Attributes "type"}}`)
	want := fmt.Sprintf("network connect %s %s bridge\nnetwork disconnect %s %s bridge\nnetwork disconnect %s %s bridge", id, network, id, network, other, network)
	if got != want {
		t.Errorf("events:\n%s\nwant\n%s", got, want)
	}
}

// TestConnectionsOutliveTheDaemon: what was connected while the container ran is
// there after the daemon's death, with the port that had moved.
func TestConnectionsOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	d.MustDocker(t, "network", "create", "front")
	name := backgroundOn(t, d, "--hostname", "srv", "-p", "127.0.0.1::80", "busybox", "sh", "-c", "while :; do hostname | nc -l -p 80 >/dev/null; done")
	d.MustDocker(t, "network", "connect", "--gw-priority", "3", "front", name)
	peer := backgroundOn(t, d, "--network", "front", "busybox", "sleep", "600")
	address := d.MustDocker(t, "port", name, "80/tcp")
	answers(t, address, "srv")
	d.Kill()
	answers(t, address, "srv")
	if r := testutil.Finish(d.DockerCommand(t.Context(), "version")); r.Code == 0 {
		t.Error("the daemon is not dead")
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	answers(t, address, "srv")
	find := func(container, name string) {
		t.Helper()
		if r := d.Docker("exec", container, "sh", "-c", "ping -c1 -w3 "+name+" >/dev/null && nslookup "+name); r.Code != 0 {
			t.Errorf("%s does not find %s: %s %s", container, name, r.Stdout, r.Stderr)
		}
	}
	find(peer, name)
	find(name, peer)
	d.MustDocker(t, "network", "disconnect", "front", name)
	answers(t, address, "srv")
	d.MustDocker(t, "rename", peer, peer+"-b")
	d.MustDocker(t, "network", "connect", "front", name)
	find(name, peer+"-b")
	d.MustDocker(t, "rename", peer+"-b", peer)
	checkFindsNothing(t, d)
}

// TestConnectAPI: what the client does not send.
func TestConnectAPI(t *testing.T) {
	t.Parallel()
	network, name := networkOn(t, engine(t)), idle(t)
	path := "/networks/" + network
	engine(t).API(t, http.MethodPost, path+"/connect", spec{"Container": name}, http.StatusOK, nil)
	engine(t).API(t, http.MethodPost, path+"/connect", spec{"Container": name}, http.StatusForbidden, nil)
	engine(t).API(t, http.MethodPost, path+"/disconnect", spec{"Container": name}, http.StatusOK, nil)
	engine(t).API(t, http.MethodPost, path+"/disconnect", spec{"Container": name}, http.StatusInternalServerError, nil) // as Docker
	engine(t).API(t, http.MethodPost, path+"/connect", spec{"Container": "nobody"}, http.StatusNotFound, nil)
	engine(t).API(t, http.MethodPost, "/networks/nowhere/connect", spec{"Container": name}, http.StatusNotFound, nil)
	engine(t).API(t, http.MethodPost, path+"/connect", spec{"Container": name, "EndpointConfig": spec{"IPAMConfig": spec{"IPv4Address": "10.1.1.1"}}}, http.StatusBadRequest, nil)
}
