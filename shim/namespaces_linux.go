package shim

import (
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// setNamespaces decides which namespaces are the container's own, whose it
// joins, and which are the host's (those that are not listed).
func (f *facts) setNamespaces(spec *specs.Spec, req SpecRequest) error {
	host, joined := req.HostConfig, req.Namespaces
	own := func(kind specs.LinuxNamespaceType, path string) {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
	join := func(kind specs.LinuxNamespaceType, path, mode string) error {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("no %s namespace to join for mode %q: %w", kind, mode, errdefs.ErrInvalidArgument)
		}
		own(kind, path)
		return nil
	}
	own(specs.MountNamespace, "")
	if f.timeNS {
		own(specs.TimeNamespace, "")
	}
	switch mode := host.NetworkMode; {
	case req.Config.NetworkDisabled:
		own(specs.NetworkNamespace, "")
	case mode.IsHost():
	case mode.IsContainer():
		if err := join(specs.NetworkNamespace, joined.Network, string(mode)); err != nil {
			return err
		}
	default:
		own(specs.NetworkNamespace, joined.Network)
	}
	switch mode := host.IpcMode; {
	case mode.IsHost():
	case mode.IsContainer():
		if err := join(specs.IPCNamespace, joined.IPC, string(mode)); err != nil {
			return err
		}
	default:
		own(specs.IPCNamespace, "")
	}
	switch mode := host.PidMode; {
	case mode.IsHost():
	case mode.IsContainer():
		if err := join(specs.PIDNamespace, joined.PID, string(mode)); err != nil {
			return err
		}
	default:
		own(specs.PIDNamespace, "")
	}
	if host.UTSMode.IsHost() {
		spec.Hostname = "" // the host's name is not the container's to set
	} else {
		own(specs.UTSNamespace, "")
	}
	if host.CgroupnsMode.IsPrivate() && f.cgroupNamespaces {
		own(specs.CgroupNamespace, "")
	}
	return nil
}
