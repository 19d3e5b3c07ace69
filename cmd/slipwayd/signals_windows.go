package main

import "os"

// dumpSignals ask for the stacks of all goroutines: none here.
var dumpSignals []os.Signal
