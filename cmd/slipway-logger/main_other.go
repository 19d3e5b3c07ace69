//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "slipway-logger: only Linux containers print into FIFOs")
	os.Exit(1)
}
