package testutil

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// claimed keeps the locks of this process's numbers: a file that was forgotten
// here would be closed, and its number given to a second daemon.
var claimed struct {
	mu    sync.Mutex
	files []*os.File
}

// claimNumber gives daemons of all test processes on this machine different
// numbers, for bridges and subnets that do not collide.
func claimNumber() int {
	claimed.mu.Lock()
	defer claimed.mu.Unlock()
	dir := filepath.Join(os.TempDir(), "slipway-test-numbers")
	if os.MkdirAll(dir, 0o750) == nil {
		for n := os.Getpid() % 100; n < 10_000; n++ {
			f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(n)), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				continue
			}
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				claimed.files = append(claimed.files, f)
				return n
			}
			_ = f.Close() // taken by another process
		}
	}
	return os.Getpid() % 10_000
}

// Sweep destroys the daemons of earlier test processes that were killed before
// they could.
func Sweep() error {
	roots, err := filepath.Glob(filepath.Join(rootsDir, rootPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		data, err := os.ReadFile(filepath.Join(root, ownerFile))
		if err != nil {
			continue // being made, or somebody else's
		}
		pid, err := strconv.Atoi(string(data))
		if err != nil || unix.Kill(pid, 0) == nil {
			continue
		}
		d := &Daemon{Root: root, ExecRoot: filepath.Join(root, "run")}
		d.killProcesses()
		errs = append(errs, d.unmountAll(), os.RemoveAll(root))
	}
	return errors.Join(errs...)
}

// Destroy ends the daemon and everything it started, and removes its files. It
// reports what an engine without containers should not have left. It must work
// whatever state a failed test has left the engine in.
func (d *Daemon) Destroy() error {
	var problems []error
	if d.Running() {
		problems = append(problems, d.removeContainers(), d.Stop())
	}
	d.Kill()
	if races := d.Races(); races != "" {
		problems = append(problems, errors.New("the race detector found:\n"+races))
	}
	d.killProcesses()
	problems = append(problems, d.unmountAll(), d.removeNetworks())
	if errors.Join(problems...) == nil {
		problems = append(problems, os.RemoveAll(d.Root))
	}
	return errors.Join(problems...)
}

// removeContainers removes all containers and lets the engine's own checker look.
func (d *Daemon) removeContainers() error {
	var errs []error
	if ids := strings.Fields(d.Docker("ps", "-aq").Stdout); len(ids) > 0 {
		if r := d.Docker(append([]string{"rm", "-fv"}, ids...)...); r.Code != 0 {
			errs = append(errs, fmt.Errorf("docker rm -fv of all: %s", r.Stderr))
		}
	}
	found, err := d.Check()
	errs = append(errs, err)
	for _, p := range found {
		errs = append(errs, fmt.Errorf("debug check: %s", p))
	}
	return errors.Join(errs...)
}

// killProcesses ends what was started beneath the daemon's root: shims, the log
// keeper, and containers of an engine that died.
func (d *Daemon) killProcesses() {
	for range 50 {
		victims := d.processes()
		if len(victims) == 0 {
			return
		}
		for _, pid := range victims {
			_ = unix.Kill(pid, unix.SIGKILL) // fails only if it has just ended
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// processes are those that name the daemon's root in their arguments, or whose
// root file system, as a container's, is mounted beneath it.
func (d *Daemon) processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		args, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")) // gone: no matter
		exe, _, _ := strings.Cut(string(args), "\x00")
		ours := strings.HasPrefix(filepath.Base(exe), "slipway") || strings.HasPrefix(filepath.Base(exe), "containerd-shim") ||
			filepath.Base(exe) == "runc"
		if ours && strings.Contains(string(args), d.Root) || d.inContainer(e.Name()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (d *Daemon) inContainer(pid string) bool {
	mounts, err := os.ReadFile(filepath.Join("/proc", pid, "mountinfo"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(mounts), "\n")
	return strings.Contains(first, d.Root+"/") // the root of a container is an overlay of our directories
}

// unmountAll takes off every mount beneath the daemon's root, deepest first, and
// the loop devices of files there.
func (d *Daemon) unmountAll() error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(d.Root))
	if err != nil {
		return err
	}
	slices.Reverse(mounts) // in the order they were made: later ones first
	for _, m := range mounts {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return err
	}
	for _, b := range backing {
		if file, err := os.ReadFile(b); err == nil && strings.HasPrefix(string(file), d.Root+"/") {
			// Mostly it goes with its mount; then this fails, and no matter.
			_ = run("losetup", "-d", "/dev/"+strings.Split(b, "/")[3])
		}
	}
	return nil
}

// Reboot does to the engine what a power cut of the machine does: everything
// that runs ends at once, mounts and the exec root are gone. What was written
// stays, as if it had been flushed.
func (d *Daemon) Reboot() error {
	d.Kill()
	d.killProcesses()
	unix.Sync()
	return errors.Join(d.unmountAll(), d.removeNetworks(), os.RemoveAll(d.ExecRoot))
}

// LogKeeper is the process that reads the containers' output.
func (d *Daemon) LogKeeper(t *testing.T) Process {
	t.Helper()
	var keeper Process
	Eventually(t, "the log keeper runs", func() bool {
		for _, pid := range d.processes() {
			p := Process(pid)
			if name, err := os.ReadFile(p.file("comm")); err == nil && strings.HasPrefix(string(name), "slipway-logger") && p.Alive() {
				keeper = p
				return true
			}
		}
		return false
	})
	return keeper
}

// Mounts are the mount points beneath the daemon's root.
func (d *Daemon) Mounts() ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(d.Root))
	var out []string
	for _, m := range mounts {
		out = append(out, m.Mountpoint)
	}
	return out, err
}

// removeNetworks takes away the daemon's bridges, which it marks by an alias, and
// its firewall table.
func (d *Daemon) removeNetworks() error {
	var errs []error
	aliases, err := filepath.Glob("/sys/class/net/*/ifalias")
	errs = append(errs, err)
	for _, path := range aliases {
		alias, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(alias)) != "slipway:"+d.Bridge {
			continue // another's, or gone
		}
		if name := filepath.Base(filepath.Dir(path)); run("ip", "link", "delete", name) != nil && exists(filepath.Dir(path)) {
			errs = append(errs, fmt.Errorf("the interface %s cannot be deleted", name))
		}
	}
	table := []string{"table", "ip", "slipway-" + d.Bridge}
	if run("nft", append([]string{"list"}, table...)...) == nil {
		errs = append(errs, run("nft", append([]string{"delete"}, table...)...))
	}
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
