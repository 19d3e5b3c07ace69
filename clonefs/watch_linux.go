package clonefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// trimWindow is what one FITRIM call covers: it holds allocation groups
	// locked, and between two calls a cancelled context is seen.
	trimWindow = 4 * gib
	// trimMinimum is the smallest free extent worth a hole in the host's file.
	trimMinimum = 64 << 10
	// trimPause is the least time between two automatic trims, with room on the
	// host, with little, and when something would be refused for want of it.
	trimPause       = 10 * time.Minute
	trimPauseLow    = time.Minute
	trimPauseUrgent = time.Second
)

// slack is what is remembered of the last trim: bytes of the pool file that
// hold nothing and that it could not give back.
type slack struct {
	bytes   int64     // guarded by lockTrim
	trimmed time.Time // guarded by lockTrim
	low     bool      // a warning about the space has been logged; Run's alone
}

// Run watches the free space of pool and host until ctx ends: it grows the
// pool file when it fills up, gives freed space back to the host, and warns
// when either gets short. It returns nil when ctx ends.
func (p *Pool) Run(ctx context.Context) error {
	ticker := time.NewTicker(p.cfg.Interval)
	defer ticker.Stop()
	for {
		if err := p.look(ctx); err != nil && ctx.Err() == nil {
			p.log.LogAttrs(ctx, slog.LevelError, "pool needs attention", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look is one round of Run.
func (p *Pool) look(ctx context.Context) error {
	s, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if _, err := p.growIfNeeded(ctx, s); err != nil {
		return err
	}
	if err := p.trimIfUseful(ctx, false); err != nil {
		return err
	}
	err = p.CheckSpace(ctx)
	if low := errdefs.IsResourceExhausted(err); low != p.idle.low {
		p.idle.low = low
		if low {
			p.log.LogAttrs(ctx, slog.LevelWarn, "new clones are refused", slog.String("reason", err.Error()))
		} else {
			p.log.LogAttrs(ctx, slog.LevelInfo, "new clones are possible again")
		}
	}
	if errdefs.IsResourceExhausted(err) {
		return nil
	}
	return err
}

// trimIfUseful trims when the pool file takes markedly more of the host than
// the pool's files: that is how freed space shows, however it was freed and
// however often the daemon was restarted since. It is urgent when something
// would be refused otherwise; who comes while another trims waits for it.
func (p *Pool) trimIfUseful(ctx context.Context, urgent bool) error {
	if p.method != MethodPool {
		return nil
	}
	unlock, err := p.locks.Lock(ctx, lockTrim)
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := p.openPool()
	if err != nil {
		return err
	}
	defer dir.Close()
	idle, pause, err := p.idleBytes(ctx, dir, urgent)
	if err != nil || idle == 0 {
		return err
	}
	if rest := pause - time.Since(p.idle.trimmed); rest > 0 {
		if !urgent {
			return nil
		}
		if err := sleep(ctx, rest); err != nil {
			return err
		}
	}
	freed, err := p.trim(ctx, dir)
	if err != nil {
		return err
	}
	p.idle.trimmed = time.Now()
	p.idle.bytes = max(idle-freed, 0)
	p.log.LogAttrs(ctx, slog.LevelInfo, "freed space is given back to the host", slog.Int64("bytes", freed))
	return nil
}

// idleBytes returns how much of the host the pool file holds for nothing, or 0 if
// that is not worth a trim, and how long one has to be ago. It needs lockTrim.
func (p *Pool) idleBytes(ctx context.Context, dir *os.File, urgent bool) (idle int64, pause time.Duration, err error) {
	const looks, between = 5, 20 * time.Millisecond
	for look := 1; ; look++ {
		if urgent {
			if err := settleXFS(dir); err != nil {
				return 0, 0, fmt.Errorf("wait for removed files: %w", err)
			}
		}
		s, err := p.Status(ctx)
		if err != nil {
			return 0, 0, err
		}
		idle = s.FileUsed - s.Used
		p.idle.bytes = max(min(idle, p.idle.bytes), 0)
		worth, pause := max(gib/4, s.Used/20), trimPause
		switch {
		case urgent:
			worth, pause = 16*mib, trimPauseUrgent
		case s.HostFree < 2*p.cfg.reserveOf(s.Size):
			worth, pause = 16*mib, trimPauseLow
		}
		if idle-p.idle.bytes >= worth {
			return idle, pause, nil
		}
		// A file that was removed just now may not even be among those to wait for.
		if !urgent || look == looks {
			return 0, 0, nil
		}
		if err := sleep(ctx, between); err != nil {
			return 0, 0, err
		}
	}
}

// sleep ends early with ctx, whose cause it returns then.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Trim gives the pool file's free space back to the host and returns by how
// many bytes the file takes less of it. Without a pool file it returns 0.
func (p *Pool) Trim(ctx context.Context) (freed int64, err error) {
	if p.method != MethodPool {
		return 0, nil
	}
	unlock, err := p.locks.Lock(ctx, lockTrim)
	if err != nil {
		return 0, err
	}
	defer unlock()
	dir, err := p.openPool()
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	return p.trim(ctx, dir)
}

// trim needs lockTrim.
func (p *Pool) trim(ctx context.Context, dir *os.File) (freed int64, err error) {
	before, err := allocatedBytes(p.file)
	if err != nil {
		return 0, err
	}
	if err := settleXFS(dir); err != nil {
		return 0, fmt.Errorf("wait for removed files: %w", err)
	}
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return 0, fmt.Errorf("sync the pool: %w", err)
	}
	if err := p.trimWindows(ctx, dir); err != nil {
		return 0, err
	}
	after, err := p.settledBytes(ctx, before)
	if err != nil {
		return 0, err
	}
	return max(before-after, 0), nil
}

// settledBytes waits until the pool file no longer shrinks, and returns what it
// takes then: the kernel punches the holes after the trim call has returned, on a
// busy machine not even the first at once.
func (p *Pool) settledBytes(ctx context.Context, before int64) (int64, error) {
	const pause, rounds, quiet, quietAtFirst = 50 * time.Millisecond, 100, 3, 20
	last := before
	for still, round := 0, 0; round < rounds && (still < quiet || last == before && still < quietAtFirst); round++ {
		if err := sleep(ctx, pause); err != nil {
			return 0, err
		}
		now, err := allocatedBytes(p.file)
		if err != nil {
			return 0, err
		}
		still++
		if now < last {
			still = 0
		}
		last = now
	}
	return last, nil
}

func (p *Pool) trimWindows(ctx context.Context, dir *os.File) error {
	s, err := spaceOf(p.dir)
	if err != nil {
		return err
	}
	for start := int64(0); start < s.size; start += trimWindow {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		arg := fstrimRange{Start: uint64(start), Len: trimWindow, MinLen: trimMinimum}
		if start+trimWindow >= s.size {
			arg.Len = math.MaxUint64 - arg.Start // statfs leaves out the log
		}
		err := ioctl(dir, ioctlFITRIM, &arg)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("the file system of %s cannot give back parts of the pool file", p.cfg.DataRoot))
		}
		if err != nil {
			return fmt.Errorf("trim the pool: %w", err)
		}
	}
	return nil
}

func allocatedBytes(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("pool file %s: %w", path, err)
	}
	return st.Blocks * 512, nil
}
