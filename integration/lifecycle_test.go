//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"
)

func TestStates(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	docker(t, "create", "--name", name, "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")
	state := func() string { return inspect(t, name, ".State.Status") }
	if got := state(); got != "created" {
		t.Errorf("created: %s", got)
	}
	docker(t, "start", name)
	if got := state(); got != "running" {
		t.Errorf("started: %s", got)
	}
	docker(t, "start", name) // running already: no error
	p := engine(t).ContainerProcess(t, name)
	docker(t, "pause", name)
	if got := state(); got != "paused" {
		t.Errorf("paused: %s", got)
	}
	docker(t, "unpause", name)
	docker(t, "stop", name)
	if got := state(); got != "exited" || p.Alive() {
		t.Errorf("stopped: %s, process alive: %v", got, p.Alive())
	}
	if got := inspect(t, name, ".State.ExitCode"); got != "3" {
		t.Errorf("exit code %s", got)
	}
	docker(t, "stop", name) // stopped already: no error
	docker(t, "start", name)
	if got := state(); got != "running" {
		t.Errorf("started again: %s", got)
	}
	dockerFails(t, "container is running: stop the container before removing or force remove", "rm", name)
	docker(t, "rm", "-f", name)
	dockerFails(t, "No such container: "+name, "rm", name)
}

func TestPauseFreezes(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /count; done")
	p := engine(t).ContainerProcess(t, name)
	docker(t, "pause", name)
	before := cpuSeconds(t, p)
	time.Sleep(300 * time.Millisecond)
	if after := cpuSeconds(t, p); after != before {
		t.Errorf("a paused process used %.3f s", after-before)
	}
	dockerFails(t, "is paused, unpause the container before exec", "exec", name, "true")
	dockerFails(t, "is already paused", "pause", name)
	docker(t, "unpause", name)
	testutil.Eventually(t, "it goes on", func() bool { return cpuSeconds(t, p) > before })
	dockerFails(t, "is not paused", "unpause", name)
	docker(t, "pause", name)
	docker(t, "rm", "-f", name) // a paused one can be removed
}

func TestStop(t *testing.T) {
	t.Parallel()
	const script = "trap 'echo TERM; exit 1' TERM; trap 'echo USR1; exit 2' USR1; trap 'echo QUIT; exit 3' QUIT; echo ready; while :; do sleep 0.05; done"
	for _, tt := range []struct {
		name       string
		run, stop  []string
		want, code string
	}{
		{"default", nil, nil, "TERM", "1"},
		{"of the container", []string{"--stop-signal", "SIGUSR1"}, nil, "USR1", "2"},
		{"by number", []string{"--stop-signal", "10"}, nil, "USR1", "2"},
		{"of the command", []string{"--stop-signal", "SIGUSR1"}, []string{"-s", "QUIT"}, "QUIT", "3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			name := background(t, append(tt.run, "busybox", "sh", "-c", script)...)
			testutil.Eventually(t, "the traps are set", func() bool { return docker(t, "logs", name) == "ready" })
			docker(t, append(append([]string{"stop"}, tt.stop...), name)...)
			if got := docker(t, "logs", name); got != "ready\n"+tt.want {
				t.Errorf("it got %q", got)
			}
			if got := inspect(t, name, ".State.ExitCode"); got != tt.code {
				t.Errorf("exit code %s", got)
			}
		})
	}
	dockerFails(t, "invalid signal", "run", "--rm", "--stop-signal", "SIGNOSUCH", "busybox", "true")
}

