package clonefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// Pool is an open pool: on Windows a plain directory in which clones are full
// copies. Its methods are safe for concurrent use.
type Pool struct {
	cfg Config
	dir string
}

// Open makes the pool's directory. Only MethodCopy is to be had.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	if cfg.Logger == nil || cfg.DataRoot == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("clonefs: Config.DataRoot or Config.Logger is missing")
	}
	if cfg.Method != "" && cfg.Method != MethodCopy {
		return nil, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("pool method %q is not available on Windows", cfg.Method))
	}
	p := &Pool{cfg: cfg, dir: filepath.Join(cfg.DataRoot, "pool")}
	if err := os.Mkdir(p.dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // Windows ignores the mode
		return nil, fmt.Errorf("open pool: %w", err)
	}
	cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "pool is open", slog.String("method", MethodCopy), slog.String("path", p.dir))
	return p, nil
}

// Root returns the pool's directory.
func (p *Pool) Root() string { return p.dir }

// Close releases the pool.
func (p *Pool) Close() error { return nil }

// Status says what kind of pool this is and how full.
func (p *Pool) Status(context.Context) (Status, error) {
	path, err := windows.UTF16PtrFromString(p.dir)
	if err != nil {
		return Status{}, err
	}
	var free, size, total uint64
	if err := windows.GetDiskFreeSpaceEx(path, &free, &size, &total); err != nil {
		return Status{}, fmt.Errorf("free space of %s: %w", p.dir, err)
	}
	reserve := p.cfg.Reserve
	if reserve == 0 {
		reserve = min(max(int64(size)/20, 256<<20), 10<<30) //nolint:gosec // disk sizes fit
	}
	return Status{
		Method: MethodCopy, Reason: "no other method on Windows yet",
		Size: int64(size), Used: int64(size - free), Free: int64(free), HostFree: int64(free), Reserve: reserve, //nolint:gosec // disk sizes fit
	}, nil
}

// CheckSpace says whether there is room for a new clone, else
// errdefs.ErrResourceExhausted.
func (p *Pool) CheckSpace(ctx context.Context) error {
	s, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if s.Free < s.Reserve {
		return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("the pool %s has %s of %s free, less than the %s that are kept for running containers: remove containers, volumes or images", p.dir, human(s.Free), human(s.Size), human(s.Reserve)))
	}
	return nil
}

// Run waits for the end of ctx: there is nothing to grow or trim.
func (p *Pool) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Grow is errdefs.ErrFailedPrecondition: there is no pool file.
func (p *Pool) Grow(context.Context, int64) error {
	return errdefs.ErrFailedPrecondition.WithMessage("the pool has no pool file that could grow")
}

// Trim has nothing to do.
func (p *Pool) Trim(context.Context) (freed int64, err error) { return 0, nil }

// Unmount has nothing to do.
func Unmount(context.Context, string) error { return nil }

// Repair is errdefs.ErrNotImplemented: there is no pool file.
func Repair(context.Context, Config, RepairOptions) (output string, err error) {
	return "", errdefs.ErrNotImplemented.WithMessage("there is no pool file to repair on Windows")
}

// Sync has no counterpart on Windows: Finish flushes each file instead.
func Sync(context.Context, string) error { return nil }

// Measure adds up the sizes of the tree at dir; nothing is shared.
func Measure(ctx context.Context, dir string) (Usage, error) {
	var u Usage
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		u.Files++
		u.Apparent += fi.Size()
		return nil
	})
	u.Allocated, u.Unique = u.Apparent, u.Apparent
	return u, err
}

// Copy copies plain trees. Its methods are called one after the other: Prepare,
// Finish, Sync; Discard at any point.
type Copy struct {
	trees []Tree
	stats Stats
}

// NewCopy returns a copy of the given trees; nothing is touched yet.
func NewCopy(trees []Tree, _ Options) *Copy { return &Copy{trees: trees} }

// Prepare does nothing: without reflinks nothing can be taken in advance.
func (c *Copy) Prepare(context.Context) error { return nil }

// Finish copies the trees. Layers are errdefs.ErrNotImplemented.
func (c *Copy) Finish(ctx context.Context) (Stats, error) {
	start := time.Now()
	for _, t := range c.trees {
		if len(t.Layers) > 0 {
			return Stats{}, errdefs.ErrNotImplemented.WithMessage("layers cannot be merged on Windows")
		}
		if err := c.copyTree(ctx, t.Src, t.Dst); err != nil {
			return Stats{}, err
		}
	}
	c.stats.Finish.Passes = 1
	c.stats.Finish.Duration = time.Since(start)
	return c.stats, nil
}

// Sync does nothing: every file was flushed when it was written.
func (c *Copy) Sync(context.Context) error { return nil }

// Discard removes the destinations.
func (c *Copy) Discard(context.Context) error {
	var err error
	for _, t := range c.trees {
		err = errors.Join(err, os.RemoveAll(t.Dst))
	}
	return err
}

// Clone copies the tree src to dst. If it fails it leaves nothing behind.
func Clone(ctx context.Context, src, dst string) (Stats, error) {
	c := NewCopy([]Tree{{Src: src, Dst: dst}}, Options{})
	stats, err := c.Finish(ctx)
	if err != nil {
		return Stats{}, errors.Join(err, c.Discard(ctx))
	}
	return stats, nil
}

// Merge is errdefs.ErrNotImplemented: Windows has no overlayfs.
func Merge(context.Context, []string, string) (Stats, error) {
	return Stats{}, errdefs.ErrNotImplemented.WithMessage("layers cannot be merged on Windows")
}

func (c *Copy) copyTree(ctx context.Context, src, dst string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		target := filepath.Join(dst, rel)
		c.stats.Finish.Inspected++
		switch {
		case d.IsDir():
			c.stats.Directories++
			if err := os.Mkdir(target, 0o700); err != nil && (rel != "." || !errors.Is(err, fs.ErrExist)) {
				return err
			}
			return nil
		case d.Type().IsRegular():
			return c.copyFile(path, target)
		case d.Type()&fs.ModeSymlink != 0:
			c.stats.Others++
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("%s is neither a file, a directory nor a link", path))
	})
}

func (c *Copy) copyFile(src, dst string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fi.Mode().Perm())
	if err != nil {
		return err
	}
	n, err := io.Copy(out, in)
	err = errors.Join(err, out.Sync(), out.Close())
	if err != nil {
		return err
	}
	c.stats.Files++
	c.stats.Bytes += n
	c.stats.Finish.BytesCopied += n
	return os.Chtimes(dst, time.Time{}, fi.ModTime())
}
