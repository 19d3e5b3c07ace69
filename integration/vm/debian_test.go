//go:build linux

package vm

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"slipway/integration/vm/agent"
)

// suite are the tests of package integration that another kernel can make a
// difference to: they run in the machine. All of them would take too long in
// emulation.
const suite = "^Test(MemoryLimit|CPUSharesAndSet|PidsLimit|LimitsAreShown|PauseFreezes|HostNamespaces|DefaultConfinement|" +
	"SeccompProfile|NoNewPrivileges|Exec|Commit|RunOutput|PublishedPort|BridgeNetwork|AnonymousVolume|FaultRestart|FaultShimKilled)$"

// suiteTime is for all of them.
const suiteTime = 40 * time.Minute

// TestDebianKernel looks at the engine on the kernel that most users have: with
// cgroup v2 alone, and with AppArmor.
func TestDebianKernel(t *testing.T) {
	m := boot(t, newBankDisk(t), 1)
	t.Cleanup(func() { m.cutPower(t) })
	t.Log(m.must(t, "uname", "-a"))
	m.startDaemon(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"CgroupVersion", testCgroupVersion},
		{"CgroupNamespace", testCgroupNamespace},
		{"CommitFreezes", testCommitFreezes},
		{"AppArmor", testAppArmor},
		{"Firewall", testFirewall},
		{"Suite", testSuite},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, m)
			if t.Failed() {
				t.Logf("the end of the daemon's log:\n%s", m.daemonLog(t))
			}
		})
	}
}

func testCgroupVersion(t *testing.T, m *machine) {
	t.Helper()
	if got := m.docker(t, "info", "-f", "{{.CgroupVersion}}"); got != "2" {
		t.Errorf("docker info says version %s", got)
	}
	m.docker(t, "run", "-d", "--name", "limited", "-m", "32m", "--pids-limit", "77", "--cpus", "0.5", "busybox", "sleep", "100000")
	pid := m.docker(t, "inspect", "-f", "{{.State.Pid}}", "limited")
	group := "/sys/fs/cgroup/$(cut -d: -f3 /proc/" + pid + "/cgroup)/"
	for file, want := range map[string]string{"memory.max": "33554432", "pids.max": "77", "cpu.max": "50000 100000"} {
		got := m.sh(t, "cat "+group+file)
		if got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	// How much time a loop gets cannot be measured here, but that it has to wait.
	m.docker(t, "exec", "limited", "sh", "-c", "timeout 3 sh -c 'while :; do :; done' || true")
	if got := m.sh(t, "grep nr_throttled "+group+"cpu.stat"); got == "nr_throttled 0" {
		t.Error("a loop was never throttled")
	}
	m.docker(t, "rm", "-f", "limited")
}

// testCgroupNamespace: a container sees its own cgroup as the root, and cannot
// write to it; with the host's namespace it sees where it is.
func testCgroupNamespace(t *testing.T, m *machine) {
	t.Helper()
	script := "cat /proc/self/cgroup; grep ' /sys/fs/cgroup ' /proc/mounts; mkdir /sys/fs/cgroup/x 2>/dev/null && echo written; cat /sys/fs/cgroup/memory.max"
	out := strings.Split(m.docker(t, "run", "--rm", "-m", "32m", "busybox", "sh", "-c", script), "\n")
	if len(out) != 3 || out[0] != "0::/" || !strings.Contains(out[1], "cgroup2 ro,") || out[2] != "33554432" {
		t.Errorf("inside: %q", out)
	}
	if got := m.docker(t, "run", "--rm", "--cgroupns", "host", "busybox", "cat", "/proc/self/cgroup"); len(got) < 70 {
		t.Errorf("with the host's namespace: %q", got)
	}
}

// testCommitFreezes: the database is frozen by the cgroup, and goes on.
func testCommitFreezes(t *testing.T, m *machine) {
	t.Helper()
	m.docker(t, "run", "-d", "--name", "frozen", bankImage)
	awaitDatabase(t, m, "frozen")
	m.docker(t, "commit", "frozen", "frozen:1")
	if log := m.daemonLog(t); !strings.Contains(log, "mode=frozen") {
		t.Error("the commit was not done under a freeze")
	}
	if got := m.docker(t, "exec", "-u", "postgres", "frozen", "psql", "-qAtXc", "SELECT sum(balance) FROM account"); got != "50000" {
		t.Errorf("after the commit the database answers %q", got)
	}
	m.docker(t, "rm", "-fv", "frozen")
	m.docker(t, "rmi", "frozen:1")
}

// testAppArmor: containers run under Docker's profile, which the engine loads,
// and which forbids what their capabilities would let them do.
func testAppArmor(t *testing.T, m *machine) {
	t.Helper()
	const attr = "/proc/self/attr/apparmor/current"
	mount := "cat " + attr + "; mount -t tmpfs none /tmp && echo mounted"
	for _, tt := range []struct {
		name, want string
		options    []string
	}{
		{"Default", "docker-default (enforce)\n", []string{"--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"}},
		{"Unconfined", "unconfined\nmounted\n", []string{"--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"}},
		{"Privileged", "unconfined\nmounted\n", []string{"--privileged"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"run", "--rm"}, tt.options...)
			_, got, stderr := m.run(t, append(append(dockerCommand, args...), "busybox", "sh", "-c", mount)...)
			if got != tt.want {
				t.Errorf("%q, want %q: %s", got, tt.want, stderr)
			}
		})
	}
	if got := m.docker(t, "info", "-f", "{{.SecurityOptions}}"); !strings.Contains(got, "name=apparmor") {
		t.Errorf("docker info says %s", got)
	}
	if code, _, stderr := m.run(t, append(dockerCommand, "run", "--rm", "--security-opt", "apparmor=no-such-profile", "busybox", "true")...); code == 0 {
		t.Error("an unknown profile was accepted")
	} else if !strings.Contains(stderr, "apparmor") {
		t.Errorf("the error of an unknown profile: %s", stderr)
	}
}

