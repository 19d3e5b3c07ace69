package container

import (
	"net/netip"
	"strings"

	"slipway/network"
	"slipway/shim"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ownFiles are the container's files that the engine writes and mounts: none on Windows, where all programs of a host
// have one hosts file and one resolver.
var ownFiles []string

// containerUser is the one user of a container on Windows, by the name that Docker's images for Windows have for one
// that is no administrator.
const containerUser = "ContainerUser"

func (*Manager) writeFiles(*Record) ([]specs.Mount, error) { return nil, nil }

func (*Manager) completeHosts(*Record) error { return nil }

func (*Manager) showConnected(*Record, network.Endpoint) error { return nil }

func (*Manager) showDisconnected(string, []netip.Addr) error { return nil }

// resolveUser accepts the container's user. Whose rights its processes have is the shim's to decide.
func (m *Manager) resolveUser(r *Record, _ string) (shim.User, error) {
	return m.lookupUser(r.ID, r.Config.User, r.HostConfig.GroupAdd)
}

func (*Manager) lookupUser(_, spec string, groups []string) (shim.User, error) {
	if spec != "" && !strings.EqualFold(spec, containerUser) {
		return shim.User{}, errdefs.ErrInvalidArgument.WithMessage("a container on Windows runs as " + containerUser + ", not as " + spec + ": --user cannot choose another")
	}
	if len(groups) > 0 {
		return shim.User{}, errdefs.ErrInvalidArgument.WithMessage("--group-add is not possible on Windows")
	}
	return shim.User{}, nil
}
