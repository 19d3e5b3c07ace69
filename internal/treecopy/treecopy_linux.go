package treecopy

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Probe returns the backend for copies within dir.
func Probe(string) Backend { return plain{} }

// plain lets the kernel copy, which shares blocks where it likes to.
type plain struct{}

func (plain) Name() string { return MethodCopy }

func (plain) CopyFile(ctx context.Context, dst, src string, info fs.FileInfo) (shared, copied int64, err error) {
	in, err := os.Open(src)
	if err != nil {
		return 0, 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, 0, err
	}
	const piece = 64 << 20 // after which the context is asked
	for {
		n, err := io.CopyN(out, in, piece)
		copied += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return 0, copied, errors.Join(err, out.Close())
		}
	}
	if err := out.Close(); err != nil {
		return 0, copied, err
	}
	return 0, copied, copyOwner(dst, info)
}

// copyOwner gives a copy the owner, mode and time of its original. The mode comes
// after the owner, whose change takes bits away.
func copyOwner(path string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Lchown(path, int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	return errors.Join(os.Chmod(path, mode), setTime(path, info))
}

func copyDirectory(path string, info fs.FileInfo) error { return copyOwner(path, info) }

func copyLink(dst, src string, info fs.FileInfo) error {
	target, err := os.Readlink(src)
	if err != nil {
		return err
	}
	if err := os.Symlink(target, dst); err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		return os.Lchown(dst, int(stat.Uid), int(stat.Gid))
	}
	return nil
}

func checkName(string) error { return nil }

func isJunction(string, fs.FileInfo) bool { return false }

// Sync makes the tree at dir last through a loss of power.
func Sync(_ context.Context, dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