// testFirewall: a published port is reached, and the rules are in tables of the
// engine's own.
func testFirewall(t *testing.T, m *machine) {
	t.Helper()
	m.docker(t, "run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "busybox", "sh", "-c", "echo hello > /index.html; httpd -f -p 80 -h /")
	// Not wget: linked statically it looks up the port of http in vain, and crashes.
	m.sh(t, `for i in $(seq 50); do printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 127.0.0.1 8080 | grep -q hello && exit; sleep 0.2; done; exit 1`)
	t.Log(m.must(t, "nft", "list", "tables"))
	m.docker(t, "rm", "-f", "web")
	if out := m.must(t, "nft", "list", "ruleset"); strings.Contains(out, "8080") {
		t.Errorf("rules are left:\n%s", out)
	}
}

// testSuite runs tests of package integration in the machine, and shows each as
// one of its own.
func testSuite(t *testing.T, m *machine) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), suiteTime, errors.New("the suite does not end"))
	defer cancel()
	results := &suiteResults{}
	p, err := m.Start(agent.Options{
		Env:    []string{"SLIPWAY_TEST_BIN=" + programsDir, "SLIPWAY_TEST_CLIENTS=" + programsDir},
		Stdout: results, Stderr: results,
	}, programsDir+"/integration.test", "-test.v", "-test.parallel=2", "-test.run="+suite)
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.Wait(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, &results.all)
	}
	tests := results.parse()
	for _, r := range tests {
		t.Run(r.name, func(t *testing.T) {
			switch r.result {
			case "PASS":
			case "SKIP":
				t.Skip(r.output)
			default:
				t.Error(r.output)
			}
		})
	}
	if code != 0 && !t.Failed() || len(tests) == 0 {
		t.Errorf("exit code %d\n%s", code, &results.all)
	}
}

// suiteResults is what the tests in the machine print.
type suiteResults struct{ all bytes.Buffer }

func (r *suiteResults) Write(p []byte) (int, error) { return r.all.Write(p) }

type suiteResult struct{ name, result, output string }

// parse finds the top-level tests: "--- PASS: TestX (0.10s)", and before it, here
// and there, what it printed after "=== RUN TestX" or "=== NAME TestX".
func (r *suiteResults) parse() []suiteResult {
	var tests []suiteResult
	output := map[string]string{}
	var current string
	for line := range strings.Lines(r.all.String()) {
		fields := strings.Fields(line)
		if strings.HasPrefix(line, "=== ") && len(fields) > 2 {
			current, _, _ = strings.Cut(fields[2], "/")
			continue
		}
		output[current] += line
		if strings.HasPrefix(line, "--- ") && len(fields) > 2 {
			tests = append(tests, suiteResult{name: fields[2], result: strings.Trim(fields[1], ":")})
		}
	}
	for i, test := range tests {
		tests[i].output = output[test.name]
	}
	return tests
}