func TestStopTimeout(t *testing.T) {
	t.Parallel()
	deaf := []string{"busybox", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"}
	for what, tt := range map[string]struct{ run, stop []string }{
		"of the command":   {nil, []string{"-t", "1"}},
		"of the container": {[]string{"--stop-timeout", "1"}, nil},
	} {
		name := background(t, append(tt.run, deaf...)...)
		testutil.Eventually(t, "the trap is set", func() bool { return docker(t, "logs", name) == "ready" })
		begin := time.Now()
		docker(t, append(append([]string{"stop"}, tt.stop...), name)...)
		if took := time.Since(begin); took < time.Second || took > 8*time.Second {
			t.Errorf("%s: took %s", what, took)
		}
		if got := inspect(t, name, ".State.ExitCode"); got != "137" {
			t.Errorf("%s: exit code %s", what, got)
		}
	}
}

// TestKillDuringStart: a process that has shown that it runs can be sent a signal,
// also while its start has not been answered yet.
func TestKillDuringStart(t *testing.T) {
	t.Parallel()
	d := engine(t)
	for range 10 {
		name := unique(t)
		removeLater(t, d, name)
		id := docker(t, "create", "--name", name, "busybox", "sh", "-c", "trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done")
		log := filepath.Join(d.DataRoot, "containers", id, id+"-json.log") // the earliest sign
		started := make(chan error, 1)
		go func() {
			status, data, err := d.Request(http.MethodPost, "/containers/"+name+"/start", nil)
			if err == nil && status != http.StatusNoContent {
				err = fmt.Errorf("start: %d: %s", status, data)
			}
			started <- err
		}()
		for deadline := time.Now().Add(30 * time.Second); ; {
			content, _ := os.ReadFile(log)
			if bytes.Contains(content, []byte("ready")) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the container did not start")
			}
		}
		status, data, err := d.Request(http.MethodPost, "/containers/"+name+"/kill?signal=HUP", nil)
		if err != nil || status != http.StatusNoContent {
			t.Errorf("kill: %d: %s %v", status, data, err)
		}
		if err := <-started; err != nil {
			t.Error(err)
		}
		if status == http.StatusNoContent {
			if code := docker(t, "wait", name); code != "9" {
				t.Errorf("exit code %s", code)
			}
		}
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done")
	testutil.Eventually(t, "the trap is set", func() bool { return docker(t, "logs", name) == "ready" })
	docker(t, "kill", "-s", "HUP", name)
	testutil.Eventually(t, "it got the signal", func() bool { return docker(t, "logs", name) == "ready\nhup" })
	dockerFails(t, "invalid signal: NOSUCH", "kill", "-s", "NOSUCH", name)
	docker(t, "kill", name)
	if got := docker(t, "wait", name); got != "137" {
		t.Errorf("wait: %s", got)
	}
	dockerFails(t, "is not running", "kill", name)
	dockerFails(t, "No such container: no-such", "kill", "no-such")
}

// TestSignalThatIsNone: a container with such a stop signal could not be stopped.
func TestSignalThatIsNone(t *testing.T) {
	t.Parallel()
	dockerFails(t, "invalid stop signal: 999", "create", "--stop-signal", "999", "busybox")
	name := idle(t)
	for _, signal := range []string{"999", "-1"} {
		dockerFails(t, "does not support signal "+signal, "kill", "-s", signal, name)
	}
	status, _, err := engine(t).Request(http.MethodPost, "/containers/"+name+"/kill?signal=65", nil)
	if err != nil || status != http.StatusBadRequest {
		t.Errorf("signal 65: status %d, %v", status, err)
	}
	// The longest wait is no wait that has passed.
	stubborn := background(t, "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	time.Sleep(300 * time.Millisecond)
	stop := engine(t).DockerCommand(t.Context(), "stop", "-t", "18446744074", stubborn)
	if err := stop.Start(); err != nil {
		t.Fatal(err)
	}
	testutil.Never(t, time.Second, "it is killed at once", func() bool { return inspect(t, stubborn, ".State.Running") != "true" })
	docker(t, "kill", stubborn)
	if err := stop.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "sleep 1; exit 11")
	if got := docker(t, "wait", name); got != "11" {
		t.Errorf("while it runs: %s", got)
	}
	if got := docker(t, "wait", name); got != "11" {
		t.Errorf("afterwards: %s", got)
	}
	dockerFails(t, "No such container: no-such", "wait", "no-such")
}

func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	t.Run("on-failure", func(t *testing.T) {
		t.Parallel()
		name := background(t, "--restart=on-failure:2", "-v", "/runs", "busybox", "sh", "-c", "echo run >> /runs/log; exit 5")
		testutil.Eventually(t, "it has given up", func() bool {
			return inspect(t, name, ".State.Status}} {{.RestartCount") == "exited 2"
		})
		if got := docker(t, "logs", name); got != "" {
			t.Errorf("logs %q", got)
		}
		if got := strings.Count(copied(t, name, "/runs/log"), "run"); got != 3 {
			t.Errorf("it ran %d times, want 3", got)
		}
	})
	t.Run("on-failure, success", func(t *testing.T) {
		t.Parallel()
		name := background(t, "--restart=on-failure", "busybox", "true")
		docker(t, "wait", name)
		time.Sleep(500 * time.Millisecond)
		if got := inspect(t, name, ".State.Status}} {{.RestartCount"); got != "exited 0" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("always", func(t *testing.T) {
		t.Parallel()
		name := background(t, "--restart=always", "busybox", "sleep", "0.3")
		testutil.Eventually(t, "it was started again twice", func() bool {
			n, err := strconv.Atoi(inspect(t, name, ".RestartCount"))
			return err == nil && n >= 2
		})
		docker(t, "stop", "-t", "0", name)
		testutil.Never(t, time.Second, "a stopped one is started again", func() bool { return inspect(t, name, ".State.Running") == "true" })
	})
	dockerFails(t, "invalid restart policy", "run", "-d", "--restart=sometimes", "busybox")
	dockerFails(t, "maximum retry count", "run", "-d", "--restart=always:3", "busybox")
}

func TestHealth(t *testing.T) {
	t.Parallel()
	name := background(t, "--health-cmd", "echo probed; test -e /well", "--health-interval", "500ms", "--health-retries", "2", "--health-timeout", "5s",
		"busybox", "sleep", "600")
	health := func(want string) {
		t.Helper()
		testutil.Eventually(t, "the health is "+want, func() bool { return inspect(t, name, ".State.Health.Status") == want })
	}
	if got := inspect(t, name, ".State.Health.Status"); got != "starting" && got != "unhealthy" {
		t.Errorf("at first: %s", got)
	}
	health("unhealthy")
	docker(t, "exec", name, "touch", "/well")
	health("healthy")
	if got := inspect(t, name, "(index .State.Health.Log 0).Output"); got != "probed\n" {
		t.Errorf("the probe's output: %q", got)
	}
	if got := docker(t, "ps", "--filter", "name="+name, "--filter", "health=healthy", "--format", "{{.Status}}"); !strings.Contains(got, "(healthy)") {
		t.Errorf("ps: %q", got)
	}
	off := background(t, "--no-healthcheck", "busybox", "sleep", "600")
	if got := inspect(t, off, "json .State.Health"); got != "null" {
		t.Errorf("--no-healthcheck: %s", got)
	}
}

func TestHealthProbeTimesOut(t *testing.T) {
	t.Parallel()
	name := background(t, "--health-cmd", "sleep 60", "--health-interval", "300ms", "--health-timeout", "300ms", "--health-retries", "1", "busybox", "sleep", "600")
	testutil.Eventually(t, "it is unhealthy", func() bool { return inspect(t, name, ".State.Health.Status") == "unhealthy" })
	if got := inspect(t, name, "(index .State.Health.Log 0).Output"); !strings.Contains(got, "exceeded timeout") {
		t.Errorf("the probe's result: %q", got)
	}
	// Neither stop nor rm wait for a probe that hangs.
	begin := time.Now()
	docker(t, "rm", "-f", name)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("rm -f took %s", took)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	label := "group=" + unique(t)
	running := idle(t, "--label", label, "--label", "kind=a")
	ended := background(t, "--label", label, "busybox", "sh", "-c", "exit 3")
	docker(t, "wait", ended)
	created := unique(t)
	removeLater(t, engine(t), created)
	docker(t, "create", "--name", created, "--label", label, "-v", "/vol", "busybox")

	tag, child := unique(t)+":1", unique(t)+":2"
	docker(t, "tag", "busybox", tag)
	docker(t, "commit", ended, child)
	t.Cleanup(func() { engine(t).Docker("rmi", "-f", tag, child) })
	descendant := unique(t)
	removeLater(t, engine(t), descendant)

	for _, tt := range []struct {
		args []string
		want []string
	}{
		{nil, []string{running}},
		{[]string{"-a"}, []string{created, ended, running}}, // newest first
		{[]string{"-n", "2"}, []string{created, ended}},
		{[]string{"-l"}, []string{created}},
		{[]string{"-a", "--filter", "status=exited"}, []string{ended}},
		{[]string{"-a", "--filter", "status=exited", "--filter", "status=created"}, []string{created, ended}},
		{[]string{"-a", "--filter", "exited=3"}, []string{ended}},
		{[]string{"-a", "--filter", "exited=4"}, nil},
		{[]string{"-a", "--filter", "label=kind"}, []string{running}},
		{[]string{"-a", "--filter", "label=kind=b"}, nil},
		{[]string{"-a", "--filter", "name=" + ended}, []string{ended}},
		{[]string{"-a", "--filter", "id=" + inspect(t, ended, ".Id")[:20]}, []string{ended}},
		{[]string{"-a", "--filter", "ancestor=busybox"}, []string{created, ended, running}},
		{[]string{"-a", "--filter", "ancestor=" + tag}, []string{created, ended, running}}, // the same image
		{[]string{"-a", "--filter", "ancestor=docker.io/library/busybox:latest"}, []string{created, ended, running}},
		{[]string{"-a", "--filter", "ancestor=no-such-image"}, nil},
		{[]string{"-a", "--filter", "volume=/vol"}, []string{created}},
		{[]string{"-a", "--filter", "before=" + ended}, []string{running}},
		{[]string{"-a", "--filter", "since=" + ended}, []string{created}},
		{[]string{"-a", "--filter", "network=none"}, nil},
	} {
		got := lines(docker(t, append([]string{"ps", "--format", "{{.Names}}", "--filter", "label=" + label}, tt.args...)...))
		if strings.Join(got, " ") != strings.Join(tt.want, " ") {
			t.Errorf("ps %q: %q, want %q", tt.args, got, tt.want)
		}
	}
	docker(t, "create", "--name", descendant, "--label", label, child)
	for image, want := range map[string]string{child: descendant, "busybox": strings.Join([]string{descendant, created, ended, running}, "\n")} {
		if got := docker(t, "ps", "-a", "--format", "{{.Names}}", "--filter", "label="+label, "--filter", "ancestor="+image); got != want {
			t.Errorf("descendants of %s: %q, want %q", image, got, want)
		}
	}
	dockerFails(t, "invalid filter 'is-task=x'", "ps", "--filter", "is-task=x")
	dockerFails(t, "invalid filter", "ps", "--filter", "colour=blue")
	dockerFails(t, "invalid", "ps", "--filter", "status=weird")
	if got := docker(t, "ps", "-a", "--filter", "name="+ended, "--format", "{{.Image}} {{.Command}} {{.Status}}"); !strings.HasPrefix(got, `busybox "sh -c 'exit 3'" Exited (3) `) {
		t.Errorf("columns: %q", got)
	}
}

// TestManyAtOnce: thirty clients, each its own containers, at the same time.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const clients = 30
	d := engine(t)
	failures := make(chan string, clients)
	for i := range clients {
		go func() {
			name := "many-" + strconv.Itoa(i)
			for _, args := range [][]string{
				{"run", "-d", "--name", name, "busybox", "sleep", "600"},
				{"exec", name, "true"},
				{"stop", "-t", "0", name},
				{"start", name},
				{"rm", "-f", name},
			} {
				if r := d.Docker(args...); r.Code != 0 {
					failures <- name + ": " + strings.Join(args, " ") + ": " + r.Stderr
					d.Docker("rm", "-f", name)
					return
				}
			}
			failures <- ""
		}()
	}
	for range clients {
		if f := <-failures; f != "" {
			t.Error(f)
		}
	}
}
