package container

import (
	"slipway/container/rootfs"

	"github.com/containerd/errdefs"
)

func setOpaque(string) error { return errdefs.ErrNotImplemented }

func resolve(*rootfs.Root, string, string) (string, error) { return "", errdefs.ErrNotImplemented }

func copyUpDir(*rootfs.Root, string, string) error { return errdefs.ErrNotImplemented }
