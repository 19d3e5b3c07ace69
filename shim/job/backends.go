package job

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Backend is what enforces a limit.
type Backend string

const (
	// None is nothing: the limit is refused.
	None Backend = "none"
	// Guard is the shim, which looks every [GuardInterval] and ends what is beyond the limit.
	Guard Backend = "guard"
	// Kernel is the job object itself. For memory and processes there is the guard besides.
	Kernel Backend = "kernel"
)

// Backends say which backend each limit has on this host.
type Backends struct {
	Memory, Processes, CPU, Priority, Network, IO Backend
}

// Check returns errdefs.ErrNotImplemented that names the first of l's limits that has no backend.
func (b Backends) Check(l Limits) error {
	for _, limit := range []struct {
		given   bool
		by      Backend
		what    string
		options string
	}{
		{l.Memory > 0, b.Memory, "memory", "--memory"},
		{l.Processes > 0, b.Processes, "the number of processes", "--pids-limit"},
		{l.CPURate > 0 || l.CPUWeight > 0, b.CPU, "processor time", "--cpus, --cpu-count, --cpu-percent, --cpu-shares"},
		{l.Priority > 0, b.Priority, "the priority class", "annotation " + PriorityAnnotation},
		{l.NetworkRate > 0, b.Network, "the outgoing network rate", "annotation " + NetworkRateAnnotation},
		{l.IOBandwidth > 0 || l.IORate > 0, b.IO, "disk input and output", "--io-maxbandwidth, --io-maxiops"},
	} {
		if limit.given && limit.by == None {
			return fmt.Errorf("this host cannot limit %s (%s): %w", limit.what, limit.options, errdefs.ErrNotImplemented)
		}
	}
	return nil
}

// String returns the backends as docker info shows them.
func (b Backends) String() string {
	return fmt.Sprintf("memory=%s processes=%s cpu=%s priority=%s network=%s io=%s", b.Memory, b.Processes, b.CPU, b.Priority, b.Network, b.IO)
}
