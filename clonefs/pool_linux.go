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

	"slipway/internal/keylock"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	poolDirName = "pool"
	defInterval = 10 * time.Second
)

// Pool is an open pool. Its methods are safe for concurrent use.
type Pool struct {
	cfg    Config
	log    *slog.Logger
	dir    string // <data-root>/pool
	file   string // <data-root>/pool.img; empty unless method is MethodPool
	method string
	reason string
	locks  *keylock.Locker // keys: lockGrow, lockTrim
	idle   *slack
}

const (
	lockGrow = "grow"
	lockTrim = "trim"
)

// Open finds, makes or adopts the pool of a data root and finishes what a
// crash interrupted. Errors: errdefs.ErrInvalidArgument for a wrong Config,
// errdefs.ErrFailedPrecondition when what is on disk contradicts it or needs
// [Repair], errdefs.ErrResourceExhausted when the host has no room for a pool.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	root, err := resolveRoot(cfg.DataRoot)
	if err != nil {
		return nil, err
	}
	cfg.DataRoot = root
	unlock, err := lockRoot(ctx, root)
	if err != nil {
		return nil, err
	}
	defer unlock()

	p := &Pool{cfg: cfg, log: cfg.Logger, dir: filepath.Join(root, poolDirName), locks: keylock.New(), idle: &slack{}}
	if err := p.setUp(ctx); err != nil {
		return nil, fmt.Errorf("open pool %s: %w", p.dir, err)
	}
	if p.method == MethodPool {
		if err := p.finishGrowth(ctx); err != nil {
			return nil, fmt.Errorf("open pool %s: %w", p.dir, err)
		}
	}
	attrs := []slog.Attr{slog.String("method", p.method), slog.String("path", p.dir)}
	level := slog.LevelInfo
	if p.method == MethodCopy {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("reason", p.reason))
	}
	p.log.LogAttrs(ctx, level, "pool is open", attrs...)
	return p, nil
}

func (c *Config) check() error {
	switch c.Method {
	case "", MethodReflink, MethodPool, MethodCopy:
	default:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unknown pool method %q: it is one of reflink, pool, copy", c.Method))
	}
	switch {
	case c.Logger == nil:
		return errdefs.ErrInvalidArgument.WithMessage("clonefs: Config.Logger is missing")
	case c.DataRoot == "":
		return errdefs.ErrInvalidArgument.WithMessage("clonefs: Config.DataRoot is missing")
	case c.PoolSize != 0 && c.PoolSize < minPoolSize:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("a pool of %s is too small: at least %s are needed", human(c.PoolSize), human(minPoolSize)))
	case c.Reserve < 0 || c.Interval < 0:
		return errdefs.ErrInvalidArgument.WithMessage("clonefs: negative Reserve or Interval")
	}
	if c.Interval == 0 {
		c.Interval = defInterval
	}
	return nil
}

// setUp decides the method. What is on disk decides first, the configuration
// second, what the host can do last.
func (p *Pool) setUp(ctx context.Context) error {
	file := filepath.Join(p.cfg.DataRoot, poolFileName)
	mnt, err := mountAt(p.dir)
	if err != nil {
		return err
	}
	_, err = os.Lstat(file)
	switch {
	case err == nil:
		return p.usePoolFile(ctx, file, mnt)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case mnt != nil:
		return p.useForeignMount(file)
	case p.cfg.Method == MethodCopy:
		return p.usePlain(MethodCopy, "the configuration forces it")
	}
	if p.cfg.Method != MethodPool {
		err := probeReflink(p.cfg.DataRoot)
		if err == nil {
			return p.usePlain(MethodReflink, "")
		}
		if !errors.Is(err, errNoReflink) {
			return err
		}
		if p.cfg.Method == MethodReflink {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the file system of %s has no reflinks, which the configuration demands: %v", p.cfg.DataRoot, err))
		}
	}
	return p.usePool(ctx, file)
}

