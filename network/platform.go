package network

import (
	"context"
	"io"
	"net/netip"

	"slipway/network/bridge"
	"slipway/network/firewall"
	"slipway/network/hostport"
)

// router is the host in its part between the interfaces.
type router interface {
	// Forwarding reports whether the host forwards packets, and in which boot.
	Forwarding() (on bool, boot string, err error)
	EnableForwarding() error
}

// links makes bridges, namespaces and the interfaces between them. All methods
// are idempotent.
type links interface {
	EnsureBridge(ctx context.Context, b bridge.Bridge) error
	RemoveBridge(ctx context.Context, name string) error
	Attach(ctx context.Context, sandbox string, l bridge.Link) error
	Detach(ctx context.Context, hostName string) error
	Leftovers(ctx context.Context, bridges []string) (bridge.Leftovers, error)
}

// sandboxes pins network namespaces.
type sandboxes interface {
	CreateSandbox(ctx context.Context, id string) (path string, err error)
	DeleteSandbox(ctx context.Context, id string) error
	SandboxPath(id string) string
	// Enter runs f on a thread of its own in the sandbox's namespace, and returns
	// its error. Sockets that f opens belong to the sandbox.
	Enter(id string, f func() error) error
}

// filter is the firewall. Each method is one transaction.
type filter interface {
	Reset(ctx context.Context, networks []firewall.Network, forwards []firewall.Forward) error
	AddNetwork(ctx context.Context, n firewall.Network) error
	RemoveNetwork(ctx context.Context, n firewall.Network) error
	Open(ctx context.Context, forwards []firewall.Forward) error
	Close(ctx context.Context, forwards []firewall.Forward) error
	// Guard keeps interfaces that are no bridges apart, from the next Reset on if
	// there was none yet.
	Guard(ctx context.Context) error
}

// inspector reads back what the firewall really does, and keeps it so.
type inspector interface {
	Forwards(ctx context.Context) ([]firewall.Forward, error)
	Bridges(ctx context.Context) ([]string, error)
	Conflicts(ctx context.Context) ([]string, error)
	Watch(ctx context.Context) error
}

// platform is what an operating system must bring.
type platform struct {
	router
	links
	sandboxes
	filter
	inspector
	hostPrefixes func() ([]netip.Prefix, error)
	// reserve takes a port of the host; hostport.ErrInUse if it is taken.
	reserve func(hostport.Request) (*hostport.Reservation, error)
	// claim takes a name for this process on the whole host; ErrUnavailable if
	// another process has it.
	claim func(name string) (io.Closer, error)
}
