package testutil

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Process looks at a process from outside, through /proc: what it really got,
// not what an API says it was given.
type Process int

// ContainerProcess is the main process of a running container.
func (d *Daemon) ContainerProcess(t *testing.T, container string) Process {
	t.Helper()
	out := d.MustDocker(t, "inspect", "-f", "{{.State.Pid}}", container)
	pid, err := strconv.Atoi(out)
	if err != nil || pid == 0 {
		t.Fatalf("container %s has no process: %q", container, out)
	}
	return Process(pid)
}

func (p Process) file(name string) string { return filepath.Join("/proc", strconv.Itoa(int(p)), name) }

// Alive tells whether the process is there and no zombie.
func (p Process) Alive() bool {
	stat, err := os.ReadFile(p.file("stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// Reaped reports whether the process has ended and its parent knows.
func (p Process) Reaped() bool { return !exists(p.file("stat")) }

// Read is the content of one of the process's files in /proc.
func (p Process) Read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(p.file(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// RootPath is a path in the process's root file system, seen from the host.
func (p Process) RootPath(path string) string { return filepath.Join(p.file("root"), path) }

// Parent is the process's parent.
func (p Process) Parent(t *testing.T) Process {
	t.Helper()
	pid, err := strconv.Atoi(p.Status(t, "PPid"))
	if err != nil || pid <= 1 {
		t.Fatalf("process %d has no parent of its own: %v", p, err)
	}
	return Process(pid)
}

// Kill ends the process with SIGKILL.
func (p Process) Kill() error { return unix.Kill(int(p), unix.SIGKILL) }

// Status is a line of /proc/PID/status without its name.
func (p Process) Status(t *testing.T, field string) string {
	t.Helper()
	data, err := os.ReadFile(p.file("status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("%s has no %s", p.file("status"), field)
	return ""
}

// Environ is the process's environment.
func (p Process) Environ(t *testing.T) []string {
	t.Helper()
	var data []byte
	// It is empty while the process changes from the runtime to the container's program.
	Eventually(t, "the process has an environment", func() bool {
		var err error
		if data, err = os.ReadFile(p.file("environ")); err != nil {
			t.Fatal(err)
		}
		return len(data) > 0
	})
	return strings.Split(strings.TrimRight(string(data), "\x00"), "\x00")
}

// Capability tells whether the process's bounding set has the capability of
// that number (see capability.h).
func (p Process) Capability(t *testing.T, number uint) bool {
	t.Helper()
	mask, err := strconv.ParseUint(p.Status(t, "CapBnd"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return mask&(1<<number) != 0
}

// MountOptions are the options of the mount at a path in the process's own mount
// namespace: those of the mount and those of its file system, "" if nothing is
// mounted there.
func (p Process) MountOptions(t *testing.T, at string) string {
	t.Helper()
	data, err := os.ReadFile(p.file("mountinfo"))
	if err != nil {
		t.Fatal(err)
	}
	options := ""
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) >= 10 && f[4] == at {
			options = f[5] + "," + f[len(f)-1] // the last mount covers the others
		}
	}
	return options
}

// Cgroup reads a file of the process's control group: v1 names it on a machine
// with version 1 of the controller, v2 on others.
func (p Process) Cgroup(t *testing.T, controller, v1, v2 string) string {
	t.Helper()
	file, err := p.cgroupFile(controller, v1, v2)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func (p Process) cgroupFile(controller, v1, v2 string) (string, error) {
	data, err := os.ReadFile(p.file("cgroup"))
	if err != nil {
		return "", err
	}
	unified := ""
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			if c == controller {
				return filepath.Join("/sys/fs/cgroup", controller, f[2], v1), nil
			}
		}
		if f[0] == "0" {
			unified = f[2]
		}
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return filepath.Join("/sys/fs/cgroup", unified, v2), nil
	}
	return "", fmt.Errorf("process %d has no %s controller", p, controller)
}

// CgroupV2 tells whether this machine has only version 2.
func CgroupV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// Namespace identifies one of the process's namespaces, "net" or "pid" or others.
func (p Process) Namespace(t *testing.T, kind string) string {
	t.Helper()
	link, err := os.Readlink(p.file("ns/" + kind))
	if err != nil {
		t.Fatal(err)
	}
	return link
}
