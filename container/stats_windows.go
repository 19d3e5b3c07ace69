package container

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

func (*run) measure(context.Context, *Record, *mobycontainer.StatsResponse) error {
	return fmt.Errorf("measuring containers on Windows: %w", errdefs.ErrNotImplemented)
}
