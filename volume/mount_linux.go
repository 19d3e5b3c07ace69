package volume

import (
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
