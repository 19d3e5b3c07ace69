package container

import mobynetwork "github.com/moby/moby/api/types/network"

// What Docker does in another way on each system.

// defaultNetworkMode is that of a request that names none.
const defaultNetworkMode = mobynetwork.NetworkBridge

// healthShell runs a health check that is a command line, unless the image has a shell.
var healthShell = []string{"/bin/sh", "-c"}

// sameVariable reports whether two names are those of one environment variable.
func sameVariable(a, b string) bool { return a == b }
