package shim

import (
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// MaxSignal is the highest signal that can be sent to a container: Linux's
// SIGRTMAX, which Docker's table of names has on every system.
const MaxSignal = 64

// Config says where the execution drivers are installed and keep their state.
type Config struct {
	// BinDir is the absolute directory of the drivers' programs: on Linux runc and
	// containerd-shim-runc-v2, on Windows containerd-shim-slipway-job-v1.exe.
	BinDir string
	// ExecRoot is the engine's absolute directory for state that a reboot ends.
	ExecRoot string
}

// Drivers knows the installed execution drivers.
type Drivers struct {
	binDir, execRoot string
}

// New returns the drivers of cfg.
func New(cfg Config) (*Drivers, error) {
	for name, dir := range map[string]string{"BinDir": cfg.BinDir, "ExecRoot": cfg.ExecRoot} {
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("%s %q must be an absolute path: %w", name, dir, errdefs.ErrInvalidArgument)
		}
	}
	return &Drivers{binDir: cfg.BinDir, execRoot: cfg.ExecRoot}, nil
}
