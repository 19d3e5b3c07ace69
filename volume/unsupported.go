//go:build !linux

package volume

import (
	"context"
	"fmt"
	"runtime"

	"github.com/containerd/errdefs"
)

var errUnsupported = fmt.Errorf("volumes on %s: %w", runtime.GOOS, errdefs.ErrNotImplemented)

// Restore is not implemented on this system.
func (m *Manager) Restore(context.Context, []Use) error { return errUnsupported }

// CheckLeaks is not implemented on this system.
func (m *Manager) CheckLeaks(context.Context, []Use) ([]string, error) { return nil, errUnsupported }

// Upper is not implemented on this system.
func (m *Manager) Upper(context.Context, string) (Upper, bool, error) {
	return Upper{}, false, errUnsupported
}

func (m *Manager) populate(context.Context, record, bool, Source) error { return errUnsupported }
func (m *Manager) ensureMounted(context.Context, record) error          { return errUnsupported }
func (m *Manager) mountSubpath(string, MountPoint) (string, error)      { return "", errUnsupported }
func (m *Manager) unmountSubpath(string, MountPoint) error              { return errUnsupported }
func (m *Manager) bindSource(MountPoint) error                          { return errUnsupported }
func (m *Manager) size(context.Context, record) (int64, error)          { return 0, errUnsupported }

func unmount(string) error     { return errUnsupported }
func unmountTree(string) error { return errUnsupported }
func syncDir(string) error     { return errUnsupported }
func propagates(string) bool   { return false }
func recursiveReadonly() bool  { return false }
