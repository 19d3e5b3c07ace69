package layerstore

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"slipway/internal/pipe"
)

// addresses returns names of pipes that are the state directory's alone, and that
// only administrators and the system can make. The shims name their own pipes.
func addresses(state string) (address, error) {
	sum := sha256.Sum256([]byte(strings.ToLower(state)))
	name := fmt.Sprintf("%sslipway-%x-events", pipe.Protected, sum[:8])
	return address{grpc: name, ttrpc: name + ".ttrpc"}, nil
}

// listening is called when containerd listens. It does so by go-winio alone, which
// does not know what Wine needs.
func (a address) listening() (release func(), err error) { return pipe.Prime(a.ttrpc) }
