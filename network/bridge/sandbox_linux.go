package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Driver makes bridges, sandboxes and links.
type Driver struct {
	netns string
	alias string
}

// aliasPrefix is what the aliases of all daemons' bridges begin with.
const aliasPrefix = "slipway:"

// New prepares the directory for the namespaces.
func New(cfg Config) (*Driver, error) {
	d := &Driver{netns: filepath.Join(cfg.ExecRoot, "netns"), alias: aliasPrefix + cfg.Owner}
	if err := os.MkdirAll(d.netns, 0o750); err != nil {
		return nil, fmt.Errorf("directory of the network namespaces: %w", err)
	}
	return d, nil
}

// SandboxPath is where the sandbox's namespace is, or will be, bound.
func (d *Driver) SandboxPath(id string) string {
	return filepath.Join(d.netns, id)
}

// CreateSandbox makes a network namespace with nothing but a running loopback,
// and returns the path that pins it. If there is one already, it is kept.
func (d *Driver) CreateSandbox(ctx context.Context, id string) (path string, err error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	path = d.SandboxPath(id)
	if pinned(path) {
		return path, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444) //nolint:gosec // a mount point that anyone may see
	if err != nil {
		return "", fmt.Errorf("mount point of the network namespace: %w", err)
	}
	_ = file.Close() // nothing was written
	done := make(chan error, 1)
	go func() { done <- buildNamespace(path) }()
	if err := <-done; err != nil {
		return "", errors.Join(fmt.Errorf("network namespace of %s: %w", id, err), d.DeleteSandbox(context.WithoutCancel(ctx), id))
	}
	return path, nil
}

// buildNamespace makes a new namespace, sets it up and binds it to path.
func buildNamespace(path string) error {
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		return setUpNamespace(path)
	})
}

func setUpNamespace(path string) error {
	// Interfaces that come later get no IPv6; the loopback keeps its ::1.
	if err := setSysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding to %s: %w", path, err)
	}
	return nil
}

// Enter runs f on a thread that is in the sandbox's network namespace, and returns
// its error. What f starts on other threads, such as goroutines, is not in there.
func (d *Driver) Enter(id string, f func() error) error {
	ns, err := os.Open(d.SandboxPath(id))
	if err != nil {
		return fmt.Errorf("network namespace of %s: %w", id, err)
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		done <- onOwnThread(func() error {
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("entering the network namespace of %s: %w", id, err)
			}
			return f()
		})
	}()
	return <-done
}

// onOwnThread runs f, which may move its thread into another network namespace.
// The thread goes back afterwards, or dies with the goroutine: it must never run
// anything else in the wrong namespace.
func onOwnThread(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	err = f()
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// DeleteSandbox unpins the namespace, which the kernel then removes with all that
// is in it as soon as no process is left inside.
func (d *Driver) DeleteSandbox(_ context.Context, id string) error {
	path := d.SandboxPath(id)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // not, or no longer, a mount point
		}
		if err != nil {
			return fmt.Errorf("unmounting the network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network namespace: %w", err)
	}
	return nil
}

// Exists reports whether the sandbox's namespace is pinned.
func (d *Driver) Exists(id string) bool {
	return pinned(d.SandboxPath(id))
}

// pinned reports whether path is a bound namespace and not just the empty file.
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// setSysctl writes the value if it differs: some of these are expensive to write.
// What the kernel was built without needs no setting.
func setSysctl(name, value string) error {
	path := filepath.Join("/proc/sys", name)
	now, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	if len(now) > 0 && string(now[:len(now)-1]) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("sysctl %s=%s: %w", name, value, err)
	}
	return nil
}
