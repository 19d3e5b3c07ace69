package clonefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// xfs_repair's exit code when the log holds changes that a mount would replay.
const repairDirtyLog = 2

// Unmount unmounts the pool of a data root, for the removal of the engine and
// for tests. A pool that is in use is errdefs.ErrFailedPrecondition; one that
// is not mounted is left alone.
func Unmount(ctx context.Context, dataRoot string) error {
	root, err := resolveRoot(dataRoot)
	if err != nil {
		return err
	}
	unlock, err := lockRoot(ctx, root)
	if err != nil {
		return err
	}
	defer unlock()
	dir := filepath.Join(root, poolDirName)
	mnt, err := mountAt(dir)
	if err != nil || mnt == nil {
		return err
	}
	err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the pool %s is in use: stop the daemon and its containers first", dir))
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// Repair checks the pool file of a data root with xfs_repair, mends what it
// finds, and returns what the tool said. The pool must not be mounted
// (errdefs.ErrFailedPrecondition). It first tries to mount the pool, because
// only that replays the log; if that works there is nothing to mend. A log that
// cannot be replayed is thrown away only with DiscardLog.
func Repair(ctx context.Context, cfg Config, opts RepairOptions) (output string, err error) {
	if err := cfg.check(); err != nil {
		return "", err
	}
	root, err := resolveRoot(cfg.DataRoot)
	if err != nil {
		return "", err
	}
	unlock, err := lockRoot(ctx, root)
	if err != nil {
		return "", err
	}
	defer unlock()
	file, dir := filepath.Join(root, poolFileName), filepath.Join(root, poolDirName)
	f, err := os.OpenFile(file, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", fmt.Errorf("pool file: %w", err)
	}
	defer f.Close()
	if dev, err := findLoop(f); err != nil {
		return "", err
	} else if dev != nil {
		_ = dev.Close()
		return "", errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the pool file %s is in use through %s: stop the daemon and its containers and unmount %s first", file, dev.path, dir))
	}
	tool, err := findTool("xfs_repair")
	if err != nil {
		return "", errdefs.ErrUnavailable.WithMessage(err.Error() + " (Debian: apt-get install xfsprogs)")
	}
	replayLog(f, dir)
	output, err = runRepair(ctx, tool, "-f", file)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != repairDirtyLog {
		return output, err
	}
	if !opts.DiscardLog {
		return output, errdefs.ErrFailedPrecondition.WithMessage("the pool's log cannot be replayed: `slipway pool repair --discard-log` throws it away, and with it what was written last")
	}
	more, err := runRepair(ctx, tool, "-f", "-L", file)
	return output + more, err
}

// replayLog mounts and unmounts the pool. A failure is no error: then it is
// what xfs_repair is there for.
func replayLog(f *os.File, dir string) {
	if makeDir(dir) != nil {
		return
	}
	dev, err := attachLoop(f)
	if err != nil {
		return
	}
	defer dev.Close()
	if unix.Mount(dev.path, dir, "xfs", mountFlags, mountData) == nil {
		_ = unix.Unmount(dir, 0)
	}
}

func runRepair(ctx context.Context, tool string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return out.String(), fmt.Errorf("xfs_repair: %w", err)
	}
	return out.String(), nil
}
