package job

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// The annotations of an OCI specification that say what its "windows" section has no
// field for. A client sets them by `docker run --annotation`.
const (
	// IdentityAnnotation chooses whose token the processes have: an [Identity].
	IdentityAnnotation = "io.slipway.job.identity"
	// StopAnnotation is the command that asks the container to stop, as a command
	// line. It runs in the container like an exec.
	StopAnnotation = "io.slipway.job.stop-command"
	// ProcessesAnnotation is the greatest number of processes.
	ProcessesAnnotation = "io.slipway.job.processes"
	// PriorityAnnotation is the priority class: idle, below-normal, normal,
	// above-normal or high.
	PriorityAnnotation = "io.slipway.job.priority"
	// NetworkRateAnnotation is the greatest outgoing rate, in bytes per second.
	NetworkRateAnnotation = "io.slipway.job.network-rate"
)

// GuardInterval is the time between two looks of the guard at a container's
// processes, which is about how long one can be beyond its limits.
const GuardInterval = 100 * time.Millisecond

// fullCPU is the whole of the host's processors in the unit of CPU rates: a
// hundredth of a percent.
const fullCPU = 10000

// Limits are the limits of a container. 0 is none.
type Limits struct {
	// Memory is in bytes. The kernel refuses allocations beyond it; the guard ends the
	// container when its processes have more in use, shared memory counted once.
	Memory uint64
	// Processes is the number of processes that live at a time. Beyond it the
	// kernel refuses new ones; the guard terminates the newest.
	Processes uint32
	// CPURate is the share of the host's processors, in hundredths of a percent.
	CPURate uint32
	// CPUWeight is the share while others want processors too: 1 to 9, 5 is usual.
	CPUWeight uint32
	// Priority is the processes' priority class, one of Windows' constants.
	Priority uint32
	// NetworkRate is outgoing bytes per second.
	NetworkRate uint64
	// IOBandwidth is bytes per second and IORate operations per second of the system's volume.
	IOBandwidth, IORate uint64
}

// The priority classes of Microsoft's "SetPriorityClass function".
var priorities = map[string]uint32{
	"": 0, "idle": 0x40, "below-normal": 0x4000, "normal": 0x20, "above-normal": 0x8000, "high": 0x80,
}

// LimitsOf returns the limits that spec asks for on a host of so many processors.
// Errors are errdefs.ErrInvalidArgument.
func LimitsOf(spec *specs.Spec, processors int) (Limits, error) {
	var l Limits
	if spec.Windows != nil && spec.Windows.Resources != nil {
		l.setResources(spec.Windows.Resources, processors)
	}
	if l.CPURate > fullCPU {
		return l, fmt.Errorf("CPU rate of %d is more than %d, all processors: %w", l.CPURate, fullCPU, errdefs.ErrInvalidArgument)
	}
	var err error
	if l.Processes, err = number[uint32](spec.Annotations, ProcessesAnnotation, 32); err != nil {
		return l, err
	}
	if l.NetworkRate, err = number[uint64](spec.Annotations, NetworkRateAnnotation, 63); err != nil {
		return l, err
	}
	class, ok := priorities[spec.Annotations[PriorityAnnotation]]
	if !ok {
		return l, fmt.Errorf("annotation %s is %q; it can be idle, below-normal, normal, above-normal or high: %w",
			PriorityAnnotation, spec.Annotations[PriorityAnnotation], errdefs.ErrInvalidArgument)
	}
	l.Priority = class
	return l, nil
}

func (l *Limits) setResources(r *specs.WindowsResources, processors int) {
	if m := r.Memory; m != nil && m.Limit != nil {
		l.Memory = *m.Limit
	}
	if c := r.CPU; c != nil {
		switch {
		case c.Maximum != nil:
			l.CPURate = uint32(*c.Maximum)
		case c.Count != nil && *c.Count > 0:
			// As with Microsoft's process isolation: so many of the host's processors.
			l.CPURate = uint32(min(*c.Count*fullCPU/uint64(max(1, processors)), fullCPU))
		}
		if c.Shares != nil && l.CPURate == 0 {
			l.CPUWeight = weight(*c.Shares)
		}
	}
	if s := r.Storage; s != nil {
		if s.Bps != nil {
			l.IOBandwidth = *s.Bps
		}
		if s.Iops != nil {
			l.IORate = *s.Iops
		}
	}
}

// weight maps the specification's shares, 1 to 10000 with 5000 as usual, to a job's weight.
func weight(shares uint16) uint32 {
	if shares == 0 {
		return 0
	}
	return min(9, 1+uint32(shares)*8/fullCPU)
}

// number returns the value of an annotation, 0 if there is none.
func number[N uint32 | uint64](annotations map[string]string, name string, bits int) (N, error) {
	text, ok := annotations[name]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, bits)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("annotation %s is %q and must be a whole number above 0: %w", name, text, errdefs.ErrInvalidArgument)
	}
	return N(n), nil
}

// Identity is whose token the processes of a container have.
type Identity string

const (
	// Account is a local account of the container's own, made with it and removed with it.
	Account Identity = "account"
	// AppContainer is an AppContainer of the container's own, with the engine's account.
	AppContainer Identity = "appcontainer"
	// Own is the account of the engine without the rights of administrators. A container can
	// then do whatever that account can, and touch the files of others that have it.
	Own Identity = "own"
)

// IdentityOf returns the identity that spec asks for; [Account] if it says nothing.
func IdentityOf(spec *specs.Spec) (Identity, error) {
	switch id := Identity(spec.Annotations[IdentityAnnotation]); id {
	case "":
		return Account, nil
	case Account, AppContainer, Own:
		return id, nil
	default:
		return "", fmt.Errorf("annotation %s is %q; it can be %s, %s or %s: %w", IdentityAnnotation, id, Account, AppContainer, Own, errdefs.ErrInvalidArgument)
	}
}

// Name returns the name of the inner job of the container id of a containerd namespace. It is
// the same in all sessions of the host.
func Name(namespace, id string) string { return `Global\slipway-` + namespace + "-" + id }
