//go:build !linux

// Bench compares engines on Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: only Linux has both engines")
	os.Exit(1)
}
