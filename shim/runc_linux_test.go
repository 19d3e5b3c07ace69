package shim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/blkiodev"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// runcBinary is the runc that the project builds.
func runcBinary(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("running containers needs root")
	}
	path, err := filepath.Abs("../bin/runc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("bin/runc is not built: make build")
	}
	return path
}

// run runs a shell script in a container of the request and returns its output.
// The root file system holds a static busybox and nothing else.
func run(t *testing.T, script string, change func(*SpecRequest)) string {
	t.Helper()
	output, err := tryRun(t, script, change)
	if err != nil {
		t.Fatalf("runc: %v\n%s", err, output)
	}
	return output
}

func tryRun(t *testing.T, script string, change func(*SpecRequest)) (string, error) {
	t.Helper()
	runc, bundle := runcBinary(t), t.TempDir()
	for _, dir := range []string{"bin", "proc", "dev", "sys", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(bundle, "rootfs", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs a static /bin/busybox")
	}
	write(t, filepath.Join(bundle, "rootfs/bin/busybox"), busybox, 0o755)
	write(t, filepath.Join(bundle, "rootfs/etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nu:x:1234:1234::/home/u:/bin/sh\n"), 0o644)

	id := fmt.Sprintf("slipway-shim-test-%d-%s", os.Getpid(), filepath.Base(bundle))
	req := SpecRequest{
		ID: id, Rootfs: "rootfs", CgroupParent: "/" + id,
		Config:     &mobycontainer.Config{Hostname: "inside", Env: []string{"PATH=/bin"}},
		HostConfig: &mobycontainer.HostConfig{NetworkMode: "none"},
		Args:       []string{"/bin/busybox", "sh", "-c", "alias cat='busybox cat' grep='busybox grep' id='busybox id' ls='busybox ls'\n" + script},
	}
	if change != nil {
		change(&req)
	}
	if _, err := Validate(req.Config, req.HostConfig); err != nil {
		t.Fatal(err)
	}
	spec, err := Spec(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bundle, "config.json"), config, 0o644)
	t.Cleanup(func() { removeCgroups(t, spec.Linux.CgroupsPath) })
	state := filepath.Join(bundle, "state")
	t.Cleanup(func() { _ = exec.Command(runc, "--root", state, "delete", "--force", id).Run() })
	cmd := exec.CommandContext(t.Context(), runc, "--root", state, "run", "--bundle", bundle, id)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err = cmd.Run()
	return output.String(), err
}

func write(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}

// removeCgroups removes the parent group, which runc leaves.
func removeCgroups(t *testing.T, path string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		groups, _ := filepath.Glob(pattern + filepath.Dir(path))
		for _, group := range groups {
			_ = os.Remove(filepath.Join(group, filepath.Base(path)))
			if err := os.Remove(group); err != nil {
				t.Errorf("left behind: %v", err)
			}
		}
	}
}

// wants checks that each line is in the output.
func wants(t *testing.T, output string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+output, "\n"+line) {
			t.Errorf("no line %q in:\n%s", line, output)
		}
	}
}

