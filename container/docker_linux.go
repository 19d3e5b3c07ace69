package container

import (
	mobycontainer "github.com/moby/moby/api/types/container"
	mobynetwork "github.com/moby/moby/api/types/network"
)

// What Docker does in another way on each system.

// defaultNetworkMode is that of a request that names none.
const defaultNetworkMode = mobynetwork.NetworkBridge

// healthShell runs a health check that is a command line, unless the image has a shell.
var healthShell = []string{"/bin/sh", "-c"}

// sameVariable reports whether two names are those of one environment variable.
func sameVariable(a, b string) bool { return a == b }

// checkCommit refuses what cannot be committed.
func checkCommit(*Record) error { return nil }

// checkStorage refuses to start a container with mounts that it would not see.
func checkStorage(*mobycontainer.HostConfig) error { return nil }
