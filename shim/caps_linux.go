package shim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const allCaps = "ALL"

// defaultCaps returns the capabilities of a container that asks for no others.
func defaultCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// normalizeCaps returns names in the kernel's spelling: "net_admin" and
// "CAP_NET_ADMIN" are the same. "ALL" stays.
func (f *facts) normalizeCaps(names []string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, name := range names {
		name = strings.ToUpper(name)
		if name == allCaps {
			out = append(out, name)
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(f.knownCaps, name) {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unknown capability: %q", name))
		}
		if !slices.Contains(f.availableCaps, name) {
			return nil, errdefs.ErrInvalidArgument.WithMessage(
				fmt.Sprintf("capability not supported by your kernel or not available in the current environment: %q", name))
		}
		out = append(out, name)
	}
	return out, nil
}

// capabilities returns the capabilities that the request asks for.
func (f *facts) capabilities(host *mobycontainer.HostConfig) ([]string, error) {
	if host.Privileged {
		return slices.Clone(f.availableCaps), nil
	}
	add, err := f.normalizeCaps(host.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, err := f.normalizeCaps(host.CapDrop)
	if err != nil {
		return nil, err
	}
	isDropped := func(name string) bool { return slices.Contains(drop, name) }
	switch {
	case slices.Contains(add, allCaps):
		return slices.DeleteFunc(slices.Clone(f.availableCaps), isDropped), nil
	case isDropped(allCaps):
		return unique(add), nil
	default:
		return unique(append(slices.DeleteFunc(defaultCaps(), isDropped), add...)), nil
	}
}

// unique removes repetitions, keeping the first of each.
func unique(names []string) []string {
	seen := make(map[string]struct{}, len(names))
	return slices.DeleteFunc(names, func(name string) bool {
		_, repeated := seen[name]
		seen[name] = struct{}{}
		return repeated
	})
}

// withCaps grants caps in the three sets that Docker fills. The inheritable and
// ambient sets stay empty: a process that leaves uid 0 loses everything.
func withCaps(caps []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}
