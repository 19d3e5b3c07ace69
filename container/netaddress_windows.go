package container

import (
	"context"
	"slices"
	"strings"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// addressVariable is the environment variable that has the container's address: one of the loopback network that is its
// own. On the shared network of the host, a program that listens there can have every port, whatever others listen on.
//
// In the container's command and environment, %SLIPWAY_ADDRESS% is replaced by it, for programs that are told where to
// listen: postgres -h %SLIPWAY_ADDRESS%. A container in whose configuration it occurs is taken to listen there, and its
// published ports lead there. All others are taken to listen on the host's addresses.
const addressVariable = "SLIPWAY_ADDRESS"

const addressReference = "%" + addressVariable + "%"

// connectFirst and connectBeside connect before the specification is built, and while the shim starts: the program has
// to be told its address.
func (m *Manager) connectFirst(ctx context.Context, r *Record, gate bool) error {
	return m.connect(ctx, r, gate)
}

func (*Manager) connectBeside(context.Context, *Record, bool) error { return nil }

// listensOnHost reports whether a container listens on the host's addresses in place of its own.
func listensOnHost(r *Record) bool {
	names := func(s string) bool { return strings.Contains(strings.ToUpper(s), addressReference) }
	return !slices.ContainsFunc(arguments(r.Config), names) && !slices.ContainsFunc(r.Config.Env, names)
}

// tellAddress returns the configuration and the arguments of a container that is connected, with its address in them.
func (m *Manager) tellAddress(r *Record, args []string) (*mobycontainer.Config, []string) {
	addrs := m.addresses(r.ID)
	if len(addrs) == 0 {
		return r.Config, args
	}
	address := addrs[0].String()
	cfg := *r.Config
	cfg.Env = make([]string, 0, len(r.Config.Env)+1)
	for _, entry := range r.Config.Env {
		if key, _, _ := strings.Cut(entry, "="); !sameVariable(key, addressVariable) {
			cfg.Env = append(cfg.Env, withAddress(entry, address))
		}
	}
	cfg.Env = append(cfg.Env, addressVariable+"="+address)
	told := make([]string, len(args))
	for i, arg := range args {
		told[i] = withAddress(arg, address)
	}
	return &cfg, told
}

// withAddress replaces the reference, in whatever case it is written, by the address.
func withAddress(s, address string) string {
	for {
		i := strings.Index(strings.ToUpper(s), addressReference)
		if i < 0 || len(strings.ToUpper(s)) != len(s) {
			return s
		}
		s = s[:i] + address + s[i+len(addressReference):]
	}
}
