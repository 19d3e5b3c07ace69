//go:build !windows

package main

import (
	"fmt"
	"os"
)

// service is what Windows has for systemd's units.
func service([]string) (code int) {
	fmt.Fprintln(os.Stderr, "slipwayd: services are Windows': see packaging/systemd for this system")
	return exitUsage
}
