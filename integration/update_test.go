//go:build linux

package integration

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/failpoint"
	"slipway/internal/testutil"
)

// fill has a process of the container hold about 40 MB, and tells whether it could.
func fill(d *testutil.Daemon, container string) bool {
	r := d.Docker("exec", container, "sh", "-c", "head -c 40000000 /dev/zero | tail | wc -c")
	return r.Code == 0 && strings.TrimSpace(r.Stdout) == "40000000"
}

func TestUpdateMemory(t *testing.T) {
	t.Parallel()
	name := idle(t, "-m", "200m")
	if !fill(engine(t), name) {
		t.Fatal("40 MB do not fit into 200 MB")
	}
	docker(t, "update", "-m", "30m", "--memory-swap", "30m", name)
	if fill(engine(t), name) {
		t.Error("40 MB fit into 30 MB")
	}
	if got := inspect(t, name, ".HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.State.Running"); got != "31457280 31457280 true" {
		t.Errorf("inspect: %s", got)
	}
	dockerFails(t, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time", "update", "-m", "100m", name)
	dockerFails(t, "Minimum memory limit allowed is 6MB", "update", "-m", "1m", name)
	docker(t, "update", "-m", "100m", "--memory-swap", "-1", name)
	if !fill(engine(t), name) {
		t.Error("40 MB do not fit into 100 MB")
	}
	p := engine(t).ContainerProcess(t, name)
	if got := p.Cgroup(t, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max"); got != "max" && len(got) < 15 {
		t.Errorf("swap is limited to %s", got)
	}
	// The limits are those of the next start, too.
	docker(t, "update", "-m", "30m", "--memory-swap", "30m", name)
	docker(t, "restart", name)
	if fill(engine(t), name) {
		t.Error("after a restart 40 MB fit into 30 MB")
	}
	// A container that never had a limit gets its swap limit as a new one would.
	name = idle(t)
	docker(t, "update", "--memory", "30m", "--memory-reservation", "20m", name)
	if got := inspect(t, name, ".HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.MemoryReservation"); got != "31457280 62914560 20971520" {
		t.Errorf("inspect: %s", got)
	}
	p = engine(t).ContainerProcess(t, name)
	if got := p.Cgroup(t, "memory", "memory.soft_limit_in_bytes", "memory.low"); got != "20971520" {
		t.Errorf("reservation: %s", got)
	}
}

func TestUpdateCPU(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "while :; do :; done")
	p := engine(t).ContainerProcess(t, name)
	docker(t, "update", "--cpus", "0.2", "--cpu-shares", "512", "--cpuset-cpus", "0", name)
	before, begin := cpuSeconds(t, p), time.Now()
	time.Sleep(2 * time.Second)
	if share := (cpuSeconds(t, p) - before) / time.Since(begin).Seconds(); share > 0.3 {
		t.Errorf("the loop got %.2f of a CPU", share)
	}
	if got := p.Status(t, "Cpus_allowed_list"); got != "0" {
		t.Errorf("allowed CPUs: %s", got)
	}
	shares := "512"
	if testutil.CgroupV2() {
		shares = "59"
	}
	if got := p.Cgroup(t, "cpu", "cpu.shares", "cpu.weight"); got != shares {
		t.Errorf("shares: %s", got)
	}
	// What an update does not name stays.
	docker(t, "update", "--cpu-shares", "1024", name)
	if got := p.Cgroup(t, "cpu", "cpu.cfs_quota_us", "cpu.max"); !strings.HasPrefix(got, "20000") {
		t.Errorf("quota after another update: %s", got)
	}
	dockerFails(t, "CPU Quota cannot be updated as NanoCPUs has already been set", "update", "--cpu-quota", "50000", name)
	dockerFails(t, "Requested CPUs are not available", "update", "--cpuset-cpus", "5000", name)
	dockerFails(t, "range of CPUs is from 0.01 to", "update", "--cpus", "1000", name)
	if got := inspect(t, name, ".HostConfig.NanoCpus}} {{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}} {{.HostConfig.CpuQuota"); got != "200000000 1024 0 0" {
		t.Errorf("after updates that were refused: %s", got)
	}
}

