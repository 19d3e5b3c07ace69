package container

import (
	"strings"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobynetwork "github.com/moby/moby/api/types/network"
)

// What Docker does in another way on each system.

// defaultNetworkMode is that of a request that names none.
const defaultNetworkMode = mobynetwork.NetworkNat

// healthShell runs a health check that is a command line, unless the image has a shell.
var healthShell = []string{"cmd", "/S", "/C"}

// sameVariable reports whether two names are those of one environment variable.
func sameVariable(a, b string) bool { return strings.EqualFold(a, b) }

// checkCommit refuses a container that runs: nothing copies its files at one moment.
func checkCommit(r *Record) error {
	if r.State.Running() {
		return errdefs.ErrConflict.WithMessage("container " + r.Name + " is running, and on Windows its files cannot be copied as they are at one moment: stop it first")
	}
	return nil
}

// checkStorage refuses to start a container with volumes or binds that were asked for: nothing places them in the container's directory yet.
func checkStorage(host *mobycontainer.HostConfig) error {
	if len(host.Binds)+len(host.Mounts)+len(host.VolumesFrom)+len(host.Tmpfs) > 0 {
		return errdefs.ErrNotImplemented.WithMessage("volumes, binds and tmpfs are not seen in containers on Windows yet: leave out -v, --mount, --volumes-from and --tmpfs, and copy files with docker cp")
	}
	return nil
}