// usePool makes a new pool file, unless files of a pool without one would be
// hidden by the mount.
func (p *Pool) usePool(ctx context.Context, file string) error {
	empty, err := isEmptyDir(p.dir)
	if err != nil {
		return err
	}
	if !empty {
		if p.cfg.Method == MethodPool {
			return errdefs.ErrFailedPrecondition.WithMessage(p.dir + " holds files already, which a pool file would hide: move them away first")
		}
		return p.usePlain(MethodCopy, "the pool was begun with this method and holds files")
	}
	err = p.createPoolFile(ctx, file)
	if err == nil {
		return p.usePoolFile(ctx, file, nil)
	}
	if errors.Is(err, errUnavailable) && p.cfg.Method == "" {
		return p.usePlain(MethodCopy, err.Error())
	}
	return err
}

// usePoolFile adopts or mounts an existing pool file.
func (p *Pool) usePoolFile(ctx context.Context, file string, mnt *mount) error {
	if p.cfg.Method != "" && p.cfg.Method != MethodPool {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the configuration forces method %q, but the pool file %s exists: move it away, or drop the option", p.cfg.Method, file))
	}
	p.method, p.file = MethodPool, file
	if p.cfg.Method == MethodPool {
		p.reason = "the configuration forces it"
	}
	if err := p.mountPoolFile(ctx, mnt); err != nil {
		return err
	}
	err := probeReflink(p.dir)
	switch {
	case errors.Is(err, unix.EIO):
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the pool's file system has shut down after an error: stop the containers, `umount %s`, and start again (see the kernel log)", p.dir))
	case errors.Is(err, unix.ENOSPC):
		return nil // full, not broken: what is there must stay usable
	}
	return err
}

// useForeignMount takes what the administrator mounted at the pool's place.
func (p *Pool) useForeignMount(file string) error {
	if p.cfg.Method == MethodPool {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("a file system is mounted at %s, but not from %s: unmount it, or drop the option that forces method %q", p.dir, file, MethodPool))
	}
	if p.cfg.Method == MethodCopy {
		return p.usePlain(MethodCopy, "the configuration forces it")
	}
	err := probeReflink(p.dir)
	switch {
	case err == nil:
		return p.usePlain(MethodReflink, "")
	case !errors.Is(err, errNoReflink):
		return err
	case p.cfg.Method == MethodReflink:
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the file system mounted at %s has no reflinks, which the configuration demands", p.dir))
	}
	return p.usePlain(MethodCopy, "the file system mounted at the pool has no reflinks")
}

func (p *Pool) usePlain(method, reason string) error {
	p.method, p.reason = method, reason
	return makeDir(p.dir)
}

// Root returns the pool's directory, <data-root>/pool without symbolic links.
func (p *Pool) Root() string { return p.dir }

// Close releases the pool. It stays mounted: containers may be running in it.
func (p *Pool) Close() error { return nil }

// resolveRoot returns the data root without symbolic links, as mountinfo shows
// it.
func resolveRoot(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	root, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("data root: %w", err)
	}
	if fi, err := os.Stat(root); err != nil {
		return "", fmt.Errorf("data root: %w", err)
	} else if !fi.IsDir() {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("data root %s is not a directory", root))
	}
	return root, nil
}

// lockRoot keeps other processes from setting up the same pool. The daemon's
// own lock file does not serve: `slipway pool repair` takes no daemon's lock.
func lockRoot(ctx context.Context, root string) (unlock func(), err error) {
	f, err := os.Open(root)
	if err != nil {
		return nil, fmt.Errorf("data root: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing unlocks; nothing was written
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock data root %s: %w", root, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait for another process that sets up the pool of %s: %w", root, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// makeDir makes the pool's directory. Containers in user namespaces must be
// able to pass through it.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // passing through is the purpose
		return err
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return errdefs.ErrFailedPrecondition.WithMessage(dir + " is not a directory")
	}
	return nil
}

// isEmptyDir also says true of a directory that does not exist.
func isEmptyDir(dir string) (bool, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if len(names) > 0 {
		return false, nil
	}
	if !errors.Is(err, io.EOF) {
		return false, err
	}
	return true, nil
}
