//go:build !linux

// Command slipway-init is the first process of Linux containers that were asked
// for one.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "slipway-init: only Linux has containers with an init process")
	os.Exit(1)
}
