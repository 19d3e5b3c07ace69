package clonefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/failpoint"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const (
	poolFileName = "pool.img"
	newSuffix    = ".new"

	gib = 1 << 30
	mib = 1 << 20

	// minPoolSize is a little above what mkfs.xfs accepts.
	minPoolSize = 512 * mib
)

// mkfsArgs are the options of the pool's file system. Measured on a file of
// 200,000 extents (reflink 3.7 s either way): a log of 256 MiB instead of the
// default gains nothing and makes replay longer, so the log size is the
// default. rmapbt is off because it makes every copy-on-write dearer and only
// serves online repair. The copy-on-write extent size of two blocks, a database
// page, is inherited by every file: with XFS's own of 128 KiB, 16,000 random
// 8 KiB writes into a 1 GiB clone took 925 MB of the pool, with this 124 MB, at
// the same speed and with the same number of extents.
var mkfsArgs = []string{"-q", "-f", "-K", "-d", "cowextsize=2", "-m", "crc=1,reflink=1,bigtime=1,rmapbt=0", "-n", "ftype=1", "-s", "size=" + strconv.Itoa(loopBlock)}

// mountFlags: reading must write nothing. There is no online discard: it would
// send every freed extent, however small, to the host's file as a hole of its
// own, just when others work. Trim leaves out what is below trimMinimum, and runs
// when it pays. (The removal itself takes as long either way: 2.5 to 2.9 s for a
// file of 60,000 extents.)
const (
	mountFlags = unix.MS_NOATIME
	mountData  = "logbufs=8,logbsize=256k"
)

// createPoolFile makes <file> in one step as others see it: it gets its name
// when it is complete and on disk. Its errors wrap errUnavailable where the
// host cannot carry a pool file.
func (p *Pool) createPoolFile(ctx context.Context, file string) error {
	mkfs, err := findTool("mkfs.xfs")
	if err != nil {
		return fmt.Errorf("%w: %w (Debian: apt-get install xfsprogs)", errUnavailable, err)
	}
	if err := checkLoop(); err != nil {
		return err
	}
	size, err := p.newPoolSize()
	if err != nil {
		return err
	}
	temp := file + newSuffix
	failpoint.Hit("clonefs.create.begin")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.makePoolFile(ctx, mkfs, temp, size); err != nil {
		return errors.Join(fmt.Errorf("make pool file: %w", err), ignoreMissing(os.Remove(temp)))
	}
	failpoint.Hit("clonefs.create.made")
	if err := os.Rename(temp, file); err != nil {
		return err
	}
	failpoint.Hit("clonefs.create.renamed")
	if err := syncDir(filepath.Dir(file)); err != nil {
		return err
	}
	failpoint.Hit("clonefs.create.durable")
	p.log.LogAttrs(ctx, slog.LevelInfo, "pool file is made", slog.String("file", file), slog.Int64("size", size))
	return nil
}

func (p *Pool) makePoolFile(ctx context.Context, mkfs, temp string, size int64) error {
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("sparse file of %s: %w", human(size), err)
	}
	failpoint.Hit("clonefs.create.sized")
	if err := runTool(ctx, mkfs, append(slices.Clip(mkfsArgs), temp)...); err != nil {
		return err
	}
	failpoint.Hit("clonefs.create.formatted")
	return f.Sync()
}

// newPoolSize is what the configuration says, else nine tenths of the free
// space in whole GiB: the file is sparse, so it only bounds what the pool can
// take, and Run grows it when the host gets room.
func (p *Pool) newPoolSize() (int64, error) {
	if p.cfg.PoolSize != 0 {
		return p.cfg.PoolSize &^ (mib - 1), nil
	}
	host, err := spaceOf(p.cfg.DataRoot)
	if err != nil {
		return 0, err
	}
	size := host.free / 10 * 9
	if size >= 4*gib {
		size &^= gib - 1
	}
	size &^= mib - 1
	if size < minPoolSize {
		return 0, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("the file system of %s has only %s free: a pool needs at least %s", p.cfg.DataRoot, human(host.free), human(minPoolSize/9*10)))
	}
	return size, nil
}

