package shim

import (
	"path/filepath"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// RuncName is the runtime's name in Docker's API; "io.containerd.runc.v2" is
// accepted for the same.
const RuncName = "runc"

const (
	runcV2     = "io.containerd.runc.v2"
	runcV2Shim = "containerd-shim-runc-v2"
)

// Runtime returns the runtime's name and options for containerd's
// client.WithRuntime.
//
// The name is the shim's absolute path. Given a name such as
// "io.containerd.runc.v2", containerd would look for the shim on PATH first, and
// beside the daemon only then; an absolute path is used as it is, both at
// start and for the clean-up after a dead shim, and a path relative to the
// working directory is refused. The shim's path is kept in the task's bundle
// (shim-binary-path), so a daemon that is installed elsewhere later still takes
// over the shims of its predecessor. client.WithRuntimePath would have the same
// effect for one task only.
//
// A runtime other than runc is refused with Docker's message.
func (d *Drivers) Runtime(host *mobycontainer.HostConfig) (name string, options any, err error) {
	if err := checkRuntime(host.Runtime); err != nil {
		return "", nil, err
	}
	return filepath.Join(d.binDir, runcV2Shim), &runcoptions.Options{
		BinaryName: d.Runc(),
		Root:       filepath.Join(d.execRoot, RuncName),
	}, nil
}

// Runc returns the absolute path of runc.
func (d *Drivers) Runc() string { return filepath.Join(d.binDir, RuncName) }

func checkRuntime(name string) error {
	switch name {
	case "", RuncName, runcV2:
		return nil
	default:
		return errdefs.ErrInvalidArgument.WithMessage("unknown or invalid runtime name: " + name)
	}
}
