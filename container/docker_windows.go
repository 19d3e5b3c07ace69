package container

import (
	"strings"

	mobynetwork "github.com/moby/moby/api/types/network"
)

// What Docker does in another way on each system.

// defaultNetworkMode is that of a request that names none.
const defaultNetworkMode = mobynetwork.NetworkNat

// healthShell runs a health check that is a command line, unless the image has a shell.
var healthShell = []string{"cmd", "/S", "/C"}

// sameVariable reports whether two names are those of one environment variable.
func sameVariable(a, b string) bool { return strings.EqualFold(a, b) }
