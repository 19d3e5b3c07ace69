//go:build linux

package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"
)

// server is a container that answers every connection to port 80 with its name.
func server(t *testing.T, options ...string) string {
	t.Helper()
	return background(t, append(options, "busybox", "sh", "-c",
		"while :; do hostname | nc -l -p 80 >/dev/null; done")...)
}

// answer connects and reads everything, or fails with the reason.
func answer(address string) (string, error) {
	c, err := (&net.Dialer{Timeout: 3 * time.Second}).Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return "", err
	}
	data, err := io.ReadAll(c)
	return strings.TrimSpace(string(data)), err
}

func answers(t *testing.T, address, want string) {
	t.Helper()
	testutil.Eventually(t, address+" answers "+want, func() bool {
		got, err := answer(address)
		return err == nil && got == want
	})
}

// hostAddress is an address of this machine that is not loopback, nor a
// bridge's.
func hostAddress(t *testing.T) string {
	t.Helper()
	c, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return ""
	}
	defer c.Close()
	return netip.MustParseAddrPort(c.LocalAddr().String()).Addr().String()
}

func TestBridgeNetwork(t *testing.T) {
	t.Parallel()
	name := server(t, "--hostname", "srv")
	ip := inspect(t, name, ".NetworkSettings.Networks.bridge.IPAddress")
	subnet := netip.MustParsePrefix(engine(t).Subnet)
	if a, err := netip.ParseAddr(ip); err != nil || !subnet.Contains(a) {
		t.Fatalf("address %q, want one in %s", ip, subnet)
	}
	answers(t, ip+":80", "srv") // from the host
	if got := run(t, "busybox", "sh", "-c", "nc "+ip+" 80 </dev/null"); got != "srv" {
		t.Errorf("from another container: %q", got)
	}
	got := run(t, "busybox", "sh", "-c", "ip -o -4 addr show dev eth0 | awk '{print $4}'; ip route | grep default; cat /sys/class/net/lo/operstate")
	l := lines(got)
	if len(l) < 2 || !strings.HasSuffix(l[0], "/24") || !strings.Contains(l[1], "via "+subnet.Addr().Next().String()+" dev eth0") {
		t.Errorf("inside: %q", got)
	}
	docker(t, "stop", "-t", "0", name)
	if got := inspect(t, name, ".NetworkSettings.Networks.bridge.IPAddress"); got != "" && got != "invalid IP" {
		t.Errorf("a stopped container keeps %s", got)
	}
}

func TestNetworkNone(t *testing.T) {
	t.Parallel()
	if got := run(t, "--network=none", "busybox", "sh", "-c", "ls /sys/class/net; cat /proc/net/route | wc -l; ping -c1 -w1 127.0.0.1 >/dev/null && echo lo"); got != "lo\n1\nlo" {
		t.Errorf("got %q", got)
	}
}

// TestNetworkDisabled: nothing but a loopback interface, and nothing published.
func TestNetworkDisabled(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	engine(t).API(t, http.MethodPost, "/containers/create?name="+name, spec{
		"Image": "busybox", "Cmd": []string{"sleep", "600"}, "NetworkDisabled": true,
		"HostConfig": spec{"PortBindings": spec{"80/tcp": []spec{{"HostPort": ""}}}},
	}, http.StatusCreated, nil)
	docker(t, "start", name)
	if got := docker(t, "exec", name, "ls", "/sys/class/net"); got != "lo" {
		t.Errorf("interfaces: %s", got)
	}
	if got := inspect(t, name, "len .NetworkSettings.Networks}} {{len .NetworkSettings.Ports"); got != "0 0" {
		t.Errorf("networks and ports: %s", got)
	}
}

func TestNetworkHost(t *testing.T) {
	t.Parallel()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, "--network=host", "busybox", "readlink", "/proc/self/ns/net"); got != own {
		t.Errorf("got %s, want %s", got, own)
	}
	if got := run(t, "--network=host", "busybox", "hostname"); got == "" {
		t.Error("no host name")
	}
}

