package shim

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestDefaultContainer compares the container that asks for nothing with what
// Docker Engine makes (cgroup v1; seccomp is tested by running it).
func TestDefaultContainer(t *testing.T) {
	spec := specOf(t, allFacts(t), defaultRequest())
	caps := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID " +
		"CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE")
	wantProcess := &specs.Process{
		Args: []string{"sh"}, Cwd: "/", User: specs.User{AdditionalGids: []uint32{0}}, OOMScoreAdj: new(int),
		Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=0123456789ab"},
		Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
	}
	if diff := cmp.Diff(wantProcess, spec.Process); diff != "" {
		t.Errorf("process: %s", diff)
	}
	wantMounts := []string{
		"/proc proc proc nosuid,noexec,nodev",
		"/dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k",
		"/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
		"/sys sysfs sysfs nosuid,noexec,nodev,ro",
		"/sys/fs/cgroup cgroup cgroup ro,nosuid,noexec,nodev",
		"/dev/mqueue mqueue mqueue nosuid,noexec,nodev",
		"/dev/shm tmpfs shm nosuid,noexec,nodev,mode=1777,size=67108864",
	}
	if diff := cmp.Diff(wantMounts, mountLines(spec)); diff != "" {
		t.Errorf("mounts: %s", diff)
	}
	wantNamespaces := []specs.LinuxNamespace{
		{Type: "mount"}, {Type: "time"}, {Type: "network", Path: "/run/netns/x"}, {Type: "ipc"}, {Type: "pid"}, {Type: "uts"},
	}
	if diff := cmp.Diff(wantNamespaces, spec.Linux.Namespaces); diff != "" {
		t.Errorf("namespaces: %s", diff)
	}
	masked := spec.Linux.MaskedPaths
	for path := range strings.FieldsSeq("/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats " +
		"/proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware") {
		if !slices.Contains(masked, path) {
			t.Errorf("%s is not masked", path)
		}
	}
	wantReadonly := strings.Fields("/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger")
	if diff := cmp.Diff(wantReadonly, spec.Linux.ReadonlyPaths); diff != "" {
		t.Errorf("read-only paths: %s", diff)
	}
	wantRules := []string{"deny rwm", "c 1:5", "c 1:3", "c 1:9", "c 1:8", "c 5:0", "c 5:1", "deny c 10:229"}
	if diff := cmp.Diff(wantRules, ruleLines(spec)); diff != "" {
		t.Errorf("device rules: %s", diff)
	}
	wantSysctls := map[string]string{"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"}
	if diff := cmp.Diff(wantSysctls, spec.Linux.Sysctl); diff != "" {
		t.Errorf("sysctls: %s", diff)
	}
	if spec.Linux.CgroupsPath != "/slipway/0123456789ab" || spec.Linux.Seccomp == nil || spec.Root.Readonly {
		t.Errorf("cgroup %s, seccomp %v, root %v", spec.Linux.CgroupsPath, spec.Linux.Seccomp != nil, spec.Root)
	}
}

func mountLines(spec *specs.Spec) []string {
	lines := []string{}
	for _, m := range spec.Mounts {
		lines = append(lines, strings.Join([]string{m.Destination, m.Type, m.Source, strings.Join(m.Options, ",")}, " "))
	}
	return lines
}

func ruleLines(spec *specs.Spec) []string {
	lines := []string{}
	for _, r := range spec.Linux.Resources.Devices {
		line := ""
		if !r.Allow {
			line = "deny "
		}
		if r.Major == nil {
			lines = append(lines, line+r.Access)
			continue
		}
		data, _ := json.Marshal([]int64{*r.Major, *r.Minor})
		lines = append(lines, line+r.Type+" "+strings.NewReplacer("[", "", "]", "", ",", ":").Replace(string(data)))
	}
	return lines
}

