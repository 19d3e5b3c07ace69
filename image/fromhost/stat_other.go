//go:build !linux

package fromhost

import "github.com/containerd/errdefs"

// statFile is never reached: only Linux has a dpkg database.
func statFile(string) (File, error) { return File{}, errdefs.ErrNotImplemented }
