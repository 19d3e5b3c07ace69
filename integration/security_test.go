//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Numbers of capabilities, from capability.h.
const (
	capChown    = 0
	capNetRaw   = 13
	capSysAdmin = 21
	capMknod    = 27
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want map[uint]bool
	}{
		{nil, map[uint]bool{capChown: true, capNetRaw: true, capMknod: true, capSysAdmin: false}},
		{[]string{"--cap-drop", "CHOWN"}, map[uint]bool{capChown: false, capNetRaw: true}},
		{[]string{"--cap-add", "SYS_ADMIN", "--cap-drop", "cap_mknod"}, map[uint]bool{capSysAdmin: true, capMknod: false, capChown: true}},
		{[]string{"--cap-drop", "ALL", "--cap-add", "CHOWN"}, map[uint]bool{capChown: true, capNetRaw: false}},
		{[]string{"--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"}, map[uint]bool{capSysAdmin: false, capChown: true, 12: true}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			p := engine(t).ContainerProcess(t, idle(t, tt.args...))
			for number, want := range tt.want {
				if got := p.Capability(t, number); got != want {
					t.Errorf("capability %d: %v, want %v", number, got, want)
				}
			}
		})
	}
	// And what it is for.
	if r := engine(t).Docker("run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "app", "/etc/passwd"); r.Code == 0 {
		t.Error("chown works without CHOWN")
	}
	run(t, "busybox", "chown", "app", "/etc/passwd")
	dockerFails(t, "NO_SUCH", "run", "--rm", "--cap-add", "NO_SUCH", "busybox", "true")
}

func TestPrivileged(t *testing.T) {
	t.Parallel()
	const mount = "mkdir /m && mount -t tmpfs none /m && touch /m/x && echo mounted"
	if got := run(t, "--privileged", "busybox", "sh", "-c", mount+"; test -e /dev/loop-control && echo devices; touch /proc/sys/kernel/hostname && echo sysctl"); got != "mounted\ndevices\nsysctl" {
		t.Errorf("privileged: %q", got)
	}
	if r := engine(t).Docker("run", "--rm", "busybox", "sh", "-c", mount); r.Code == 0 {
		t.Error("an ordinary container can mount")
	}
	p := engine(t).ContainerProcess(t, idle(t, "--privileged"))
	if p.Status(t, "Seccomp") != "0" {
		t.Error("a privileged container has a seccomp filter")
	}
}

func TestDefaultConfinement(t *testing.T) {
	t.Parallel()
	name := idle(t)
	p := engine(t).ContainerProcess(t, name)
	if got := p.Status(t, "Seccomp"); got != "2" {
		t.Errorf("seccomp mode %s, want a filter", got)
	}
	for _, ns := range []string{"mnt", "uts", "ipc", "pid", "net"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		if p.Namespace(t, ns) == own {
			t.Errorf("the %s namespace is the host's", ns)
		}
	}
	for what, command := range map[string]string{
		"write to a sysctl":   "echo 1 > /proc/sys/kernel/panic",
		"trigger sysrq":       "echo h > /proc/sysrq-trigger",
		"write to /sys":       "echo 1 > /sys/kernel/profiling",
		"read kernel memory":  "test $(head -c 10 /proc/kcore | wc -c) -gt 0",
		"read timers":         "test -s /proc/timer_list",
		"make a disk device":  "mknod /d b 254 0 && head -c 1 /d",
		"see a host's device": "test -e /dev/loop-control",
		"load a module":       "insmod /bin/busybox",
	} {
		if r := engine(t).Docker("exec", name, "sh", "-c", command); r.Code == 0 {
			t.Errorf("a container can %s", what)
		}
	}
	// Docker's own devices are there and work.
	docker(t, "exec", name, "sh", "-c", "echo x > /dev/null && head -c 1 /dev/zero && head -c 1 /dev/urandom && test -e /dev/ptmx && test -d /dev/mqueue")
}

func TestSeccompProfile(t *testing.T) {
	t.Parallel()
	if got := engine(t).ContainerProcess(t, idle(t, "--security-opt", "seccomp=unconfined")).Status(t, "Seccomp"); got != "0" {
		t.Errorf("unconfined: mode %s", got)
	}
	profile := filepath.Join(t.TempDir(), "profile.json")
	content := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`
	if err := os.WriteFile(profile, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	r := engine(t).Docker("run", "--rm", "--security-opt", "seccomp="+profile, "busybox", "sh", "-c", "touch /file && mkdir /dir")
	if r.Code == 0 || !strings.Contains(r.Stderr, "Operation not permitted") {
		t.Errorf("a profile without mkdir: %+v", r)
	}
	if r := engine(t).Docker("run", "--rm", "--security-opt", `seccomp={"defaultAction":3}`, "busybox", "true"); r.Code != 125 && r.Code != 1 {
		t.Errorf("a broken profile: %+v", r)
	}
}

func TestNoNewPrivileges(t *testing.T) {
	t.Parallel()
	if got := engine(t).ContainerProcess(t, idle(t)).Status(t, "NoNewPrivs"); got != "0" {
		t.Errorf("by default: %s", got)
	}
	for _, option := range []string{"no-new-privileges", "no-new-privileges:true"} {
		if got := engine(t).ContainerProcess(t, idle(t, "--security-opt", option)).Status(t, "NoNewPrivs"); got != "1" {
			t.Errorf("%s: %s", option, got)
		}
	}
	dockerFails(t, "invalid --security-opt", "run", "--rm", "--security-opt", "no-such-option=1", "busybox", "true")
}

func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	const try = "touch /x 2>/dev/null && echo root; touch /tmpfs/x && echo tmpfs; touch /vol/x && echo volume; touch /dev/shm/x && echo shm; true"
	args := []string{"--tmpfs", "/tmpfs", "-v", "/vol", "busybox", "sh", "-c", try}
	if got := run(t, append([]string{"--read-only"}, args...)...); got != "tmpfs\nvolume\nshm" {
		t.Errorf("writable in a read-only container: %q", lines(got))
	}
	if got := run(t, args...); got != "root\ntmpfs\nvolume\nshm" {
		t.Errorf("writable in an ordinary one: %q", lines(got))
	}
}

func TestHostNamespaces(t *testing.T) {
	t.Parallel()
	for option, ns := range map[string]string{"--network=host": "net", "--pid=host": "pid", "--ipc=host": "ipc", "--uts=host": "uts"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		r := engine(t).Docker("run", "--rm", option, "busybox", "readlink", "/proc/self/ns/"+ns)
		// An option that is not honoured is refused by name, never ignored.
		if r.Code == 0 && strings.TrimSpace(r.Stdout) != own {
			t.Errorf("%s: %s is %s, the host has %s", option, ns, strings.TrimSpace(r.Stdout), own)
		}
		if r.Code != 0 && !strings.Contains(strings.ToLower(r.Stderr), ns) {
			t.Errorf("%s: an error that does not name it: %s", option, r.Stderr)
		}
	}
}
