package hostport

import (
	"net/netip"

	"github.com/containerd/errdefs"
)

// Reserve is not there yet on Windows.
func Reserve(Protocol, netip.AddrPort) (*Reservation, error) {
	return nil, errdefs.ErrNotImplemented.WithMessage("published ports are not implemented on Windows")
}

// Close does nothing.
func (r *Reservation) Close() error {
	r.fd = -1
	return nil
}