// mountPoolFile makes sure that the pool file is mounted at the pool's
// directory. mnt is what is mounted there now, nil if nothing.
func (p *Pool) mountPoolFile(ctx context.Context, mnt *mount) error {
	f, err := os.OpenFile(p.file, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := checkPoolFile(f); err != nil {
		return err
	}
	if mnt != nil {
		return p.adopt(ctx, f, mnt)
	}
	if err := makeDir(p.dir); err != nil {
		return err
	}
	if empty, err := isEmptyDir(p.dir); err != nil {
		return err
	} else if !empty {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("%s holds files that mounting %s would hide: move them away first", p.dir, p.file))
	}
	dev, err := attachLoop(f)
	if err != nil {
		return err
	}
	defer dev.Close()
	if !dev.directIO() {
		p.log.LogAttrs(ctx, slog.LevelWarn, "pool works without direct I/O: its data is cached twice", slog.String("device", dev.path))
	}
	failpoint.Hit("clonefs.create.attached")
	if err := unix.Mount(dev.path, p.dir, "xfs", mountFlags, mountData); err != nil {
		return p.mountError(dev, err)
	}
	failpoint.Hit("clonefs.create.mounted")
	p.warnPrivateNamespace(ctx)
	return nil
}

func (p *Pool) mountError(dev *loopDevice, err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("mount %s at %s: not allowed to mount: %w", p.file, p.dir, err)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("mount %s at %s: this kernel has no XFS: %w", p.file, p.dir, err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("mount %s at %s: the host's file system is full: %w", p.file, p.dir, err)
	}
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("mount %s through %s at %s: %v (the kernel log says more): the pool's file system may be damaged. Nothing was changed. Run `slipway pool repair`", p.file, dev.path, p.dir, err))
}

// adopt takes over the pool that an earlier daemon mounted.
func (p *Pool) adopt(ctx context.Context, f *os.File, mnt *mount) error {
	dev, err := findLoop(f)
	if err != nil {
		return err
	}
	if dev != nil {
		defer dev.Close()
	}
	if dev == nil || !mnt.isOn(dev) {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("%s is mounted from %s, not from the pool file %s: unmount it, or move the pool file away", p.dir, mnt.source, p.file))
	}
	p.log.LogAttrs(ctx, slog.LevelDebug, "pool is mounted already", slog.String("device", dev.path))
	return nil
}

// checkPoolFile refuses what cannot be a pool file before anything touches it.
func checkPoolFile(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return errdefs.ErrFailedPrecondition.WithMessage(f.Name() + " is not a regular file")
	}
	size, err := xfsImageSize(f)
	if errors.Is(err, errNotXFS) {
		return errdefs.ErrFailedPrecondition.WithMessage(f.Name() + " is not an XFS file system: restore it, or move it away and a new, empty pool is made")
	}
	if errors.Is(err, errNotReflink) {
		return errdefs.ErrFailedPrecondition.WithMessage(f.Name() + " was made without reflinks: move it away and a new, empty pool is made")
	}
	if err != nil {
		return err
	}
	if size > fi.Size() {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("%s is cut short: it has %d bytes, its file system %d. Restore it from a copy", f.Name(), fi.Size(), size))
	}
	return nil
}

// warnPrivateNamespace: the mount must outlive the daemon.
func (p *Pool) warnPrivateNamespace(ctx context.Context) {
	own, err1 := os.Readlink("/proc/self/ns/mnt")
	first, err2 := os.Readlink("/proc/1/ns/mnt")
	if err1 == nil && err2 == nil && own != first {
		p.log.LogAttrs(ctx, slog.LevelWarn, "pool is mounted in a private mount namespace and ends with it: PrivateMounts, PrivateTmp and ProtectSystem must be off in the systemd unit")
	}
}

// mount is one line of mountinfo.
type mount struct {
	major, minor int
	source       string
}

func (m *mount) isOn(dev *loopDevice) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(dev.f.Fd()), &st); err != nil {
		return false
	}
	return unix.Major(st.Rdev) == uint32(m.major) && unix.Minor(st.Rdev) == uint32(m.minor) //nolint:gosec // device numbers
}

// mountAt returns the topmost mount at dir, nil if there is none.
func mountAt(dir string) (*mount, error) {
	infos, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	if len(infos) == 0 {
		return nil, nil
	}
	top := infos[len(infos)-1]
	return &mount{major: top.Major, minor: top.Minor, source: top.Source}, nil
}

// checkLoop says, without changing anything, whether loop devices can be had.
func checkLoop() error {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: loop devices: %w", errUnavailable, err)
	}
	defer ctl.Close()
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return fmt.Errorf("%w: free loop device: %w", errUnavailable, err)
	}
	dev, err := openLoop(n)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return dev.Close()
}

// findTool looks where system tools are, also when PATH lacks it.
func findTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

// runTool runs a tool of xfsprogs. Its error holds what the tool said.
func runTool(ctx context.Context, path string, args ...string) error {
	cmd := exec.CommandContext(ctx, path, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w: %s", filepath.Base(path), err, strings.TrimSpace(out.String()))
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
