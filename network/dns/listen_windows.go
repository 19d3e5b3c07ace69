package dns

import (
	"context"

	"github.com/containerd/errdefs"
)

// Listen is for network namespaces, which Windows does not have.
func Listen(context.Context) (Sockets, error) {
	return Sockets{}, errdefs.ErrNotImplemented.WithMessage("name look-up between containers is not implemented on Windows")
}
