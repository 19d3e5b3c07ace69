package volume

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	mobymount "github.com/moby/moby/api/types/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// isMounted reports whether something is mounted at path. It costs two system
// calls, however many mounts there are.
func isMounted(path string) (bool, error) {
	var own, parent unix.Statx_t
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	err := unix.Statx(unix.AT_FDCWD, path, flags, unix.STATX_MNT_ID, &own)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	if err := unix.Statx(unix.AT_FDCWD, filepath.Dir(path), flags, unix.STATX_MNT_ID, &parent); err != nil {
		return false, &fs.PathError{Op: "statx", Path: filepath.Dir(path), Err: err}
	}
	return own.Mnt_id != parent.Mnt_id, nil
}

// unmount takes away everything that is mounted at path. A mount that is in use
// vanishes from the tree now and ends with its last user.
func unmount(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil // nothing, or nothing more, is mounted there
		}
		if err != nil {
			return &fs.PathError{Op: "umount", Path: path, Err: err}
		}
	}
}

// unmountTree takes away every mount below dir, the last one made first.
func unmountTree(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("finding mounts below %s: %w", dir, err)
	}
	for _, m := range slices.Backward(mounts) {
		if err := unmount(m.Mountpoint); err != nil {
			return err
		}
	}
	return nil
}

// unmountAll unmounts the volume, topmost first.
func (m *Manager) unmountAll(name string) error {
	return errors.Join(unmount(m.data(name)), unmount(m.layer(name)))
}

