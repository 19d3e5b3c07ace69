package clonefs

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	minReserve = 256 * mib
	maxReserve = 10 * gib
)

type space struct {
	size, free int64
	magic      int64
}

func spaceOf(path string) (space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return space{}, fmt.Errorf("free space of %s: %w", path, err)
	}
	return space{
		size:  int64(st.Blocks) * st.Bsize, //nolint:gosec // no file system is that large
		free:  int64(st.Bavail) * st.Bsize, //nolint:gosec // no file system is that large
		magic: int64(st.Type),              //nolint:unconvert // its width differs by architecture
	}, nil
}

func (c *Config) reserveOf(size int64) int64 {
	if c.Reserve != 0 {
		return c.Reserve
	}
	return min(max(size/20, minReserve), maxReserve)
}

// Status says what kind of pool this is and how full.
func (p *Pool) Status(context.Context) (Status, error) {
	own, err := spaceOf(p.dir)
	if err != nil {
		return Status{}, err
	}
	host, err := spaceOf(p.cfg.DataRoot)
	if err != nil {
		return Status{}, err
	}
	s := Status{
		Method: p.method, Reason: p.reason, FileSystem: fileSystemName(own.magic), PoolFile: p.file,
		Size: own.size, Used: own.size - own.free, Free: own.free,
		Reserve: p.cfg.reserveOf(own.size), HostFree: host.free,
	}
	if p.method != MethodPool {
		return s, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(p.file, &st); err != nil {
		return Status{}, fmt.Errorf("pool file %s: %w", p.file, err)
	}
	s.FileSize, s.FileUsed = st.Size, st.Blocks*512
	mnt, err := mountAt(p.dir)
	if err != nil {
		return Status{}, err
	}
	if mnt == nil {
		return Status{}, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("the pool is no longer mounted at %s: restart the daemon", p.dir))
	}
	s.Device = mnt.source
	return s, nil
}

// CheckSpace says whether there is room for a new clone. It refuses with
// errdefs.ErrResourceExhausted while there is still some left for those that
// run. A pool file that can grow is grown first, and what it holds of the host
// for files that are gone is given back.
func (p *Pool) CheckSpace(ctx context.Context) error {
	s, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if s.Method == MethodPool && s.Free < s.Reserve {
		grown, err := p.growIfNeeded(ctx, s)
		if err != nil {
			return err
		}
		if grown {
			if s, err = p.Status(ctx); err != nil {
				return err
			}
		}
	}
	if s.Free < s.Reserve {
		hint := "remove containers, volumes or images"
		if s.Method == MethodPool {
			hint += ", or enlarge the pool with `slipway pool grow`"
		}
		return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("the pool %s has %s of %s free, less than the %s that are kept for running containers: %s", p.dir, human(s.Free), human(s.Size), human(s.Reserve), hint))
	}
	if s.Method != MethodPool {
		return nil
	}
	return p.checkHost(ctx)
}

func (p *Pool) checkHost(ctx context.Context) error {
	host, err := spaceOf(p.cfg.DataRoot)
	if err != nil {
		return err
	}
	reserve := p.cfg.reserveOf(host.size)
	if host.free < reserve {
		if err := p.trimIfUseful(ctx, true); err != nil && !errdefs.IsNotImplemented(err) {
			return err
		}
		if host, err = spaceOf(p.cfg.DataRoot); err != nil {
			return err
		}
	}
	if host.free < reserve {
		return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("the file system of %s, which holds the sparse pool file, has %s of %s free, less than the %s that are kept for running containers: free space there, or remove containers, volumes or images and run `slipway pool trim`", p.cfg.DataRoot, human(host.free), human(host.size), human(reserve)))
	}
	return nil
}

func fileSystemName(magic int64) string {
	switch magic {
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	}
	return fmt.Sprintf("0x%x", magic)
}

// openPool opens the pool's directory for ioctls on its file system.
func (p *Pool) openPool() (*os.File, error) { return os.Open(p.dir) }
