package shim

import (
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ValidateUpdate checks what `docker update` asks for, as [Validate] does for a
// new container, by itself: how it goes together with what the container has is
// the caller's to check.
func ValidateUpdate(cfg *mobycontainer.UpdateConfig) (warnings []string, err error) {
	f, err := kernel()
	if err != nil {
		return nil, err
	}
	host := mobycontainer.HostConfig{Resources: cfg.Resources, RestartPolicy: cfg.RestartPolicy}
	for _, check := range []func(*mobycontainer.Config, *mobycontainer.HostConfig) error{validateHost, refuse} {
		if err := check(nil, &host); err != nil {
			return nil, err
		}
	}
	return f.validateResources(&cfg.Resources)
}

// Limits are the resources of a container that can be changed while it runs. What
// the container does not limit is left as it is.
func Limits(r *mobycontainer.Resources) (*specs.LinuxResources, error) {
	limits, err := resources(r)
	if err != nil {
		return nil, err
	}
	if r.MemorySwap < 0 {
		if limits.Memory == nil {
			limits.Memory = &specs.LinuxMemory{}
		}
		unlimited := int64(-1) // not the same as nothing, once there was a limit
		limits.Memory.Swap = &unlimited
	}
	if limits.Memory != nil {
		// The runtime cannot change these.
		limits.Memory.Swappiness, limits.Memory.DisableOOMKiller = nil, nil
	}
	return limits, nil
}