func TestCapabilities(t *testing.T) {
	f := allFacts(t)
	for name, tc := range map[string]struct {
		host mobycontainer.HostConfig
		has  string
		not  string
		n    int
	}{
		"default":       {n: 14, has: "CAP_CHOWN", not: "CAP_SYS_ADMIN"},
		"add":           {host: mobycontainer.HostConfig{CapAdd: []string{"sys_admin", "CAP_CHOWN"}}, n: 15, has: "CAP_SYS_ADMIN"},
		"drop":          {host: mobycontainer.HostConfig{CapDrop: []string{"cap_chown"}}, n: 13, not: "CAP_CHOWN"},
		"add all":       {host: mobycontainer.HostConfig{CapAdd: []string{"all"}}, n: len(f.availableCaps), has: "CAP_SYS_ADMIN"},
		"all but one":   {host: mobycontainer.HostConfig{CapAdd: []string{"ALL"}, CapDrop: []string{"SYS_ADMIN"}}, n: len(f.availableCaps) - 1, not: "CAP_SYS_ADMIN"},
		"drop all":      {host: mobycontainer.HostConfig{CapDrop: []string{"ALL"}}, n: 0},
		"only one":      {host: mobycontainer.HostConfig{CapDrop: []string{"ALL"}, CapAdd: []string{"NET_RAW"}}, n: 1, has: "CAP_NET_RAW"},
		"privileged":    {host: mobycontainer.HostConfig{Privileged: true, CapDrop: []string{"ALL"}}, n: len(f.availableCaps), has: "CAP_SYS_ADMIN"},
		"dropped twice": {host: mobycontainer.HostConfig{CapDrop: []string{"CHOWN", "CHOWN"}}, n: 13},
	} {
		caps, err := f.capabilities(&tc.host)
		if err != nil || len(caps) != tc.n || tc.has != "" && !slices.Contains(caps, tc.has) || slices.Contains(caps, tc.not) {
			t.Errorf("%s: %v, %v", name, caps, err)
		}
	}
}

func TestPrivileged(t *testing.T) {
	req := defaultRequest()
	req.HostConfig.Privileged = true
	spec := specOf(t, allFacts(t), req)
	if spec.Linux.Seccomp != nil || spec.Linux.MaskedPaths != nil || spec.Linux.ReadonlyPaths != nil {
		t.Error("seccomp or masks are left")
	}
	for _, m := range spec.Mounts {
		if slices.Contains(m.Options, "ro") {
			t.Errorf("%s is read-only", m.Destination)
		}
	}
	rules := spec.Linux.Resources.Devices
	if last := rules[len(rules)-1]; !last.Allow || last.Type != "" || last.Access != "rwm" {
		t.Errorf("last device rule %+v", last)
	}
	if !slices.ContainsFunc(spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/kmsg" }) {
		t.Error("the host's devices are missing")
	}
}

func TestMounts(t *testing.T) {
	f := allFacts(t)
	for name, tc := range map[string]struct {
		change func(*SpecRequest)
		want   []string // lines that must be there
		not    []string // targets that must not be there
	}{
		"read-only root": {
			change: func(r *SpecRequest) { r.HostConfig.ReadonlyRootfs = true },
			want: []string{
				"/dev/shm tmpfs shm nosuid,noexec,nodev,mode=1777,size=67108864",
				"/sys sysfs sysfs nosuid,noexec,nodev,ro",
			},
		},
		"tmpfs": {
			change: func(r *SpecRequest) {
				r.HostConfig.Tmpfs = map[string]string{"/run/": "size=1m,exec,mode=700", "/a/b": ""}
			},
			want: []string{"/run tmpfs tmpfs nosuid,nodev,rprivate,size=1m,exec,mode=700", "/a/b tmpfs tmpfs noexec,nosuid,nodev,rprivate"},
		},
		"a bind over a default": {
			change: func(r *SpecRequest) {
				r.Mounts = []specs.Mount{{Destination: "/sys/fs/cgroup", Type: "bind", Source: "/x", Options: []string{"rbind"}}}
			},
			want: []string{"/sys/fs/cgroup bind /x rbind"},
		},
		"a bind over dev": {
			change: func(r *SpecRequest) {
				r.Mounts = []specs.Mount{{Destination: "/dev", Type: "bind", Source: "/dev", Options: []string{"rbind"}}}
			},
			want: []string{"/dev bind /dev rbind"}, not: []string{"/dev/shm", "/dev/pts", "/dev/mqueue"},
		},
		"no ipc": {change: func(r *SpecRequest) { r.HostConfig.IpcMode = "none" }, not: []string{"/dev/shm"}},
		"shareable ipc": {
			change: func(r *SpecRequest) { r.HostConfig.IpcMode, r.ShmPath = "shareable", "/run/shm/1" },
			want:   []string{"/dev/shm bind /run/shm/1 rbind,rprivate"},
		},
		"host ipc": {
			change: func(r *SpecRequest) { r.HostConfig.IpcMode = "host" },
			want:   []string{"/dev/shm bind /dev/shm rbind,rprivate"},
		},
		"own shm mount": {
			change: func(r *SpecRequest) {
				r.HostConfig.IpcMode, r.HostConfig.Tmpfs = "host", map[string]string{"/dev/shm": ""}
			},
			want: []string{"/dev/shm tmpfs tmpfs noexec,nosuid,nodev,rprivate"},
		},
		"writable cgroups": {
			change: func(r *SpecRequest) { r.HostConfig.SecurityOpt = []string{"writable-cgroups"} },
			want:   []string{"/sys/fs/cgroup cgroup cgroup nosuid,noexec,nodev", "/sys sysfs sysfs nosuid,noexec,nodev,ro"},
		},
		"init": {
			change: func(r *SpecRequest) { r.HostConfig.Init = &yes },
			want:   []string{"/sbin/docker-init bind /bin/busybox bind,ro"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := defaultRequest()
			tc.change(&req)
			spec := specOf(t, f, req)
			lines := mountLines(spec)
			for _, want := range tc.want {
				if !slices.Contains(lines, want) {
					t.Errorf("no mount %q in\n%s", want, strings.Join(lines, "\n"))
				}
			}
			targets := map[string]int{}
			for _, m := range spec.Mounts {
				targets[m.Destination]++
			}
			for target, n := range targets {
				if n > 1 || slices.Contains(tc.not, target) {
					t.Errorf("%s is mounted %d times", target, n)
				}
			}
		})
	}
}

