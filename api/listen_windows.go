package api

import (
	"context"
	"net"

	"github.com/containerd/errdefs"
)

func listenUnix(context.Context, string, ListenOptions) (net.Listener, error) {
	return nil, errdefs.ErrNotImplemented.WithMessage("listening on a unix socket is not implemented on Windows")
}

func checkUnix(ListenOptions) error { return nil }
