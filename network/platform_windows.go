package network

import (
	"hash/fnv"
	"io"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/network/ipam"
	"slipway/network/loopback"
)

func newPlatform(Config) (platform, error) {
	driver := loopback.New()
	return platform{
		router: driver, links: driver, sandboxes: driver, filter: driver, inspector: driver, reserve: driver.Reserve,
		// Of 127.0.0.0/8, which is all that is used, nothing is anybody's; and there is nothing to claim.
		hostPrefixes: func() ([]netip.Prefix, error) { return nil, nil },
		claim:        func(string) (io.Closer, error) { return io.NopCloser(nil), nil },
	}, nil
}

// The default network, and its driver, as Docker on Windows names them.
const (
	defaultNetwork = mobynetwork.NetworkNat
	defaultDriver  = "nat"
)

// alwaysThere are the other networks that cannot be removed, and their drivers. As with Docker on Windows there is no
// network of the host's name.
var alwaysThere = map[string]string{mobynetwork.NetworkNone: "null"}

// defaultRanges are where subnets come from if the configuration names none: a part of the loopback network that
// differs between the daemons of a host.
func defaultRanges(cfg Config) []ipam.Range {
	h := fnv.New32a()
	_, _ = io.WriteString(h, strings.ToLower(filepath.Clean(cfg.ExecRoot)))
	part := byte(64 + h.Sum32()%128)
	return []ipam.Range{{Base: netip.PrefixFrom(netip.AddrFrom4([4]byte{127, part, 0, 0}), 16), Size: 20}}
}

// checkCreate refuses networks that this system cannot have.
func checkCreate(mobynetwork.CreateRequest) error {
	return errdefs.ErrNotImplemented.WithMessage("further networks are not possible on Windows: containers share the host's network, where they reach each other by address and port. Use the network " + defaultNetwork)
}

// checkConnect refuses connections that this system cannot make.
func checkConnect(req EndpointRequest, n *networkState) error {
	switch {
	case n.Driver == "null":
		return errdefs.ErrNotImplemented.WithMessage("--network none is not possible on Windows: containers share the host's network, and nothing keeps them off it yet")
	case len(req.MAC) > 0:
		return errdefs.ErrInvalidArgument.WithMessage("--mac-address is not possible on Windows: containers share the host's network")
	}
	return nil
}
