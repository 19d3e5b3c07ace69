//go:build linux

package integration

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"
)

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	// tail keeps the last line in memory, and this one has no end.
	r := engine(t).Docker("run", "--name", name, "-m", "32m", "busybox", "tail", "/dev/zero")
	if r.Code != 137 {
		t.Errorf("exit code %d, want 137", r.Code)
	}
	if got := inspect(t, name, ".State.OOMKilled"); got != "true" {
		t.Errorf("OOMKilled: %s", got)
	}
	// The same within the limit.
	if r := engine(t).Docker("run", "--rm", "-m", "64m", "busybox", "sh", "-c", "head -c 20000000 /dev/zero | tail | wc -c"); r.Code != 0 || strings.TrimSpace(r.Stdout) != "20000000" {
		t.Errorf("within the limit: %+v", r)
	}
	dockerFails(t, "Minimum memory limit allowed is 6MB", "run", "--rm", "-m", "1m", "busybox", "true")
}

func TestCPUQuota(t *testing.T) {
	t.Parallel()
	name := background(t, "--cpus", "0.2", "busybox", "sh", "-c", "while :; do :; done")
	p := engine(t).ContainerProcess(t, name)
	if got := p.Cgroup(t, "cpu", "cpu.cfs_quota_us", "cpu.max"); !strings.HasPrefix(got, "20000") {
		t.Errorf("quota %s", got)
	}
	// What it is for: a loop on a free CPU gets a fifth of the time.
	before, begin := cpuSeconds(t, p), time.Now()
	time.Sleep(2 * time.Second)
	share := (cpuSeconds(t, p) - before) / time.Since(begin).Seconds()
	if share > 0.3 {
		t.Errorf("the loop got %.2f of a CPU", share)
	}
	dockerFails(t, "range of CPUs is from 0.01 to", "run", "--rm", "--cpus", "1000", "busybox", "true")
}

// cpuSeconds is the time a process has used, from its scheduler statistics.
func cpuSeconds(t *testing.T, p testutil.Process) float64 {
	t.Helper()
	ns, err := strconv.ParseFloat(strings.Fields(p.Read(t, "schedstat"))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return ns / 1e9
}

func TestCPUSharesAndSet(t *testing.T) {
	t.Parallel()
	name := idle(t, "--cpu-shares", "512", "--cpuset-cpus", "0")
	p := engine(t).ContainerProcess(t, name)
	if got := p.Status(t, "Cpus_allowed_list"); got != "0" {
		t.Errorf("allowed CPUs: %s", got)
	}
	want := "512"
	if testutil.CgroupV2() {
		want = "59" // the same share on version 2's scale, as runc converts it
	}
	if got := p.Cgroup(t, "cpu", "cpu.shares", "cpu.weight"); got != want {
		t.Errorf("shares: %s, want %s", got, want)
	}
}

func TestPidsLimit(t *testing.T) {
	t.Parallel()
	script := "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all"
	r := engine(t).Docker("run", "--rm", "--pids-limit", "6", "busybox", "sh", "-c", script)
	if !strings.Contains(r.Stderr, "can't fork") || strings.Contains(r.Stdout, "all") {
		t.Errorf("with a limit of 6: %+v", r)
	}
	if r := engine(t).Docker("run", "--rm", "--pids-limit", "20", "busybox", "sh", "-c", script); r.Stdout != "all\n" {
		t.Errorf("with a limit of 20: %+v", r)
	}
}

func TestUlimits(t *testing.T) {
	t.Parallel()
	got := run(t, "--ulimit", "nofile=100:200", "--ulimit", "core=0", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c")
	if got != "100\n200\n0" {
		t.Errorf("got %q", got)
	}
	// It is the kernel that holds to it.
	r := engine(t).Docker("run", "--rm", "--ulimit", "fsize=1024", "busybox", "sh", "-c", "trap '' XFSZ; head -c 5000 /dev/zero > /tmp/f; stat -c %s /tmp/f")
	if size := lines(r.Stdout); len(size) != 1 || size[0] != "1024" {
		t.Errorf("a file under fsize=1024: %+v", r)
	}
}

func TestShmSize(t *testing.T) {
	t.Parallel()
	if got := run(t, "busybox", "sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'"); got != "65536" {
		t.Errorf("default: %s KiB", got)
	}
	r := engine(t).Docker("run", "--rm", "--shm-size", "2m", "busybox", "sh", "-c", "head -c 3000000 /dev/zero > /dev/shm/x || stat -c %s /dev/shm/x")
	if strings.TrimSpace(r.Stdout) != "2097152" {
		t.Errorf("3 MB into 2 MiB: %+v", r)
	}
}

// TestLimitsAreShown: what was asked for is what inspect says.
func TestLimitsAreShown(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	docker(t, "create", "--name", name, "-m", "100m", "--cpus", "1.5", "--pids-limit", "77", "--shm-size", "8m", "--ulimit", "nofile=5:6", "busybox")
	got := inspect(t, name, ".HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.ShmSize}} {{json .HostConfig.Ulimits")
	want := `104857600 1500000000 77 8388608 [{"Hard":6,"Name":"nofile","Soft":5}]`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
