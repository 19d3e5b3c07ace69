// Guest is the first program of the virtual machine of `make test-vm`. The kernel
// starts it three times over: as /init of the initramfs it loads the kernel's
// modules and changes to the system image; as that image's first process it
// mounts what a Linux system has and then only collects dead processes; and as
// the child of that one it runs what the tests outside ask for. When they hang
// up, the machine is switched off.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"slipway/integration/vm/agent"
)

// Devices, in the order of the machine's command line.
const (
	systemDisk = "/dev/vda"
	dataDisk   = "/dev/vdb"
	port       = "/dev/vport*p1" // the number is the device's on its bus
)

const dirMode = os.FileMode(0o755) // as in any system

// path is what a shell of root has, and the engine's programs.
const path = "PATH=/opt/slipway:/usr/sbin:/usr/bin:/sbin:/bin"

func main() {
	var err error
	switch {
	case os.Args[0] == "agent":
		err = serve()
	case exists("/modules"):
		err = initramfs()
	default:
		err = system()
	}
	fmt.Fprintf(os.Stderr, "guest: %s: %v\n", os.Args[0], err)
	if os.Getpid() == 1 {
		off()
	}
	if err != nil {
		os.Exit(1)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, dirMode); err != nil && !errors.Is(err, unix.EROFS) {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

func initramfs() error {
	if err := mountAll([]mount{{"devtmpfs", "/dev", "devtmpfs", 0, ""}, {"proc", "/proc", "proc", 0, ""}}); err != nil {
		return err
	}
	list, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(list)) {
		if err := load("/modules/" + name); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	for _, device := range []string{systemDisk, dataDisk, port} {
		if _, err := await(device); err != nil {
			return err
		}
	}
	if err := mountAll([]mount{{systemDisk, "/system", "ext4", unix.MS_RDONLY, ""}}); err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc"} {
		if err := unix.Mount(dir, "/system"+dir, "", unix.MS_MOVE, ""); err != nil {
			return err
		}
	}
	if err := unix.Chdir("/system"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"init"}, []string{path, "HOME=/root"})
}

// await waits for a device, which appears some time after its module was loaded.
func await(pattern string) (string, error) {
	for range 1000 {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) > 0 {
			return strings.Join(found, " "), err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", fmt.Errorf("%s does not appear", pattern)
}

func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// system mounts what a Debian has that systemd has started: in particular
// cgroup v2 and nothing of version 1. The system image is read-only; /var is the
// data disk.
func system() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err := mountAll([]mount{
		{"sysfs", "/sys", "sysfs", safe, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", safe, "nsdelegate,memory_recursiveprot"},
		{"securityfs", "/sys/kernel/security", "securityfs", safe, ""},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, ""},
		{"mqueue", "/dev/mqueue", "mqueue", safe, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{dataDisk, "/var", "ext4", 0, ""},
	})
	if err != nil {
		return err
	}
	for _, dir := range []string{"/var/tmp", "/var/lib", "/var/log"} {
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return err
		}
	}
	// As systemd does it: a mount made in the host's namespace is seen in others.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return err
	}
	if out, err := exec.Command("/bin/busybox", "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil { //nolint:noctx // ends at once
		return fmt.Errorf("lo: %w: %s", err, out)
	}
	agent, err := os.StartProcess("/sbin/init", []string{"agent"}, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return err
	}
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		switch {
		case pid == agent.Pid:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// serve is the agent, on a port that is opened blocking: the runtime's poller
// would take the time before the other side is connected for an end.
func serve() error {
	name, err := await(port)
	if err != nil {
		return err
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return agent.Serve(f, nil)
}

// off switches the machine off, after what is in memory was written.
func off() {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Fprintln(os.Stderr, "guest: power off:", err)
	}
}
