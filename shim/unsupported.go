//go:build !linux

package shim

import (
	"context"
	"fmt"
	"runtime"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var errUnsupported = fmt.Errorf("containers on %s: %w", runtime.GOOS, errdefs.ErrNotImplemented)

// Freezer is not implemented on this system.
type Freezer struct{}

// OOMKills is not implemented on this system.
func (*Drivers) OOMKills(string) (int, error) { return 0, errUnsupported }

// Freezer is not implemented on this system.
func (*Drivers) Freezer(string) (*Freezer, error) { return nil, errUnsupported }

// Freeze is not implemented on this system.
func (*Freezer) Freeze(context.Context) error { return errUnsupported }

// Thaw is not implemented on this system.
func (*Freezer) Thaw() error { return errUnsupported }

// Validate is not implemented on this system.
func Validate(*mobycontainer.Config, *mobycontainer.HostConfig) (warnings []string, err error) {
	return nil, errUnsupported
}

// Spec is not implemented on this system.
func Spec(context.Context, SpecRequest) (*specs.Spec, error) { return nil, errUnsupported }

// Exec is not implemented on this system.
func Exec(*specs.Spec, ExecRequest) (*specs.Process, error) { return nil, errUnsupported }

// MountShm is not implemented on this system.
func MountShm(string, int64) error { return errUnsupported }

// UnmountShm has nothing to do on this system.
func UnmountShm(string) error { return nil }
