package container

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

func (*run) limit(context.Context, *mobycontainer.Resources) error {
	return fmt.Errorf("changing the limits of a running container on Windows: %w", errdefs.ErrNotImplemented)
}
