package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// errLocked is that another process has a lock.
var errLocked = errors.New("locked by another process")

// lockRoots makes this process the only daemon on the data root and on the exec
// root. Two on one exec root would take each other's containers for left-overs.
func lockRoots(dataRoot, execRoot string) (unlock func() error, err error) {
	unlockData, err := lock(dataRoot)
	if errors.Is(err, errLocked) {
		return nil, errdefs.ErrUnavailable.WithMessage("another slipwayd uses the data root " + dataRoot + ": stop it, or choose another one with --data-root")
	}
	if err != nil {
		return nil, err
	}
	unlockExec, err := lock(execRoot)
	if errors.Is(err, errLocked) {
		err = errdefs.ErrUnavailable.WithMessage("another slipwayd uses the exec root " + execRoot + ": choose another with --exec-root")
	}
	if err != nil {
		return nil, errors.Join(err, unlockData())
	}
	return func() error { return errors.Join(unlockExec(), unlockData()) }, nil
}

// claimExecRoot notes in the exec root whose it is: the engine's id, and its data
// root for people. The restoring of an engine ends every task that none of
// its records owns, so it must not begin where another engine's containers run.
// tasks is the directory of their bundles.
func claimExecRoot(execRoot, tasks, id, dataRoot string) error {
	path := filepath.Join(execRoot, "engine")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	owner, ownerRoot, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	if owner == id {
		return nil
	}
	if owner != "" {
		bundles, err := os.ReadDir(tasks)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(bundles) > 0 {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
				"containers of another engine, with the data root %s, run in the exec root %s: choose another with --exec-root", ownerRoot, execRoot))
		}
	}
	// In one step: a cut line would be another engine's.
	if err := os.WriteFile(path+".new", []byte(id+" "+dataRoot+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
