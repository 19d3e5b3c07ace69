package wire

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"

	"slipway/internal/pipe"
)

// PipeName returns the name of a pipe that belongs to a directory, as a socket lies in one elsewhere.
func PipeName(dir, what string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(filepath.Clean(dir))))
	prefix := `\\.\pipe\`
	if windows.GetCurrentProcessToken().IsElevated() {
		prefix = pipe.Protected // so that nobody else takes the name first
	}
	return prefix + "slipway-" + hex.EncodeToString(sum[:12]) + "-" + what
}

// securityDescriptor lets the system, administrators and the account that the daemon runs as use a pipe, and nobody else
// ("Security Descriptor String Format").
const securityDescriptor = "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;OW)"

// ListenPipe makes a pipe that is for the engine's own programs.
func ListenPipe(name string) (net.Listener, error) {
	return pipe.Listen(name, pipe.ListenConfig{SecurityDescriptor: securityDescriptor})
}

// Dial connects to the keeper of an exec root.
func Dial(ctx context.Context, root string) (net.Conn, error) {
	return pipe.DialChecked(ctx, PipeName(root, "logger"), pipe.Trusted)
}

// Listen makes the pipe of an exec root's keeper.
func Listen(root string) (net.Listener, error) { return ListenPipe(PipeName(root, "logger")) }