func TestUpdatePids(t *testing.T) {
	t.Parallel()
	const script = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo all"
	name := createOnly(t)
	docker(t, "update", "--pids-limit", "6", name) // also before it runs
	docker(t, "start", name)
	if r := engine(t).Docker("exec", name, "sh", "-c", script); !strings.Contains(r.Stderr, "can't fork") {
		t.Errorf("with a limit of 6: %+v", r)
	}
	docker(t, "pause", name)
	docker(t, "update", "--pids-limit", "-1", name)
	docker(t, "unpause", name)
	if r := engine(t).Docker("exec", name, "sh", "-c", script); r.Stdout != "all\n" {
		t.Errorf("without a limit: %+v", r)
	}
	if got := engine(t).ContainerProcess(t, name).Cgroup(t, "pids", "pids.max", "pids.max"); got != "max" {
		t.Errorf("limit %s", got)
	}
}

func TestUpdateBlkioWeight(t *testing.T) {
	t.Parallel()
	name := idle(t)
	r := engine(t).Docker("update", "--blkio-weight", "300", name)
	out := r.Stdout + r.Stderr
	if strings.Contains(out, "does not support Block I/O weight") {
		if got := inspect(t, name, ".HostConfig.BlkioWeight"); got != "0" {
			t.Errorf("weight %s of a kernel that has none", got)
		}
	} else if got := engine(t).ContainerProcess(t, name).Cgroup(t, "blkio", "blkio.bfq.weight", "io.bfq.weight"); !strings.Contains(got, "300") {
		t.Errorf("weight %q, %s", got, out)
	}
	if r.Code != 0 {
		t.Errorf("update: %+v", r)
	}
}

func TestUpdateRestartPolicy(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; rm /go; exit 3")
	docker(t, "update", "--restart", "on-failure:7", name)
	docker(t, "exec", name, "touch", "/go")
	testutil.Eventually(t, "it was restarted", func() bool { return inspect(t, name, ".RestartCount}} {{.State.Status") == "1 running" })
	docker(t, "update", "--restart", "no", name)
	docker(t, "exec", name, "touch", "/go")
	testutil.Eventually(t, "it has ended", func() bool { return inspect(t, name, ".State.Status}} {{.State.ExitCode") == "exited 3" })
	time.Sleep(time.Second)
	if got := inspect(t, name, ".State.Status}} {{.HostConfig.RestartPolicy.Name"); got != "exited no" {
		t.Errorf("after its policy was taken away: %s", got)
	}
	if got := events(t, "container="+name, "event=update"); len(got) != 2 {
		t.Errorf("events: %q", got)
	}
	name = idle(t, "--rm")
	dockerFails(t, "Restart policy cannot be updated because AutoRemove is enabled for the container", "update", "--restart", "always", name)
	dockerFails(t, "invalid restart policy", "update", "--restart", "sometimes", name)
	dockerFails(t, "No such container: no-such", "update", "--restart", "always", "no-such")
}

// TestFaultUpdate: whatever moment of an update the daemon dies at, the next one
// shows the limits that the container has.
func TestFaultUpdate(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := backgroundOn(t, d, "--pids-limit", "100", "busybox", "sleep", "600")
	limit := func() string {
		return d.ContainerProcess(t, name).Cgroup(t, "pids", "pids.max", "pids.max")
	}
	d.MustDocker(t, "update", "--pids-limit", "101", "--restart", "unless-stopped", name)
	for i, point := range []string{"container.update.begin", "container.update.recorded", "container.update.applied"} {
		if err := d.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := d.Start(failpoint.Env + "=" + point); err != nil {
			t.Fatal(err)
		}
		if r := d.Docker("update", "--pids-limit", strconv.Itoa(200+i), name); r.Code == 0 {
			t.Errorf("%s: the daemon lived", point)
		}
		d.WaitExit(testutil.Patience)
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
		if shown := d.MustDocker(t, "inspect", "-f", "{{.HostConfig.PidsLimit}}", name); shown != limit() {
			t.Errorf("%s: shown is %s, and %s in force", point, shown, limit())
		}
		if got := d.MustDocker(t, "inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", name); got != "unless-stopped" {
			t.Errorf("%s: restart policy %s", point, got)
		}
	}
	d.MustDocker(t, "restart", "-t", "0", name)
	if got := limit(); got != "202" {
		t.Errorf("after a restart: %s", got)
	}
}
