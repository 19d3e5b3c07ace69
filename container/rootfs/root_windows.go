package rootfs

import (
	"context"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// Root is the root of a container's files.
type Root struct{ plain }

// Open returns the root that is the directory dir, with other directories at their places.
func Open(dir string, mounts ...Mount) (*Root, error) {
	r, err := openPlain(dir, mounts)
	if err != nil {
		return nil, err
	}
	return &Root{*r}, nil
}

// Changes lists what differs between a container's directory and that of the snapshot it was made on, in the form of
// docker diff: see plainChanges.
func Changes(ctx context.Context, lower, upper string, exclude, own []string) ([]mobycontainer.FilesystemChange, error) {
	return plainChanges(ctx, lower, upper, exclude, own)
}
