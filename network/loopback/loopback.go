// Package loopback is the network of containers that share the host's: on Windows, where there are no namespaces. A
// network is a subnet of 127.0.0.0/8, every address of which is the host's own. A container has one of these, where its
// programs can listen on whatever port they like without meeting another container's; that they listen there and
// nowhere else, nothing enforces.
//
// A published port is a proxy in this process: from the reserved port of the host to the container's
// address. It ends with the daemon, and the next makes it anew; connections through it break then. What is
// published under its own number by a container that listens on the host's addresses needs no proxy: it is the same port.
//
// # Locks
//
// Driver.mu guards the sets and is held over nothing that waits.
package loopback

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"slipway/network/bridge"
	"slipway/network/firewall"
)

// Host is the address that stands for the host's own in a forward: what is published there listens on the host's
// addresses.
var Host = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// dialTimeout bounds connecting to a container's port, which is on this host.
const dialTimeout = 10 * time.Second

// Driver does on the host what the records say. It is safe for concurrent use.
type Driver struct {
	mu       sync.Mutex
	bridges  map[string]bool
	forwards map[firewall.Forward]bool
	held     map[key]*accepting
}

// New returns a driver that has opened nothing.
func New() *Driver {
	return &Driver{bridges: map[string]bool{}, forwards: map[firewall.Forward]bool{}, held: map[key]*accepting{}}
}

// same reports whether a port is published as itself.
func same(f firewall.Forward) bool { return f.To.Addr() == Host && f.To.Port() == f.Host.Port() }

// Open lets clients of the host's ports reach the containers. The ports are reserved.
func (d *Driver) Open(_ context.Context, forwards []firewall.Forward) error {
	for _, f := range forwards {
		if !same(f) {
			if !d.handle(f.Protocol, f.Host, func(client net.Conn) { pass(client, f.To) }) { //nolint:contextcheck // it outlives the request
				return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("port %s/%s of the host is not reserved", f.Host, f.Protocol))
			}
		}
		d.mu.Lock()
		d.forwards[f] = true
		d.mu.Unlock()
	}
	return nil
}

// Close ends the publishing. Connections that are there stay.
func (d *Driver) Close(_ context.Context, forwards []firewall.Forward) error {
	for _, f := range forwards {
		d.handle(f.Protocol, f.Host, nil)
		d.mu.Lock()
		delete(d.forwards, f)
		d.mu.Unlock()
	}
	return nil
}

// Reset is Open after a start: nothing else is open then. A port that could not be reserved again, as another program
// took it meanwhile, stays closed.
func (d *Driver) Reset(ctx context.Context, networks []firewall.Network, forwards []firewall.Forward) error {
	for _, n := range networks {
		if err := d.AddNetwork(ctx, n); err != nil {
			return err
		}
	}
	for _, f := range forwards {
		if err := d.Open(ctx, []firewall.Forward{f}); err != nil && !errdefs.IsFailedPrecondition(err) {
			return err
		}
	}
	return nil
}

// pass copies between a client and a container's port until both have ended.
func pass(client net.Conn, to netip.AddrPort) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), dialTimeout, errdefs.ErrUnavailable)
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
	cancel()
	if err != nil {
		_ = client.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { half(server, client) })
	both.Go(func() { half(client, server) })
	both.Wait()
	_ = client.Close()
	_ = server.Close()
}

// half copies one way and passes the end on.
func half(to, from net.Conn) {
	t, toOK := to.(*net.TCPConn)
	f, fromOK := from.(*net.TCPConn)
	if !toOK || !fromOK {
		return // the ports are of TCP
	}
	if _, err := t.ReadFrom(f); err != nil {
		// A broken connection breaks the other as well.
		_ = f.SetLinger(0)
		_ = t.SetLinger(0)
		_ = f.Close()
		_ = t.Close()
		return
	}
	_ = t.CloseWrite()
}

// Forwards returns what is published.
func (d *Driver) Forwards(context.Context) ([]firewall.Forward, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]firewall.Forward, 0, len(d.forwards))
	for f := range d.forwards {
		all = append(all, f)
	}
	return all, nil
}

// AddNetwork notes a network.
func (d *Driver) AddNetwork(_ context.Context, n firewall.Network) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bridges[n.Bridge] = true
	return nil
}

// RemoveNetwork forgets a network.
func (d *Driver) RemoveNetwork(_ context.Context, n firewall.Network) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.bridges, n.Bridge)
	return nil
}

// Bridges returns the noted networks.
func (d *Driver) Bridges(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]string, 0, len(d.bridges))
	for name := range d.bridges {
		all = append(all, name)
	}
	return all, nil
}

// There are no interfaces and namespaces: the rest has nothing to do.

// Forwarding says that nothing need be turned on.
func (*Driver) Forwarding() (on bool, boot string, err error) { return true, "", nil }

// EnableForwarding does nothing.
func (*Driver) EnableForwarding() error { return nil }

// EnsureBridge does nothing.
func (*Driver) EnsureBridge(context.Context, bridge.Bridge) error { return nil }

// RemoveBridge does nothing.
func (*Driver) RemoveBridge(context.Context, string) error { return nil }

// Attach does nothing.
func (*Driver) Attach(context.Context, string, bridge.Link) error { return nil }

// Detach does nothing.
func (*Driver) Detach(context.Context, string) error { return nil }

// Leftovers finds nothing.
func (*Driver) Leftovers(context.Context, []string) (bridge.Leftovers, error) {
	return bridge.Leftovers{}, nil
}

// CreateSandbox does nothing.
func (*Driver) CreateSandbox(context.Context, string) (path string, err error) { return "", nil }

// DeleteSandbox does nothing.
func (*Driver) DeleteSandbox(context.Context, string) error { return nil }

// SandboxPath is empty.
func (*Driver) SandboxPath(string) string { return "" }

// Enter runs f: there is one stack.
func (*Driver) Enter(_ string, f func() error) error { return f() }

// Guard does nothing.
func (*Driver) Guard(context.Context) error { return nil }

// Conflicts finds none.
func (*Driver) Conflicts(context.Context) ([]string, error) { return nil, nil }

// Watch waits for the end of ctx.
func (*Driver) Watch(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
