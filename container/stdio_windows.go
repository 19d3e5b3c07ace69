package container

import "github.com/containerd/errdefs"

func openStdin(string) (*stdin, error) {
	return nil, errdefs.ErrNotImplemented.WithMessage("containers on Windows have no stdin yet")
}
