package postgres

import (
	"path"
	"strconv"
	"strings"
)

const (
	pidFile      = "postmaster.pid"
	pidFileLimit = 8 << 10
)

// pidInfo is what a server writes into its data directory: process id, data directory, start time, port,
// first socket directory, first listen address, shared memory, state, one a line.
type pidInfo struct{ port, socketDir, address, state string }

func parsePidFile(data []byte) pidInfo {
	lines := strings.Split(string(data), "\n")
	line := func(n int) string {
		if n > len(lines) {
			return ""
		}
		return strings.TrimSpace(lines[n-1])
	}
	p := pidInfo{port: line(4), socketDir: line(5), address: line(6), state: line(8)}
	if n, err := strconv.ParseUint(p.port, 10, 16); err != nil || n == 0 {
		p.port = ""
	}
	return p
}

// host is where libpq finds the server: the socket directory, or an address if it has no sockets.
func (p pidInfo) host() string {
	switch {
	case path.IsAbs(p.socketDir) || strings.HasPrefix(p.socketDir, "@"):
		return p.socketDir
	case p.address == "*" || p.address == "0.0.0.0" || p.address == "::":
		return "localhost"
	default:
		return p.address
	}
}
