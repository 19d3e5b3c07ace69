package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"slipway/shim/job/service"
)

func main() {
	err := service.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "containerd-shim-slipway-job-v1: %s\n", err)
		os.Exit(1)
	}
}
