//go:build linux

package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"
)

func TestDeviceRules(t *testing.T) {
	t.Parallel()
	const use = "; : </dev/mine && echo read; : >/dev/mine && echo written"
	sh := func(script string, options ...string) string {
		r := engine(t).Docker(append(append([]string{"run", "--rm"}, options...), "busybox", "sh", "-c", script)...)
		return r.Stdout
	}
	// One that a container does not have, and that every machine of these tests has.
	const control = "/dev/loop-control"
	const node = "mknod /dev/mine c 10 237"
	for _, test := range []struct {
		script, want string
		options      []string
	}{
		{node + use, "", nil},
		{node + use, "read\nwritten\n", []string{"--device-cgroup-rule", "c 10:237 rw"}},
		{node + use, "read\n", []string{"--device-cgroup-rule", "c 10:* r"}},
		{"true" + use, "read\nwritten\n", []string{"--device", control + ":/dev/mine"}},
		{"true" + use, "read\n", []string{"--device", control + ":/dev/mine:r"}},
	} {
		if got := sh(test.script, test.options...); got != test.want {
			t.Errorf("%v: %q, want %q", test.options, got, test.want)
		}
	}
	dockerFails(t, "error gathering device information while adding custom device", "run", "--rm", "--device", "/dev/no-such", "busybox", "true")
}

func TestSysctls(t *testing.T) {
	t.Parallel()
	got := run(t, "--sysctl", "net.ipv4.ip_default_ttl=77", "--sysctl", "kernel.msgmax=4096", "busybox", "cat", "/proc/sys/net/ipv4/ip_default_ttl", "/proc/sys/kernel/msgmax")
	if got != "77\n4096" {
		t.Errorf("got %q", got)
	}
	if host, err := os.ReadFile("/proc/sys/net/ipv4/ip_default_ttl"); err != nil || string(host) == "77\n" {
		t.Errorf("the host has %q, %v", host, err)
	}
	status, body, err := engine(t).Request(http.MethodPost, "/containers/create", spec{"Image": "busybox", "HostConfig": spec{"Sysctls": spec{"vm.swappiness": "1"}}})
	if err != nil || status != http.StatusBadRequest || !strings.Contains(string(body), "is not in a separate kernel namespace") {
		t.Errorf("a setting of the host: %d %s %v", status, body, err)
	}
	dockerFails(t, "not allowed in host network namespace", "run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_default_ttl=77", "busybox", "true")
}

func TestMemoryOptions(t *testing.T) {
	t.Parallel()
	p := engine(t).ContainerProcess(t, idle(t, "-m", "50m", "--memory-swap", "80m", "--memory-reservation", "40m", "--cpuset-mems", "0", "--oom-score-adj", "321"))
	swap := "83886080" // memory and swap together
	if testutil.CgroupV2() {
		swap = "31457280" // swap alone
	}
	if got := p.Cgroup(t, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max"); got != swap {
		t.Errorf("swap %s, want %s", got, swap)
	}
	if got := p.Cgroup(t, "memory", "memory.soft_limit_in_bytes", "memory.low"); got != "41943040" {
		t.Errorf("reservation %s", got)
	}
	if got := p.Status(t, "Mems_allowed_list"); got != "0" {
		t.Errorf("memory nodes %s", got)
	}
	if got := strings.TrimSpace(p.Read(t, "oom_score_adj")); got != "321" {
		t.Errorf("oom_score_adj %s", got)
	}
	dockerFails(t, "Minimum memoryswap limit should be larger than memory limit", "create", "-m", "50m", "--memory-swap", "40m", "busybox")
	dockerFails(t, "You should always set the Memory limit when using Memoryswap limit", "create", "--memory-swap", "40m", "busybox")
	dockerFails(t, "Minimum memory limit can not be less than memory reservation limit", "create", "-m", "50m", "--memory-reservation", "60m", "busybox")
	dockerFails(t, "Requested memory nodes are not available", "create", "--cpuset-mems", "63", "busybox")
}

// TestOOMKillDisable: what exceeds the limit waits, and can be removed all the same.
// The shell touches the memory itself; a system call would only fail.
func TestOOMKillDisable(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	r := engine(t).Docker("run", "-d", "--name", name, "-m", "20m", "--memory-swap", "20m", "--oom-kill-disable",
		"busybox", "sh", "-c", "a=0123456789; while :; do a=$a$a; done")
	if r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	if testutil.CgroupV2() {
		if !strings.Contains(r.Stderr, "does not support OomKillDisable") {
			t.Errorf("no warning that version 2 cannot: %+v", r)
		}
		return
	}
	p := engine(t).ContainerProcess(t, name)
	testutil.Eventually(t, "it is out of memory", func() bool {
		return strings.Contains(p.Cgroup(t, "memory", "memory.oom_control", ""), "under_oom 1")
	})
	time.Sleep(time.Second)
	if !p.Alive() {
		t.Error("it was killed")
	}
	begin := time.Now()
	docker(t, "rm", "-f", name)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("removing it took %s", took)
	}
}

// TestPublishedUDPRange: each port of a range leads to its own.
func TestPublishedUDPRange(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	base := freePorts(t, 3)
	// The helper answers on the one in the middle.
	name := background(t, "-p", fmt.Sprintf("127.0.0.1:%d-%d:5352-5354/udp", base, base+2), "-v", self+":/helper:ro", "-e", helperEnv+"=udp-echo", "busybox", "/helper")
	for i, want := range []bool{false, true, false} {
		if got := docker(t, "port", name, fmt.Sprintf("%d/udp", 5352+i)); got != fmt.Sprintf("127.0.0.1:%d", base+i) {
			t.Errorf("docker port %d/udp: %s", 5352+i, got)
		}
		if want {
			testutil.Eventually(t, "the middle one answers", func() bool { return udpEcho(base+i) == nil })
		} else if udpEcho(base+i) == nil {
			t.Errorf("port %d answers, which nobody listens on", base+i)
		}
	}
}

// freePorts is the first of n UDP ports in a row that nobody has.
func freePorts(t *testing.T, n int) int {
	t.Helper()
search:
	for base := 21000; base < 29000; base += 10 {
		for i := range n {
			c, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", base+i))
			if err != nil {
				continue search
			}
			_ = c.Close()
		}
		return base
	}
	t.Fatal("no free ports")
	return 0
}

func udpEcho(port int) error {
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 10))
	return err
}