func TestPublishedPort(t *testing.T) {
	t.Parallel()
	name := server(t, "--hostname", "srv", "-p", "80")
	addr := docker(t, "port", name, "80/tcp")
	_, port, ok := strings.Cut(lines(addr)[0], ":")
	if !ok || !strings.HasPrefix(addr, "0.0.0.0:") {
		t.Fatalf("docker port: %q", addr)
	}
	answers(t, "127.0.0.1:"+port, "srv")
	if host := hostAddress(t); host != "" {
		answers(t, host+":"+port, "srv")
		// From another container, by way of the host's address.
		testutil.Eventually(t, "a container reaches it", func() bool {
			return engine(t).Docker("run", "--rm", "busybox", "sh", "-c", "nc -w 3 "+host+" "+port+" </dev/null").Stdout == "srv\n"
		})
	}
	dockerFails(t, "port is already allocated", "run", "--rm", "-p", port+":80", "busybox", "true")
	docker(t, "rm", "-f", name)
	testutil.Eventually(t, "the port is closed", func() bool { _, err := answer("127.0.0.1:" + port); return err != nil })
	// Free for the next.
	second := server(t, "--hostname", "second", "-p", "127.0.0.1:"+port+":80")
	answers(t, "127.0.0.1:"+port, "second")
	if host := hostAddress(t); host != "" {
		if got, err := answer(host + ":" + port); err == nil {
			t.Errorf("a port published on 127.0.0.1 answers %q at %s", got, host)
		}
	}
	if got := docker(t, "port", second); got != "80/tcp -> 127.0.0.1:"+port {
		t.Errorf("docker port: %q", got)
	}
}

func TestPublishAll(t *testing.T) {
	t.Parallel()
	image := testImage(t, nil, func(c *testutil.ImageConfig) {
		c.ExposedPorts = map[string]struct{}{"80/tcp": {}, "53/udp": {}}
	})
	name := background(t, "-P", "--hostname", "srv", image, "sh", "-c", "while :; do hostname | nc -l -p 80 >/dev/null; done")
	got := docker(t, "port", name)
	if !strings.Contains(got, "80/tcp -> ") || !strings.Contains(got, "53/udp -> ") {
		t.Errorf("docker port: %q", got)
	}
	answers(t, "127.0.0.1:"+strings.TrimPrefix(lines(docker(t, "port", name, "80/tcp"))[0], "0.0.0.0:"), "srv")
}

func TestPublishedUDPPort(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := background(t, "-p", "127.0.0.1::5353/udp", "-v", self+":/helper:ro", "-e", helperEnv+"=udp-echo", "busybox", "/helper")
	addr := docker(t, "port", name, "5353/udp")
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 10)
	testutil.Eventually(t, "the packet comes back", func() bool {
		if _, err := fmt.Fprint(c, "ping"); err != nil {
			return false
		}
		if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return false
		}
		n, err := c.Read(buf)
		return err == nil && string(buf[:n]) == "ping"
	})
}

