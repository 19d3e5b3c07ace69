package shim

import (
	"context"
	"path/filepath"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"

	"slipway/shim/job"
)

// JobName is the name in Docker's API of the runtime whose containers are job
// objects; "io.containerd.slipway-job.v1" is accepted for the same.
const JobName = "slipway-job"

const (
	jobV1     = "io.containerd.slipway-job.v1"
	jobV1Shim = "containerd-shim-slipway-job-v1.exe"
)

// Runtime returns the runtime's name and options for containerd's
// client.WithRuntime. The name is the shim's absolute path, as on Linux and for the
// same reasons. The job shim has no options: all it needs is in the specification.
//
// A runtime other than the job shim is refused with Docker's message.
func (d *Drivers) Runtime(host *mobycontainer.HostConfig) (name string, options any, err error) {
	if err := checkRuntime(host.Runtime); err != nil {
		return "", nil, err
	}
	return filepath.Join(d.binDir, jobV1Shim), nil, nil
}

func checkRuntime(name string) error {
	switch name {
	case "", JobName, jobV1:
		return nil
	default:
		return errdefs.ErrInvalidArgument.WithMessage("unknown or invalid runtime name: " + name)
	}
}

// OOMKills is not implemented on this system, where the end for want of memory is
// an event of the shim.
func (*Drivers) OOMKills(string) (int, error) {
	return 0, errdefs.ErrNotImplemented.WithMessage("a job does not count what was ended for want of memory")
}

// Freezer stops all processes of a container at one moment, and lets them go on.
type Freezer struct{ *job.Suspender }

// Freezer returns the freezer of a running container's job, whose name is
// [job.Name]. It is errdefs.ErrNotFound if there is none.
func (*Drivers) Freezer(name string) (*Freezer, error) {
	s, err := job.OpenSuspender(name)
	if err != nil {
		return nil, err
	}
	return &Freezer{s}, nil
}

// Freeze returns when no process of the container runs. If that is not so before
// ctx ends, it lets all go on and returns the context's cause.
func (f *Freezer) Freeze(ctx context.Context) error { return f.Suspend(ctx) }

// Thaw lets the processes go on that this freezer has stopped, and ends its use.
func (f *Freezer) Thaw() error { return f.Close() }

// MountShm is not implemented on this system, which has no such file system.
func MountShm(string, int64) error {
	return errdefs.ErrNotImplemented.WithMessage("Windows has no shared memory in the form of files")
}

// UnmountShm has nothing to do on this system.
func UnmountShm(string) error { return nil }