func TestRunDefault(t *testing.T) {
	output := run(t, `
		grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status
		echo host=$(busybox hostname) HOME=$HOME pwd=$PWD oom=$(cat /proc/self/oom_score_adj)
		cat /proc/self/mountinfo | while read a b c d at options rest; do echo "$at $options"; done
		echo keys=$(busybox wc -c </proc/keys) firmware=$(ls /sys/firmware)
		echo x 2>/dev/null >/proc/sys/kernel/panic || echo sys is read-only
		[ -d /sys/fs/cgroup/pids ] && group=pids
		busybox mkdir /sys/fs/cgroup/$group/x 2>/dev/null || echo cgroup is read-only
		busybox mount -t tmpfs x /tmp 2>/dev/null || echo no mount
		busybox unshare -U true 2>/dev/null || echo no user namespace
		echo pid=$$ devices: $(ls /dev | grep -v core)
		echo net: $(ls /sys/class/net)
		busybox mknod /tmp/disk b 7 0 && busybox cat /tmp/disk 2>&1 | busybox head -c 200
		busybox df /dev/shm /dev | busybox awk '{print $6, $2}'
		cat /proc/sys/net/ipv4/ip_unprivileged_port_start`, nil)
	wants(t, output,
		"CapInh:\t0000000000000000", "CapPrm:\t00000000a80425fb", "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb",
		"CapAmb:\t0000000000000000", "NoNewPrivs:\t0", "Seccomp:\t2", "Groups:\t0 ",
		"host=inside HOME=/root pwd=/ oom=0",
		"/proc rw,nosuid,nodev,noexec", "/dev rw,nosuid", "/sys ro,nosuid,nodev,noexec", "/dev/pts rw,nosuid,noexec",
		"/dev/mqueue rw,nosuid,nodev,noexec", "/dev/shm rw,nosuid,nodev,noexec", "/proc/sys ro,", "/proc/keys ", "/sys/firmware ro",
		"keys=0 firmware=", "sys is read-only", "cgroup is read-only", "no mount", "no user namespace",
		"pid=1 devices: fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
		"net: lo", "cat: can't open '/tmp/disk': Operation not permitted",
		"/dev/shm 65536", "/dev 65536", "0",
	)
}

func TestRunPrivileged(t *testing.T) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, caps, _ := strings.Cut(string(status), "CapEff:\t")
	output := run(t, `
		grep -E '^(CapEff|Seccomp:)' /proc/self/status
		busybox mount -t tmpfs x /tmp && echo mounted
		[ -e /dev/kmsg ] && echo device
		echo masks: $(grep -c -E ' /(proc/(kcore|keys|sys|bus)|sys/firmware) ' /proc/self/mountinfo)
		busybox mknod /tmp/full c 1 7 && echo node
		grep -q ' /sys rw,' /proc/self/mountinfo && echo sys is writable
		grep ' /sys/fs/cgroup' /proc/self/mountinfo | grep -q -v ' rw,' || echo cgroup is writable`,
		func(r *SpecRequest) { r.HostConfig.Privileged = true })
	wants(t, output, "CapEff:\t"+caps[:16], "Seccomp:\t0", "mounted", "device", "masks: 0", "node", "sys is writable", "cgroup is writable")
}

func TestRunOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		change func(*SpecRequest)
		want   []string
	}{
		"user, groups, umask": {
			script: `id -u; id -G; busybox umask; umask; echo home=$HOME; grep CapEff /proc/self/status`,
			change: func(r *SpecRequest) {
				r.User = User{UID: 1234, GID: 1234, AdditionalGIDs: []uint32{7, 8}}
				r.HostConfig.Umask = new(uint32(0o27))
			},
			want: []string{"1234", "1234 7 8", "0027", "home=/home/u", "CapEff:\t0000000000000000"},
		},
		"capabilities": {
			script: `grep CapEff /proc/self/status`,
			change: func(r *SpecRequest) {
				r.HostConfig.CapDrop, r.HostConfig.CapAdd = []string{"ALL"}, []string{"net_admin"}
			},
			want: []string{"CapEff:\t0000000000001000"},
		},
		"no new privileges, no seccomp": {
			script: `grep -E '^(NoNewPrivs|Seccomp:)' /proc/self/status`,
			change: func(r *SpecRequest) {
				r.HostConfig.SecurityOpt = []string{"no-new-privileges", "seccomp=unconfined"}
			},
			want: []string{"NoNewPrivs:\t1", "Seccomp:\t0"},
		},
		"own seccomp profile": {
			script: `busybox mkdir /tmp/x || echo refused`,
			change: func(r *SpecRequest) {
				r.HostConfig.SecurityOpt = []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`}
			},
			want: []string{"refused"},
		},
		"seccomp follows the capabilities": {
			script: `busybox mount -t tmpfs x /tmp && echo mounted`,
			change: func(r *SpecRequest) { r.HostConfig.CapAdd = []string{"SYS_ADMIN"} },
			want:   []string{"mounted"},
		},
		"ulimits": {
			script: `ulimit -Sn; ulimit -Hn; ulimit -c`,
			change: func(r *SpecRequest) {
				r.HostConfig.Ulimits = []*mobycontainer.Ulimit{{Name: "nofile", Soft: 77, Hard: 99}}
				r.Ulimits = []*mobycontainer.Ulimit{{Name: "nofile", Soft: 1, Hard: 1}, {Name: "core", Soft: 0, Hard: 0}}
			},
			want: []string{"77", "99", "0"},
		},
		"read-only root": {
			script: `(echo x >/file) 2>/dev/null || echo refused; echo x >/dev/shm/file && echo shm; echo x >/run/file && echo tmpfs`,
			change: func(r *SpecRequest) {
				r.HostConfig.ReadonlyRootfs, r.HostConfig.Tmpfs = true, map[string]string{"/tmp/run": "size=1m"}
				r.Args[3] = strings.ReplaceAll(r.Args[3], "/run/file", "/tmp/run/file")
			},
			want: []string{"refused", "shm", "tmpfs"},
		},
		"shm size": {
			script: `busybox df /dev/shm | busybox tail -1`,
			change: func(r *SpecRequest) { r.HostConfig.ShmSize = 2 << 20 },
			want:   []string{"shm                       2048"},
		},
		"init": {
			script: `busybox tr '\0' ' ' </proc/1/cmdline; echo; echo pid=$$`,
			change: func(r *SpecRequest) {
				// Busybox as init program: it drops "--" and runs the rest.
				r.HostConfig.Init, r.InitBinary = &yes, fakeInit(t)
			},
			want: []string{"/bin/busybox sh /sbin/docker-init -- /bin/busybox sh", "pid="},
		},
		"working directory, oom score, sysctl, domain": {
			script: `echo $PWD $(cat /proc/self/oom_score_adj) $(cat /proc/sys/kernel/msgmax) $(cat /proc/sys/kernel/domainname)`,
			change: func(r *SpecRequest) {
				r.Config.WorkingDir, r.Config.Domainname, r.HostConfig.OomScoreAdj = "/tmp", "example.org", 321
				r.HostConfig.Sysctls = map[string]string{"kernel.msgmax": "4321"}
			},
			want: []string{"/tmp 321 4321 example.org"},
		},
		"device": {
			script: `busybox head -c 0 </dev/mine && echo readable; (echo x >/dev/mine) 2>/dev/null || echo not writable`,
			change: func(r *SpecRequest) {
				r.HostConfig.Devices = []mobycontainer.DeviceMapping{
					{PathOnHost: "/dev/loop-control", PathInContainer: "/dev/mine", CgroupPermissions: "r"},
				}
			},
			want: []string{"readable", "not writable"},
		},
		"host's IPC and PID namespaces": {
			script: `[ $$ != 1 ] && echo not init; grep -q ' /dev/shm ' /proc/self/mountinfo && echo shm`,
			change: func(r *SpecRequest) { r.HostConfig.PidMode, r.HostConfig.IpcMode = "host", "host" },
			want:   []string{"not init", "shm"},
		},
		"no /dev/shm": {
			script: `[ -e /dev/shm ] || echo none`,
			change: func(r *SpecRequest) { r.HostConfig.IpcMode = "none" },
			want:   []string{"none"},
		},
		"unmasked": {
			script: `echo masks: $(grep -c -E ' /proc/(kcore|keys|sys|bus) ' /proc/self/mountinfo)`,
			change: func(r *SpecRequest) { r.HostConfig.MaskedPaths, r.HostConfig.ReadonlyPaths = []string{}, []string{} },
			want:   []string{"masks: 0"},
		},
	} {
		t.Run(name, func(t *testing.T) { wants(t, run(t, tc.script, tc.change), tc.want...) })
	}
}

// fakeInit writes a program that ends as the init program's child would.
func fakeInit(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "init")
	write(t, path, []byte("#!/bin/busybox sh\nshift\n\"$@\"\n"), 0o755)
	return path
}

func TestRunLimits(t *testing.T) {
	f, err := kernel()
	if err != nil {
		t.Fatal(err)
	}
	script := `cd /sys/fs/cgroup; for f in memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus pids/pids.max; do
		[ -e $f ] && echo $f=$(cat $f); done`
	want := []string{
		"memory/memory.limit_in_bytes=67108864", "memory/memory.soft_limit_in_bytes=33554432", "cpu/cpu.cfs_quota_us=50000",
		"cpu/cpu.shares=512", "cpuset/cpuset.cpus=0", "pids/pids.max=7",
	}
	if f.unified {
		script = `cd /sys/fs/cgroup; for f in memory.max memory.low cpu.max cpuset.cpus pids.max; do echo $f=$(cat $f); done`
		want = []string{"memory.max=67108864", "memory.low=33554432", "cpu.max=50000 100000", "cpuset.cpus=0", "pids.max=7"}
	}
	output := run(t, script, func(r *SpecRequest) {
		r.HostConfig.Resources = mobycontainer.Resources{
			Memory: 64 << 20, MemoryReservation: 32 << 20, NanoCPUs: 5e8, CPUShares: 512, CpusetCpus: "0", PidsLimit: new(int64(7)),
		}
	})
	wants(t, output, want...)

	// The limits act: too many processes, too much memory.
	output, _ = tryRun(t, `for i in 1 2 3 4 5 6 7 8 9; do busybox sleep 1 & done; wait`,
		func(r *SpecRequest) { r.HostConfig.PidsLimit = new(int64(5)) })
	wants(t, output, "sh: can't fork: Resource temporarily unavailable")
	output, _ = tryRun(t, `busybox tail /dev/zero; echo code=$?`, func(r *SpecRequest) { r.HostConfig.Memory = 16 << 20 })
	wants(t, output, "code=137")
}

func TestRunBinds(t *testing.T) {
	source := t.TempDir()
	write(t, filepath.Join(source, "file"), []byte("content\n"), 0o644)
	if err := os.Mkdir(filepath.Join(source, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := unix.Mount("x", filepath.Join(source, "sub"), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(filepath.Join(source, "sub"), 0) })
	}
	output := run(t, `cat /ro/file; echo x 2>/dev/null >/ro/new || echo read-only; echo x 2>/dev/null >/ro/sub/new || echo also below; echo x >/rw/new && echo writable`,
		func(r *SpecRequest) {
			r.Mounts = []specs.Mount{
				{Destination: "/ro", Type: "bind", Source: source, Options: []string{"rbind", "rro", "rprivate"}},
				{Destination: "/rw", Type: "bind", Source: source, Options: []string{"rbind", "rprivate"}},
			}
		})
	wants(t, output, "content", "read-only", "also below", "writable")
}

func TestSharedPropagationNeedsASharedSource(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	source := t.TempDir()
	if err := unix.Mount("x", source, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(source, 0) })
	for flag, want := range map[uintptr]map[string]string{
		unix.MS_PRIVATE: {"rshared": "error", "rslave": "error", "rprivate": ""},
		unix.MS_SHARED:  {"rshared": "shared", "rslave": "rslave", "rprivate": ""},
	} {
		if err := unix.Mount("", source, "", flag, ""); err != nil {
			t.Fatal(err)
		}
		for option, want := range want {
			req := defaultRequest()
			req.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Source: source, Options: []string{"rbind", option}}}
			spec, err := allFacts(t).spec(req)
			got := "error"
			if err == nil {
				got = spec.Linux.RootfsPropagation
			}
			if got != want {
				t.Errorf("%s on %#x: %q (%v), want %q", option, flag, got, err, want)
			}
		}
	}
}

func TestShm(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	path := filepath.Join(t.TempDir(), "a", "shm")
	for range 2 { // the second time changes nothing
		if err := MountShm(path, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil || stat.Type != unix.TMPFS_MAGIC || int64(stat.Blocks)*stat.Bsize != 1<<20 {
		t.Errorf("%+v, %v", stat, err)
	}
	for range 2 {
		if err := UnmountShm(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the directory is left")
	}
}

func TestMissingBlockDevice(t *testing.T) {
	req := defaultRequest()
	req.HostConfig.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{{Path: "/dev/nosuch", Rate: 1}}
	if _, err := allFacts(t).spec(req); err == nil || !strings.Contains(err.Error(), "/dev/nosuch") {
		t.Errorf("got %v", err)
	}
}
