package container

import (
	"context"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// connectFirst and connectBeside connect before the specification is built, and while the shim starts. A container
// with a namespace of its own need not know its address.
func (*Manager) connectFirst(context.Context, *Record, bool) error { return nil }

func (m *Manager) connectBeside(ctx context.Context, r *Record, gate bool) error {
	return m.connect(ctx, r, gate)
}

// listensOnHost reports whether a container listens on the host's addresses in place of its own.
func listensOnHost(*Record) bool { return false }

// tellAddress has nothing to tell.
func (*Manager) tellAddress(r *Record, args []string) (*mobycontainer.Config, []string) {
	return r.Config, args
}
