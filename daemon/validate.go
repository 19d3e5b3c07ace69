package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway/container/logs"
	"slipway/daemon/config"

	"github.com/containerd/errdefs"
)

// Validate checks those values of a configuration whose meaning belongs to a part
// of the engine, which config does not know. Its error is for the user, who is at
// fault.
func Validate(cfg *config.Config) error {
	l := cfg.Logging
	if l.Driver == logs.DriverNone && len(l.Options) > 0 {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"invalid log-opts: log driver %q takes none, and has %s", l.Driver, strings.Join(slices.Sorted(maps.Keys(l.Options)), ", ")))
	}
	// A tag is a template, which may take such names apart.
	id := strings.Repeat("0", 64)
	example := logs.TagInfo{ID: id, Name: "project-service-1", ImageID: "sha256:" + id, ImageName: "registry.example/image:latest"}
	if _, err := logs.ParseConfig(l.Driver, l.Options, nil, nil, example); err != nil {
		return fmt.Errorf("invalid log-opts: %w", err)
	}
	return nil
}
