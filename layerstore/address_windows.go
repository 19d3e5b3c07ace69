package layerstore

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// addresses returns names of pipes that are the state directory's alone. The shims
// name their own pipes.
func addresses(state string) (address, error) {
	name := fmt.Sprintf(`\\.\pipe\slipway-%x`, sha256.Sum256([]byte(strings.ToLower(state))))[:len(`\\.\pipe\slipway-`)+16]
	return address{grpc: name + "-events", ttrpc: name + "-events.ttrpc"}, nil
}
