package network

import (
	"slipway/network/bridge"
	"slipway/network/firewall"
)

func newPlatform(cfg Config) (platform, error) {
	driver, err := bridge.New(bridge.Config{ExecRoot: cfg.ExecRoot, Owner: cfg.BridgeName})
	if err != nil {
		return platform{}, err
	}
	table := firewall.New(tableName(cfg.BridgeName), cfg.Logger)
	return platform{
		router: driver, links: driver, sandboxes: driver, filter: table, inspector: table,
		hostPrefixes: bridge.HostPrefixes, claim: firewall.Claim,
	}, nil
}
