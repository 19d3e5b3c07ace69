package network

import (
	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/network/bridge"
	"slipway/network/firewall"
	"slipway/network/hostport"
	"slipway/network/ipam"
)

func newPlatform(cfg Config) (platform, error) {
	driver, err := bridge.New(bridge.Config{ExecRoot: cfg.ExecRoot, Owner: cfg.BridgeName})
	if err != nil {
		return platform{}, err
	}
	table := firewall.New(tableName(cfg.BridgeName), cfg.Logger)
	return platform{
		router: driver, links: driver, sandboxes: driver, filter: table, inspector: table,
		hostPrefixes: bridge.HostPrefixes, claim: firewall.Claim, reserve: reserveBound,
	}, nil
}

// reserveBound binds the port. Where it leads to is the firewall's to know.
func reserveBound(r hostport.Request) (*hostport.Reservation, error) {
	return hostport.Reserve(r.Protocol, r.Addr)
}

// The default network, and its driver.
const (
	defaultNetwork = mobynetwork.NetworkBridge
	defaultDriver  = "bridge"
)

// alwaysThere are the other networks that cannot be removed, and their drivers.
var alwaysThere = map[string]string{mobynetwork.NetworkHost: "host", mobynetwork.NetworkNone: "null"}

// defaultRanges are where subnets come from if the configuration names none.
func defaultRanges(Config) []ipam.Range { return ipam.DefaultRanges() }

// checkCreate refuses networks that this system cannot have.
func checkCreate(mobynetwork.CreateRequest) error { return nil }

// checkConnect refuses connections that this system cannot make.
func checkConnect(EndpointRequest, *networkState) error { return nil }

// tableName is the firewall table of the daemon with that bridge.
func tableName(bridgeName string) string {
	return "slipway-" + inTableName(bridgeName)
}
