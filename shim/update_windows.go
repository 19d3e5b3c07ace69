package shim

import mobycontainer "github.com/moby/moby/api/types/container"

// ValidateUpdate checks what `docker update` asks for, as [Validate] does for a
// new container, by itself: how it goes together with what the container has is
// the caller's to check.
func ValidateUpdate(cfg *mobycontainer.UpdateConfig) (warnings []string, err error) {
	host := mobycontainer.HostConfig{Resources: cfg.Resources, RestartPolicy: cfg.RestartPolicy}
	forgive(&host)
	cfg.Resources = host.Resources
	if err := validateCommon(&host); err != nil {
		return nil, err
	}
	if err := refuseLinuxResources(&host.Resources); err != nil {
		return nil, err
	}
	return nil, validateResources(&host.Resources)
}
