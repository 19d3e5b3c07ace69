package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway/events"
	"slipway/state"
)

// inside marks the process that TestMain starts in a network and mount namespace
// of its own: the tests' "host", whose firewall and interfaces are theirs alone.
const inside = "SLIPWAY_NETWORK_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv(inside) != "" {
		if os.Getuid() == 0 {
			if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}); err != nil {
				panic(err)
			}
		}
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the child must outlive no one but this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		panic(err)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("needs root: makes network namespaces and firewall rules")
	}
}

// daemon is a manager whose parts a test can reach, and which can be dropped and
// opened again on the same records.
type daemon struct {
	*Manager
	t   testing.TB
	cfg Config
	dir string
}

func newDaemon(tb testing.TB, change func(*Config)) *daemon {
	tb.Helper()
	needRoot(tb)
	dir := tb.TempDir()
	d := &daemon{t: tb, dir: dir, cfg: Config{
		ExecRoot: filepath.Join(dir, "run"), Logger: slog.New(slog.NewTextHandler(tb.Output(), nil)),
	}}
	if change != nil {
		change(&d.cfg)
	}
	d.open()
	d.restore()
	tb.Cleanup(d.destroy)
	return d
}

func (d *daemon) open() {
	d.t.Helper()
	store, err := state.Open(filepath.Join(d.dir, "slipway.db"))
	must(d.t, err)
	d.cfg.State, d.cfg.Events = store, events.New()
	d.Manager, err = New(d.t.Context(), d.cfg)
	must(d.t, err)
}

func (d *daemon) restore(live ...string) {
	d.t.Helper()
	must(d.t, d.Restore(d.t.Context(), live))
}

// crash ends the daemon as the death of its process does.
func (d *daemon) crash() {
	d.t.Helper()
	must(d.t, d.Close())
	must(d.t, d.cfg.State.Close())
}

// destroy removes everything, so that the next test finds an empty host.
func (d *daemon) destroy() {
	ctx := context.Background()
	for _, s := range d.sandboxSnapshot() {
		must(d.t, d.DeleteSandbox(ctx, s.ID))
	}
	left, err := d.platform.Leftovers(ctx, nil)
	must(d.t, err)
	for _, id := range left.Sandboxes {
		must(d.t, d.platform.DeleteSandbox(ctx, id))
	}
	for name := range left.Ports {
		must(d.t, d.platform.RemoveBridge(ctx, name))
	}
	must(d.t, d.platform.filter.(interface{ Delete() error }).Delete())
	must(d.t, d.Close())
	must(d.t, d.cfg.State.Close())
}

// guest makes a connected sandbox.
func (d *daemon) guest(name string, change func(*EndpointRequest)) Endpoint {
	d.t.Helper()
	e, err := d.tryGuest(name, change)
	must(d.t, err)
	return e
}

func (d *daemon) tryGuest(name string, change func(*EndpointRequest)) (Endpoint, error) {
	ctx := d.t.Context()
	if _, err := d.NewSandbox(ctx, id(name)); err != nil {
		return Endpoint{}, err
	}
	req := EndpointRequest{SandboxID: id(name), Network: "bridge", ContainerName: name, Hostname: name}
	if change != nil {
		change(&req)
	}
	return d.Connect(ctx, req)
}

func (d *daemon) ns(name string) string { return d.platform.SandboxPath(id(name)) }

// id is a container's ID made from its name.
func id(name string) string { return name + strings.Repeat("-", 64-len(name)) }

func publish(bindings ...string) func(*EndpointRequest) {
	return func(r *EndpointRequest) { r.Ports = portMap(bindings...) }
}

