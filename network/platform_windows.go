package network

import "github.com/containerd/errdefs"

func newPlatform(Config) (platform, error) {
	return platform{}, errdefs.ErrNotImplemented.WithMessage("container networks are not implemented on Windows")
}
