//go:build !windows

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "containerd-shim-slipway-job-v1 is for Windows")
	os.Exit(1)
}