func TestMountOrder(t *testing.T) {
	req := defaultRequest()
	req.HostConfig.Tmpfs = map[string]string{"/a/b": ""}
	for _, target := range []string{"/a/b/c", "/z", "/a"} {
		req.Mounts = append(req.Mounts, specs.Mount{Destination: target, Type: "bind", Source: "/", Options: []string{"rbind"}})
	}
	spec := specOf(t, allFacts(t), req)
	var targets []string
	for _, m := range spec.Mounts[7:] {
		targets = append(targets, m.Destination)
	}
	if diff := cmp.Diff([]string{"/a", "/z", "/a/b", "/a/b/c"}, targets); diff != "" {
		t.Error(diff)
	}
}

func TestNamespaces(t *testing.T) {
	f := allFacts(t)
	for name, tc := range map[string]struct {
		change func(*SpecRequest)
		want   map[specs.LinuxNamespaceType]string
	}{
		"all the host's": {
			change: func(r *SpecRequest) {
				h := r.HostConfig
				h.NetworkMode, h.IpcMode, h.PidMode, h.UTSMode, h.CgroupnsMode = "host", "host", "host", "host", "host"
			},
			want: map[specs.LinuxNamespaceType]string{"mount": "", "time": ""},
		},
		"joined": {
			change: func(r *SpecRequest) {
				h := r.HostConfig
				h.NetworkMode, h.IpcMode, h.PidMode, h.CgroupnsMode = "container:x", "container:x", "container:x", "private"
				r.Namespaces = Namespaces{IPC: "/proc/1/ns/ipc", PID: "/proc/1/ns/pid", Network: "/proc/1/ns/net"}
			},
			want: map[specs.LinuxNamespaceType]string{
				"mount": "", "time": "", "uts": "", "cgroup": "",
				"ipc": "/proc/1/ns/ipc", "pid": "/proc/1/ns/pid", "network": "/proc/1/ns/net",
			},
		},
		"no network": {
			change: func(r *SpecRequest) { r.HostConfig.NetworkMode, r.Namespaces.Network = "none", "" },
			want:   map[specs.LinuxNamespaceType]string{"mount": "", "time": "", "uts": "", "ipc": "", "pid": "", "network": ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := defaultRequest()
			tc.change(&req)
			got := map[specs.LinuxNamespaceType]string{}
			for _, ns := range specOf(t, f, req).Linux.Namespaces {
				got[ns.Type] = ns.Path
			}
			if !maps.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	req := defaultRequest()
	req.HostConfig.PidMode = "container:x"
	if _, err := f.spec(req); !errdefs.IsInvalidArgument(err) {
		t.Errorf("joining a PID namespace without its path: %v", err)
	}
}

func TestArgumentsAndEnvironment(t *testing.T) {
	f := allFacts(t)
	req := defaultRequest()
	req.HostConfig.Init = &yes
	req.Config.Tty = true
	req.Config.Env = []string{"PATH=/mine", "A=1", "HOSTNAME", "A=2"}
	spec := specOf(t, f, req)
	if diff := cmp.Diff([]string{InitPath, "--", "sh"}, spec.Process.Args); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"PATH=/mine", "TERM=xterm", "A=2"}, spec.Process.Env); diff != "" {
		t.Error(diff)
	}
	req.HostConfig.PidMode = "host"
	if args := specOf(t, f, req).Process.Args; !slices.Equal(args, []string{"sh"}) {
		t.Errorf("an init in the host's PID namespace: %q", args)
	}
	req.HostConfig.PidMode, req.InitBinary = "", ""
	if _, err := f.spec(req); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("without an init program: %v", err)
	}
}

