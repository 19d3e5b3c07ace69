package logs

import (
	"fmt"

	"github.com/containerd/errdefs"
)

var errNoKeeper = fmt.Errorf("log keeper on Windows: %w", errdefs.ErrNotImplemented)

type process struct{}

func (*process) ensure(Config) error { return errNoKeeper }

type anchor int

func openAnchors(...string) ([]anchor, error) { return nil, errNoKeeper }

func (anchor) close() error { return nil }

// FIFOs are the paths of a container's streams.
type FIFOs struct{ Stdin, Stdout, Stderr string }

// MakeFIFOs is not implemented on Windows.
func MakeFIFOs(string, bool, bool) (FIFOs, error) { return FIFOs{}, errNoKeeper }
