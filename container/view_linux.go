package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slipway/container/rootfs"
	"slipway/internal/cleanup"

	mobymount "github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"
)

// mountView makes a stopped container's files visible as the container would see
// them: its root with its volumes and binds, at a place of its own, so that a
// start meanwhile is not affected.
func (m *Manager) mountView(ctx context.Context, c *container, root string) (path string, release func() error, err error) {
	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	if path, err = os.MkdirTemp(m.viewDir(), c.id[:12]+"-"); err != nil {
		return "", nil, err
	}
	undo.Add(func(context.Context) error { return dropView(path) })
	if err := unix.Mount(root, path, "", unix.MS_BIND, ""); err != nil {
		return "", nil, os.NewSyscallError("mount", err)
	}
	if err := unix.Mount("", path, "", unix.MS_PRIVATE, ""); err != nil {
		return "", nil, os.NewSyscallError("mount", err)
	}
	// As at a start: what lies in another mount is mounted after it.
	mounts := slices.Clone(c.record.Load().Mounts)
	slices.SortStableFunc(mounts, func(a, b Mount) int {
		return cmp.Compare(strings.Count(filepath.Clean(a.Destination), "/"), strings.Count(filepath.Clean(b.Destination), "/"))
	})
	for _, p := range mounts {
		if p.Type == mobymount.TypeTmpfs {
			continue // its content ended with the process
		}
		source, err := m.cfg.Volumes.Mount(ctx, viewUser(path), p)
		if err != nil {
			return "", nil, err
		}
		undo.Add(func(ctx context.Context) error { return m.cfg.Volumes.Unmount(ctx, viewUser(path), p) })
		if err := bindInto(path, p.Destination, source, p.RW); err != nil {
			return "", nil, fmt.Errorf("mounting %s for the copy: %w", p.Destination, err)
		}
	}
	if c.record.Load().HostConfig.ReadonlyRootfs {
		// Now that all mount points are there.
		err := unix.MountSetattr(unix.AT_FDCWD, path, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		if err != nil {
			return "", nil, os.NewSyscallError("mount_setattr", err)
		}
	}
	return path, func() error {
		errs := []error{dropView(path)}
		for _, p := range mounts {
			errs = append(errs, m.cfg.Volumes.Unmount(context.WithoutCancel(ctx), viewUser(path), p))
		}
		return errors.Join(errs...)
	}, nil
}

// viewUser names a view to the volumes.
func viewUser(path string) string { return filepath.Base(path) }

// bindInto mounts source at a path in the view, which is resolved beneath it. As
// at a start, a mount point that is missing is made. The mount is none of its
// source's peers: else dropping the view would unmount what the host has mounted
// beneath the source.
func bindInto(view, path, source string, writable bool) error {
	root, err := rootfs.Open(view)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	f, err := root.OpenPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeMountPoint(view, path, source); err != nil {
			return err
		}
		f, err = root.OpenPath(path)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer func() { _ = unix.Close(tree) }()
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if !writable {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	err = unix.MoveMount(tree, "", int(f.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

// makeMountPoint makes a directory, or a file for a source that is one.
func makeMountPoint(view, path, source string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(view)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	path = filepath.Clean("/" + path)[1:]
	if info.IsDir() {
		return root.MkdirAll(path, 0o755)
	}
	if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

func dropView(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return os.NewSyscallError("umount", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (m *Manager) viewDir() string { return filepath.Join(m.cfg.ExecRoot, "views") }

// dropViews removes what a killed daemon was copying.
func (m *Manager) dropViews() error {
	entries, err := os.ReadDir(m.viewDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, dropView(filepath.Join(m.viewDir(), e.Name())))
	}
	return errors.Join(errs...)
}