func TestCgroupPathStaysInTree(t *testing.T) {
	for parent, want := range map[string]string{
		"": "/slipway/id", "x": "/x/id", "/x/y/": "/x/y/id", "../../../etc": "/etc/id", "/a/../../..": "/id",
	} {
		req := SpecRequest{ID: "id", HostConfig: &mobycontainer.HostConfig{Resources: mobycontainer.Resources{CgroupParent: parent}}}
		if got := cgroupsPath(req); got != want {
			t.Errorf("parent %q: %s, want %s", parent, got, want)
		}
	}
}

func TestExec(t *testing.T) {
	req := defaultRequest()
	req.Config.Tty, req.Config.Env, req.Config.WorkingDir = true, []string{"A=1", "B=1"}, "/srv"
	req.HostConfig.SecurityOpt = []string{"no-new-privileges"}
	req.HostConfig.Umask = new(uint32(0o77))
	spec := specOf(t, allFacts(t), req)
	before, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	process, err := Exec(spec, ExecRequest{Args: []string{"id"}, Env: []string{"B=2"}, User: &User{UID: 5, GID: 6, AdditionalGIDs: []uint32{7}}})
	if err != nil {
		t.Fatal(err)
	}
	want := *spec.Process
	want.Args, want.Terminal = []string{"id"}, false
	want.Env = []string{"PATH=" + DefaultPath, "HOSTNAME=0123456789ab", "A=1", "B=2"}
	want.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{6, 7}, Umask: new(uint32(0o77))}
	if diff := cmp.Diff(&want, process); diff != "" {
		t.Error(diff)
	}
	if after, _ := json.Marshal(spec); string(after) != string(before) {
		t.Error("the container's specification was changed")
	}
	process, err = Exec(spec, ExecRequest{TTY: true, Privileged: true, ConsoleSize: &[2]uint{24, 80}, Cwd: "/tmp"})
	if err != nil {
		t.Fatal(err)
	}
	if !process.Terminal || process.ConsoleSize.Width != 80 || process.Cwd != "/tmp" || len(process.Capabilities.Effective) < 30 ||
		!slices.Contains(process.Env, "TERM=xterm") {
		t.Errorf("%+v", process)
	}
}

func TestTmpfsOptions(t *testing.T) {
	for given, want := range map[string]string{
		"":                    "noexec,nosuid,nodev,rprivate",
		"defaults":            "noexec,nosuid,nodev,rprivate",
		"exec,suid":           "nodev,rprivate,exec,suid",
		"size=1m,size=2m":     "noexec,nosuid,nodev,rprivate,size=2m",
		"shared,uid=1,gid=2":  "noexec,nosuid,nodev,shared,uid=1,gid=2",
		"ro,rw":               "noexec,nosuid,nodev,rprivate,rw",
		"mode=1777,noatime":   "noexec,nosuid,nodev,rprivate,mode=1777,noatime",
		"huge=always":         "invalid tmpfs option \"huge\"",
		"bind":                "invalid tmpfs option \"bind\"",
		"size":                "invalid tmpfs option \"size\"",
		"lowerdir=/etc,size=": "invalid tmpfs option \"lowerdir\"",
	} {
		options, err := tmpfsOptions(splitOptions(given))
		got := strings.Join(options, ",")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", given, got, want)
		}
	}
}
