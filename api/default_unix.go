//go:build !windows

package api

import mobynetwork "github.com/moby/moby/api/types/network"

// defaultNetworkMode is the network that containers join by default.
const defaultNetworkMode = mobynetwork.NetworkBridge
