package clonefs

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"slipway/internal/failpoint"

	"github.com/containerd/errdefs"
)

// Grow enlarges the pool file to size bytes, while it is in use. It is finished
// by the next Open if it is cut short. Errors:
// errdefs.ErrFailedPrecondition without a pool file, errdefs.ErrInvalidArgument
// for a size below the present one.
func (p *Pool) Grow(ctx context.Context, size int64) error {
	if p.method != MethodPool {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the pool %s has no pool file that could grow: it is as large as its file system", p.dir))
	}
	unlock, err := p.locks.Lock(ctx, lockGrow)
	if err != nil {
		return err
	}
	defer unlock()
	return p.grow(ctx, size)
}

// grow needs lockGrow.
func (p *Pool) grow(ctx context.Context, size int64) error {
	size &^= mib - 1
	f, err := os.OpenFile(p.file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if size < fi.Size() {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the pool has %s and cannot shrink to %s", human(fi.Size()), human(size)))
	}
	failpoint.Hit("clonefs.grow.begin")
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("enlarge %s to %s: %w", p.file, human(size), err)
	}
	failpoint.Hit("clonefs.grow.sized")
	if err := f.Sync(); err != nil {
		return fmt.Errorf("enlarge %s: %w", p.file, err)
	}
	failpoint.Hit("clonefs.grow.durable")
	return p.extend(ctx, f)
}

// finishGrowth does what a growth that was cut short left undone, and grows a
// pool whose configured size was raised.
func (p *Pool) finishGrowth(ctx context.Context) error {
	f, err := os.OpenFile(p.file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if want := p.cfg.PoolSize &^ (mib - 1); want > fi.Size() {
		return p.grow(ctx, want)
	}
	return p.extend(ctx, f)
}

// extend makes loop device and file system as large as the file f.
func (p *Pool) extend(ctx context.Context, f *os.File) error {
	dev, err := findLoop(f)
	if err != nil {
		return err
	}
	if dev == nil {
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("pool file %s has lost its loop device: restart the daemon", p.file))
	}
	defer dev.Close()
	if err := dev.refreshSize(); err != nil {
		return err
	}
	failpoint.Hit("clonefs.grow.attached")
	dir, err := p.openPool()
	if err != nil {
		return err
	}
	defer dir.Close()
	g, err := xfsGeometryOf(dir)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	blocks := uint64(fi.Size()) / uint64(g.BlockSize) //nolint:gosec // sizes are positive
	if blocks < g.DataBlocks+xfsMinAG {
		return nil
	}
	if err := growXFS(dir, g, blocks); err != nil {
		return err
	}
	failpoint.Hit("clonefs.grow.extended")
	p.log.LogAttrs(ctx, slog.LevelInfo, "pool has grown", slog.Int64("size", fi.Size()))
	return nil
}

// growIfNeeded grows a pool that is nearly full, into nine tenths of the room
// that the host has beyond what the pool file may already take. A pool whose
// size the configuration sets grows only by Grow.
func (p *Pool) growIfNeeded(ctx context.Context, s Status) (bool, error) {
	if s.Method != MethodPool || p.cfg.PoolSize != 0 || s.Free >= max(2*s.Reserve, s.Size/10) {
		return false, nil
	}
	step := (s.HostFree - (s.FileSize - s.FileUsed)) / 10 * 9
	if step < max(minReserve, s.Size/20) {
		return false, nil
	}
	unlock, err := p.locks.Lock(ctx, lockGrow)
	if err != nil {
		return false, err
	}
	defer unlock()
	if fi, err := os.Stat(p.file); err != nil {
		return false, err
	} else if fi.Size() != s.FileSize {
		return true, nil // another call has just grown it
	}
	return true, p.grow(ctx, s.FileSize+step)
}
