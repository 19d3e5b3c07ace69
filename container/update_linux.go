package container

import (
	"context"

	"slipway/shim"

	containerd "github.com/containerd/containerd/v2/client"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// limit gives the run's processes these limits.
func (r *run) limit(ctx context.Context, limits *mobycontainer.Resources) error {
	resources, err := shim.Limits(limits)
	if err != nil {
		return err
	}
	return r.task.Update(ctx, containerd.WithResources(resources))
}