// TestPortTakenByAProgram: a port that something else on the host listens on is
// refused, and the container can be started once it is free.
func TestPortTakenByAProgram(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strings.TrimPrefix(l.Addr().String(), "127.0.0.1:")
	name := createOnly(t, "-p", "127.0.0.1:"+port+":80", "--hostname", "srv", "busybox", "sh", "-c", "while :; do hostname | nc -l -p 80 >/dev/null; done")
	dockerFails(t, "Bind for 127.0.0.1:"+port+" failed", "start", name)
	if got := inspect(t, name, ".State.Status"); got != "created" {
		t.Errorf("afterwards it is %s", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	docker(t, "start", name)
	answers(t, "127.0.0.1:"+port, "srv")
}

func TestNetworkCommands(t *testing.T) {
	t.Parallel()
	network := unique(t)
	t.Cleanup(func() { engine(t).Docker("network", "rm", network) })
	id := docker(t, "network", "create", "--label", "for="+network, network)
	if len(id) != 64 {
		t.Errorf("id %q", id)
	}
	dockerFails(t, "network with name "+network+" already exists", "network", "create", network)
	if got := docker(t, "network", "ls", "-q", "--no-trunc", "--filter", "label=for="+network); got != id {
		t.Errorf("ls: %q", got)
	}
	for _, predefined := range []string{"bridge", "host", "none"} {
		if got := docker(t, "network", "inspect", "-f", "{{.Name}} {{.Scope}}", predefined); got != predefined+" local" {
			t.Errorf("inspect: %q", got)
		}
		dockerFails(t, "is a pre-defined network and cannot be removed", "network", "rm", predefined)
	}
	name := server(t, "--hostname", "srv", "--network", network)
	if got := docker(t, "network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", network); got != name {
		t.Errorf("containers: %q", got)
	}
	dockerFails(t, "has active endpoints", "network", "rm", network)

	// Members reach each other; the default bridge's containers do not reach them.
	ip := inspect(t, name, "range .NetworkSettings.Networks}}{{.IPAddress}}{{end")
	testutil.Eventually(t, "a member reaches it", func() bool {
		return engine(t).Docker("run", "--rm", "--network", network, "busybox", "sh", "-c", "nc -w 3 "+ip+" 80 </dev/null").Stdout == "srv\n"
	})
	if r := engine(t).Docker("run", "--rm", "busybox", "sh", "-c", "nc -w 2 "+ip+" 80 </dev/null"); strings.Contains(r.Stdout, "srv") {
		t.Error("a container of another network reaches it")
	}
	docker(t, "rm", "-f", name)
	docker(t, "network", "rm", network)
	dockerFails(t, "network "+network+" not found", "network", "inspect", network)
	dockerFails(t, "network no-such not found", "run", "--rm", "--network", "no-such", "busybox", "true")
}

func TestNetworkSubnet(t *testing.T) {
	t.Parallel()
	network := unique(t)
	t.Cleanup(func() { engine(t).Docker("network", "rm", network) })
	docker(t, "network", "create", "--subnet", "10.251.77.0/24", "--gateway", "10.251.77.9", network)
	if got := run(t, "--network", network, "--ip", "10.251.77.40", "--mac-address", "02:42:0a:00:00:07", "busybox", "sh", "-c",
		"ip -o -4 addr show dev eth0 | awk '{print $4}'; ip route | awk '/default/ {print $3}'; cat /sys/class/net/eth0/address"); got != "10.251.77.40/24\n10.251.77.9\n02:42:0a:00:00:07" {
		t.Errorf("got %q", got)
	}
	dockerFails(t, "", "network", "create", "--subnet", "10.251.77.128/25", unique(t)) // overlaps
	dockerFails(t, "", "network", "create", "--subnet", "rubbish", unique(t))
}

func TestInternalNetwork(t *testing.T) {
	t.Parallel()
	network := unique(t)
	t.Cleanup(func() { engine(t).Docker("network", "rm", network) })
	docker(t, "network", "create", "--internal", network)
	if got := run(t, "--network", network, "busybox", "sh", "-c", "ip route | grep -c default; true"); got != "0" {
		t.Errorf("default routes in an internal network: %s", got)
	}
}

// TestNetworkPrune: networks that nobody uses go, as far as the filters say so.
func TestNetworkPrune(t *testing.T) {
	t.Parallel()
	label := "for=" + unique(t)
	used, unused := networkOn(t, engine(t), "--label", label), networkOn(t, engine(t), "--label", label)
	networkOn(t, engine(t), "--label", label, "--label", "keep")
	idle(t, "--network", used)
	list := func(more ...string) []string {
		t.Helper()
		names := lines(docker(t, append([]string{"network", "ls", "--format", "{{.Name}}", "--filter", "label=" + label}, more...)...))
		slices.Sort(names)
		return names
	}
	if got := list("--filter", "dangling=true"); len(got) != 2 || slices.Contains(got, used) {
		t.Errorf("dangling: %q", got)
	}
	if got := docker(t, "network", "prune", "-f", "--filter", "label="+label, "--filter", "until=1h"); got != "" {
		t.Errorf("pruned too new ones: %q", got)
	}
	if got := docker(t, "network", "prune", "-f", "--filter", "label="+label, "--filter", "label!=keep"); got != "Deleted Networks:\n"+unused+"\n" {
		t.Errorf("pruned: %q", got)
	}
	if got := list(); len(got) != 2 || slices.Contains(got, unused) {
		t.Errorf("left: %q", got)
	}
	dockerFails(t, "invalid filter 'colour'", "network", "prune", "-f", "--filter", "colour=red")
	if got := docker(t, "network", "inspect", "-v", "-f", "{{.Name}}", used); got != used {
		t.Errorf("inspect -v: %q", got)
	}
}

// TestNetworkOptions: what the options of Docker's bridge driver do.
func TestNetworkOptions(t *testing.T) {
	t.Parallel()
	bridge := fmt.Sprintf("swt%d", os.Getpid()%1_000_000)
	network := networkOn(t, engine(t), "-o", "com.docker.network.bridge.name="+bridge, "-o", "com.docker.network.driver.mtu=1400",
		"-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "-o", "com.docker.network.bridge.enable_icc=false")
	name := server(t, "--network", network, "--hostname", "srv", "-p", "80")
	if got := docker(t, "exec", name, "cat", "/sys/class/net/eth0/mtu"); got != "1400" {
		t.Errorf("MTU %s", got)
	}
	if _, err := net.InterfaceByName(bridge); err != nil {
		t.Error(err)
	}
	address := docker(t, "port", name, "80/tcp")
	if !strings.HasPrefix(address, "127.0.0.1:") {
		t.Errorf("published at %s", address)
	}
	answers(t, address, "srv")
	if r := engine(t).Docker("run", "--rm", "--network", network, "busybox", "sh", "-c", "nc -w 2 "+name+" 80 </dev/null"); strings.Contains(r.Stdout, "srv") {
		t.Error("a member reaches another, with enable_icc=false")
	}
	for option, text := range map[string]string{"--driver=macvlan": "macvlan", "--config-only": "config-only", "--ingress": "ingress", "--ipv6": "IPv6", "--opt=a=b": `"a"`} {
		dockerFails(t, text, "network", "create", option, unique(t))
	}
}