// openIn opens the directory at path as it is in the tree below root: no
// symbolic link and no ".." leads out of it. A mount point below is entered.
func openIn(root, path string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	for {
		fd, err := unix.Openat2(dir, path, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		switch {
		case errors.Is(err, unix.EAGAIN): // a rename raced with ".."
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

// bindAt mounts what f is at target, whatever f's path means by now.
func bindAt(f *os.File, target string) error {
	tree, err := unix.OpenTree(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &fs.PathError{Op: "open_tree", Path: f.Name(), Err: err}
	}
	defer unix.Close(tree)
	// Else unmounting it would unmount what is mounted beneath the source, too.
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
		return &fs.PathError{Op: "mount_setattr", Path: f.Name(), Err: err}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &fs.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// isDir reports whether f is a directory.
func isDir(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	return info.IsDir(), nil
}

// realPath returns f's path below root, without symbolic links. root is absolute
// and has none.
func realPath(f *os.File, root string) (string, error) {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s is not below %s", path, root)
	}
	return rel, nil
}

// subpathDir is where a container's mount of a part of a volume is.
func (m *Manager) subpathDir(user string, p MountPoint) string {
	sum := sha256.Sum256([]byte(p.Destination))
	return filepath.Join(m.cfg.RunDir, user, hex.EncodeToString(sum[:8]))
}

// mountSubpath mounts the part of the volume that p asks for, resolved beneath
// the volume, at a place that containers cannot change, and returns that.
func (m *Manager) mountSubpath(user string, p MountPoint) (string, error) {
	at := m.subpathDir(user, p)
	mounted, err := isMounted(at)
	if err != nil || mounted {
		return at, err
	}
	source, err := openIn(m.data(p.Name), p.Spec.VolumeOptions.Subpath)
	if errors.Is(err, fs.ErrNotExist) {
		return "", invalid("cannot access path %s: no such file or directory", p.Spec.VolumeOptions.Subpath)
	}
	if err != nil {
		return "", err
	}
	defer source.Close()
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return "", err
	}
	dir, err := isDir(source)
	if err != nil {
		return "", err
	}
	if dir {
		err = os.Mkdir(at, 0o700)
	} else {
		err = os.WriteFile(at, nil, 0o600) // a file is mounted on a file
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return at, bindAt(source, at)
}

func (m *Manager) unmountSubpath(user string, p MountPoint) error {
	at := m.subpathDir(user, p)
	if err := unmount(at); err != nil {
		return err
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The directory goes with its last mount.
	if err := os.Remove(filepath.Dir(at)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// bindSource makes the missing source of a bind if the request allows it.
func (m *Manager) bindSource(p MountPoint) error {
	if !p.CreateSource {
		_, err := os.Stat(p.Source)
		if errors.Is(err, fs.ErrNotExist) {
			return invalid("invalid mount config for type %q: bind source path does not exist: %s", p.Type, p.Source)
		}
		return err
	}
	//nolint:gosec // a directory of the user's, Docker's mode
	if err := os.MkdirAll(p.Source, 0o755); err != nil && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("error while creating mount source path '%s': %w", p.Source, err)
	}
	return nil
}

// mountOptions mounts what the volume's options say at its data directory.
func (m *Manager) mountOptions(r record) error {
	at := m.data(r.Name)
	mounted, err := isMounted(at)
	if err != nil || mounted {
		return err
	}
	device, list := r.Options["device"], r.Options["o"]
	if kind := r.Options["type"]; kind == "nfs" || kind == "cifs" {
		if device, list, err = resolveHost(kind, device, list); err != nil {
			return fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
	}
	what := mount.Mount{Type: r.Options["type"], Source: device}
	if list != "" {
		what.Options = strings.Split(list, ",")
	}
	if err := what.Mount(at); err != nil {
		return fmt.Errorf("failed to mount local volume: %w", hidePassword(err, list))
	}
	return nil
}

// resolveHost replaces host names by addresses, because the kernel knows no names.
func resolveHost(kind, device, list string) (newDevice, newList string, err error) {
	for option := range strings.SplitSeq(list, ",") {
		name, isAddress := strings.CutPrefix(option, "addr=")
		if !isAddress || name == "" || net.ParseIP(name) != nil {
			continue
		}
		ip, err := net.ResolveIPAddr("ip", name)
		if err != nil {
			return "", "", err
		}
		return device, strings.Replace(list, option, "addr="+ip.String(), 1), nil
	}
	if kind != "cifs" {
		return device, list, nil
	}
	address, err := url.Parse(device)
	if err != nil || address.Host == "" || net.ParseIP(address.Host) != nil {
		return device, list, err
	}
	ip, err := net.ResolveIPAddr("ip", address.Host)
	if err != nil {
		return "", "", err
	}
	address.Host = ip.String()
	device, err = url.QueryUnescape(address.String())
	return device, list, err
}

// hidePassword keeps the password of a network volume out of errors.
func hidePassword(err error, list string) error {
	for option := range strings.SplitSeq(list, ",") {
		if strings.HasPrefix(option, "password=") {
			return errors.New(strings.ReplaceAll(err.Error(), option, "password=********"))
		}
	}
	return err
}

// propagates reports whether mounts made below path on the host travel on.
func propagates(path string) bool {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	parents, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return false
	}
	var at, optional string
	for _, p := range parents {
		if len(p.Mountpoint) >= len(at) {
			at, optional = p.Mountpoint, p.Optional
		}
	}
	return strings.Contains(optional, "shared:") || strings.Contains(optional, "master:")
}

// recursiveReadonly reports whether the kernel has mount_setattr(2), 5.12.
var recursiveReadonly = sync.OnceValue(func() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{})
	return !errors.Is(err, unix.ENOSYS)
})

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// moveNew renames a file and replaces none.
func moveNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // this file system cannot do it in one step
		if _, err := os.Lstat(to); err == nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
		}
		return os.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// checkMounts looks for mounts that no volume and no running container needs.
func (m *Manager) checkMounts(_ context.Context, uses []Use) ([]string, error) {
	keep := m.subpathMounts(uses)
	for _, c := range m.candidates() {
		_, _, active, _ := m.lookup(c.Name)
		switch {
		case c.isOverlay(), c.damaged:
			keep = append(keep, m.data(c.Name), m.layer(c.Name))
		case isMount(c.Options) && active > 0:
			keep = append(keep, m.data(c.Name))
		}
	}
	mounts, err := mountinfo.GetMounts(func(info *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(info.Mountpoint, m.cfg.Root+"/") && !strings.HasPrefix(info.Mountpoint, m.cfg.RunDir+"/"), false
	})
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, info := range mounts {
		isNeeded := slices.ContainsFunc(keep, func(path string) bool { return within(info.Mountpoint, path) })
		if !isNeeded {
			problems = append(problems, fmt.Sprintf("mount %s belongs to no volume in use", info.Mountpoint))
		}
	}
	return problems, nil
}

// treeSize adds up the sizes of the files below root, each counted once.
func treeSize(ctx context.Context, root string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]struct{}{}
	var total int64
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed while we look
		}
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			if errors.Is(err, unix.ENOENT) {
				return nil
			}
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			return ctx.Err()
		}
		id := inode{stat.Dev, stat.Ino}
		if _, again := seen[id]; again && stat.Nlink > 1 {
			return nil
		}
		if stat.Nlink > 1 {
			seen[id] = struct{}{}
		}
		total += stat.Size
		return nil
	})
	return total, err
}

const viewPrefix = "view-"

// sweepRunDir removes views, and sub path mounts of containers that do not run.
func (m *Manager) sweepRunDir(uses []Use) error {
	keep := m.subpathMounts(uses)
	dirs, err := os.ReadDir(m.cfg.RunDir)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		path := filepath.Join(m.cfg.RunDir, dir.Name())
		if strings.HasPrefix(dir.Name(), viewPrefix) {
			if err := dropMountpoint(path); err != nil {
				return err
			}
			continue
		}
		mounts, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, entry := range mounts {
			if at := filepath.Join(path, entry.Name()); !slices.Contains(keep, at) {
				if err := dropMountpoint(at); err != nil {
					return err
				}
			}
		}
		_ = os.Remove(path) // stays if a mount stays
	}
	return nil
}

// subpathMounts returns where the running containers' sub path mounts are.
func (m *Manager) subpathMounts(uses []Use) []string {
	var paths []string
	for _, use := range uses {
		for _, p := range use.Points {
			if use.Running && p.Type == mobymount.TypeVolume && p.Spec.VolumeOptions != nil && p.Spec.VolumeOptions.Subpath != "" {
				paths = append(paths, m.subpathDir(use.ID, p))
			}
		}
	}
	return paths
}