// portMap reads "8080:80/tcp" or "127.0.0.1:8080:80/tcp".
func portMap(bindings ...string) mobynetwork.PortMap {
	ports := mobynetwork.PortMap{}
	for _, s := range bindings {
		i := strings.LastIndexByte(s, ':')
		host, port := s[:i], mobynetwork.MustParsePort(s[i+1:])
		var b mobynetwork.PortBinding
		if ip, number, ok := strings.Cut(host, ":"); ok {
			b = mobynetwork.PortBinding{HostIP: netip.MustParseAddr(ip), HostPort: number}
		} else {
			b = mobynetwork.PortBinding{HostPort: host}
		}
		ports[port] = append(ports[port], b)
	}
	return ports
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// in runs f in the network namespace at path; "" is the host.
func in[T any](tb testing.TB, path string, f func() (T, error)) (T, error) {
	tb.Helper()
	if path == "" {
		return f()
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromPath(path)
		if err == nil {
			err = errors.Join(netns.Set(ns), ns.Close())
		}
		var r result
		if r.err = err; err == nil {
			r.value, r.err = f()
		}
		done <- r
	}()
	r := <-done
	return r.value, r.err
}

// serve answers every connection in the namespace with the name, until the test ends.
func serve(tb testing.TB, path, name, port string) {
	tb.Helper()
	l, err := in(tb, path, func() (net.Listener, error) {
		return (&net.ListenConfig{}).Listen(tb.Context(), "tcp4", ":"+port)
	})
	must(tb, err)
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			remote, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintf(c, "%s %s\n", name, remote)
			_ = c.Close()
		}
	}()
}

// A connection that must not come about is given up soon; one that must has time
// for a repeated SYN.
const (
	shortly  = 400 * time.Millisecond
	patience = 5 * time.Second
)

// ask connects from the namespace and returns the server's name and the address it saw.
func ask(tb testing.TB, path, address string, timeout time.Duration) (server, seen string, err error) {
	tb.Helper()
	line, err := in(tb, path, func() (string, error) {
		c, err := (&net.Dialer{Timeout: timeout}).DialContext(tb.Context(), "tcp4", address)
		if err != nil {
			return "", err
		}
		defer c.Close()
		must(tb, c.SetDeadline(time.Now().Add(2*time.Second)))
		s, err := bufio.NewReader(c).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return strings.TrimSpace(s), nil
	})
	server, seen, _ = strings.Cut(line, " ")
	return server, seen, err
}

func wantReach(tb testing.TB, from, address, server string) (seen string) {
	tb.Helper()
	got, seen, err := ask(tb, from, address, patience)
	if err != nil || got != server {
		tb.Errorf("connecting to %s: got %q, %v; want an answer of %q", address, got, err, server)
	}
	return seen
}

func wantBlocked(tb testing.TB, from, address string) {
	tb.Helper()
	if got, seen, err := ask(tb, from, address, shortly); err == nil {
		tb.Errorf("connecting to %s reached %q (as %s); want nothing", address, got, seen)
	}
}

// neighbour is a machine on a link of the host, 10.99.0.2, with the host, 10.99.0.1,
// as its router for everything.
func neighbour(tb testing.TB) (path string) {
	tb.Helper()
	return machine(tb, "out0", "10.99.0")
}

// machine is one on the link of the host, .2 in the net of which the host is .1.
func machine(tb testing.TB, link, net24 string) (path string) {
	tb.Helper()
	needRoot(tb)
	path = filepath.Join(tb.TempDir(), "ns")
	must(tb, os.WriteFile(path, nil, 0o600))
	ns, err := in(tb, "/proc/self/ns/net", func() (netns.NsHandle, error) {
		ns, err := netns.New()
		if err != nil {
			return ns, err
		}
		return ns, unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	must(tb, err)
	tb.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH); _ = ns.Close() })
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: link, Flags: net.FlagUp})
	veth.PeerName, veth.PeerNamespace = "wire0", netlink.NsFd(ns)
	must(tb, netlink.LinkAdd(veth))
	tb.Cleanup(func() { must(tb, netlink.LinkDel(veth)) })
	addr, err := netlink.ParseAddr(net24 + ".1/24")
	must(tb, err)
	must(tb, netlink.AddrAdd(veth, addr))
	_, err = in(tb, path, func() (struct{}, error) {
		link, err := netlink.LinkByName("wire0")
		must(tb, err)
		addr, err := netlink.ParseAddr(net24 + ".2/24")
		must(tb, err)
		must(tb, netlink.AddrAdd(link, addr))
		must(tb, netlink.LinkSetUp(link))
		return struct{}{}, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(net24 + ".1")})
	})
	must(tb, err)
	return path
}

func sysctl(tb testing.TB, path, name, value string) {
	tb.Helper()
	_, err := in(tb, path, func() (struct{}, error) {
		return struct{}{}, os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0)
	})
	must(tb, err)
}
