package main

import (
	"os"
	"syscall"
)

// dumpSignals ask for the stacks of all goroutines, as dockerd's SIGUSR1 does.
var dumpSignals = []os.Signal{syscall.SIGUSR1}
