package clonefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"

	"slipway/internal/treecopy"
)

// Pool is an open pool: on Windows a plain directory, in which clones share blocks
// if its file system is a ReFS that can, and are full copies else. Its methods are
// safe for concurrent use.
type Pool struct {
	cfg    Config
	dir    string
	method string
}

// Open makes the pool's directory. Config.Method may be MethodCopy or
// MethodBlockClone; the latter is an error where it does not work.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	if cfg.Logger == nil || cfg.DataRoot == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("clonefs: Config.DataRoot or Config.Logger is missing")
	}
	if cfg.Method != "" && cfg.Method != MethodCopy && cfg.Method != MethodBlockClone {
		return nil, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("pool method %q is not available on Windows: there are %s and %s", cfg.Method, MethodCopy, MethodBlockClone))
	}
	p := &Pool{cfg: cfg, dir: filepath.Join(cfg.DataRoot, "pool")}
	if err := os.Mkdir(p.dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // Windows ignores the mode
		return nil, fmt.Errorf("open pool: %w", err)
	}
	p.method = treecopy.Probe(p.dir).Name()
	switch {
	case cfg.Method == MethodBlockClone && p.method != MethodBlockClone:
		return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("pool method %s: %s is not on a ReFS that shares blocks", cfg.Method, p.dir))
	case cfg.Method == MethodCopy && p.method != MethodCopy:
		cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "blocks of clones are shared, as the file system can, although copies were asked for")
	}
	level := slog.LevelInfo
	if p.method == MethodCopy {
		level = slog.LevelWarn // every clone takes as much space and time as its original
	}
	cfg.Logger.LogAttrs(ctx, level, "pool is open", slog.String("method", p.method), slog.String("path", p.dir))
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
		reserve = min(max(int64(size)/20, 256<<20), 10<<30)
	}
	var reason string
	if p.method == MethodCopy {
		reason = "the file system cannot share blocks: it is not ReFS, or an older one"
	}
	return Status{
		Method: p.method, Reason: reason, FileSystem: fileSystem(p.dir),
		Size: int64(size), Used: int64(size - free), Free: int64(free), HostFree: int64(free), Reserve: reserve,
	}, nil
}

// fileSystem names the file system of a directory, such as NTFS, or is "" if that
// cannot be told.
func fileSystem(dir string) string {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return ""
	}
	var root, name [windows.MAX_PATH + 1]uint16
	if windows.GetVolumePathName(path, &root[0], uint32(len(root))) != nil ||
		windows.GetVolumeInformation(&root[0], nil, 0, nil, nil, nil, &name[0], uint32(len(name))) != nil {
		return ""
	}
	return windows.UTF16ToString(name[:])
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
