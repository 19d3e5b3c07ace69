package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// The kernel gives no notice of a frozen control group that is cheaper than
// looking.
const (
	firstFreezePoll = 100 * time.Microsecond
	lastFreezePoll  = 2 * time.Millisecond

	// How long to try before the processes are let go for breath, at first; each
	// further time twice as long, since a slow disk may need it.
	firstFreezeAttempt = 250 * time.Millisecond
	// breath is enough for threads to end.
	breath = 5 * time.Millisecond
)

// Freezer stops all processes of a container at one moment, and lets them go on.
//
// It works on the control group itself. The runtime's own pause and resume are
// two programs to start, in a time that a database stands still; and runc gives
// up on version 1's freezer when a process is in an uninterruptible sleep for
// long, as databases are that wait for the disk: it thaws between its attempts.
type Freezer struct {
	control        string // the file that is written to
	freeze, thaw   string
	state, settled string // the file that says so when all processes are frozen
}

// Freezer returns the freezer of a running container's control group. It is
// errdefs.ErrNotFound if there is none where it should be.
func (d *Drivers) Freezer(cgroup string) (*Freezer, error) {
	return newFreezer(cgroupRoot, cgroup)
}

func newFreezer(root, cgroup string) (*Freezer, error) {
	cgroup = filepath.Join("/", cgroup)
	v1 := filepath.Join(root, "freezer", cgroup)
	if exists(filepath.Join(v1, "freezer.state")) {
		file := filepath.Join(v1, "freezer.state")
		return &Freezer{control: file, freeze: "FROZEN", thaw: "THAWED", state: file, settled: "FROZEN\n"}, nil
	}
	v2 := filepath.Join(root, cgroup)
	if exists(filepath.Join(v2, "cgroup.freeze")) {
		return &Freezer{control: filepath.Join(v2, "cgroup.freeze"), freeze: "1", thaw: "0", state: filepath.Join(v2, "cgroup.events"), settled: "frozen 1\n"}, nil
	}
	return nil, fmt.Errorf("control group %s with a freezer: %w", cgroup, errdefs.ErrNotFound)
}

// Freeze returns when no process of the container runs. If that is not so before
// ctx ends, it lets all go on and returns the context's cause.
//
// It lets them go for a moment from time to time: a program with threads that
// executes another waits in the kernel, where it cannot be frozen, for its threads,
// and those do not end while version 1's freezer holds them. Every exec in a
// container is such a program, the runtime's.
func (f *Freezer) Freeze(ctx context.Context) error {
	for limit := firstFreezeAttempt; ; limit *= 2 {
		attempt, cancel := context.WithTimeoutCause(ctx, limit, errNotFrozen)
		err := f.attempt(attempt)
		cancel()
		if !errors.Is(err, errNotFrozen) {
			return err
		}
		time.Sleep(breath)
	}
}

var errNotFrozen = errors.New("not frozen in time")

// attempt is Freeze without the moments of breath.
func (f *Freezer) attempt(ctx context.Context) error {
	for wait := firstFreezePoll; ; wait = min(2*wait, lastFreezePoll) {
		// Again and again, for version 1, which misses processes that are being made.
		if err := os.WriteFile(f.control, []byte(f.freeze), 0); err != nil {
			return errors.Join(fmt.Errorf("freezing: %w", err), f.Thaw())
		}
		state, err := os.ReadFile(f.state)
		if err != nil {
			return errors.Join(fmt.Errorf("freezing: %w", err), f.Thaw())
		}
		if strings.Contains(string(state), f.settled) {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(context.Cause(ctx), f.Thaw())
		case <-timer.C:
		}
	}
}

// Thaw lets the processes go on. It is no error if none is frozen, or none there.
func (f *Freezer) Thaw() error {
	err := os.WriteFile(f.control, []byte(f.thaw), 0)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("thawing: %w", err)
}
