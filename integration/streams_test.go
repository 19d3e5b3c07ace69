//go:build linux

package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/internal/testutil"
)

func TestStdin(t *testing.T) {
	t.Parallel()
	r := engine(t).DockerInput(strings.NewReader("one\ntwo\n"), "run", "--rm", "-i", "busybox", "wc", "-l")
	if r.Code != 0 || strings.TrimSpace(r.Stdout) != "2" {
		t.Errorf("run -i: %+v", r)
	}
	// Without -i the command sees an empty input.
	r = engine(t).DockerInput(strings.NewReader("one\n"), "run", "--rm", "busybox", "wc", "-l")
	if r.Code != 0 || strings.TrimSpace(r.Stdout) != "0" {
		t.Errorf("run: %+v", r)
	}
	name := idle(t)
	r = engine(t).DockerInput(strings.NewReader("a\nb\nc\n"), "exec", "-i", name, "wc", "-l")
	if r.Code != 0 || strings.TrimSpace(r.Stdout) != "3" {
		t.Errorf("exec -i: %+v", r)
	}
}

// TestStreamsAreComplete sends more through each stream than any buffer on the
// way holds, and wants every byte.
func TestStreamsAreComplete(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	random := func() io.Reader {
		return io.LimitReader(rand.NewChaCha8([32]byte{7}), size)
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, random()); err != nil {
		t.Fatal(err)
	}
	want := hex.EncodeToString(hash.Sum(nil))
	name := idle(t)
	for what, args := range map[string][]string{
		"run":  {"run", "--rm", "-i", "--log-driver=none", "busybox", "tee", "/dev/stderr"},
		"exec": {"exec", "-i", name, "tee", "/dev/stderr"},
	} {
		r := engine(t).DockerInput(random(), args...)
		for stream, got := range map[string]string{"stdout": r.Stdout, "stderr": r.Stderr} {
			if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(got))); r.Code != 0 || sum != want {
				t.Errorf("%s: exit code %d, %s has %d bytes of %d, or others", what, r.Code, stream, len(got), size)
			}
		}
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	name := idle(t, "-e", "FROM=container", "-w", "/home")
	d := engine(t)
	r := d.Docker("exec", name, "sh", "-c", "echo $FROM; pwd; echo err >&2; exit 9")
	if r.Stdout != "container\n/home\n" || r.Stderr != "err\n" || r.Code != 9 {
		t.Errorf("got %+v", r)
	}
	if got := docker(t, "exec", "-e", "FROM=exec", "-w", "/tmp", "-u", "app", name, "sh", "-c", "echo $FROM; pwd; id -un"); got != "exec\n/tmp\napp" {
		t.Errorf("its own environment, directory and user: %q", got)
	}
	all := testutil.Process(os.Getpid()).Status(t, "CapBnd")
	if got := docker(t, "exec", name, "grep", "CapBnd", "/proc/self/status"); strings.HasSuffix(got, all) {
		t.Errorf("an ordinary exec has all capabilities: %s", got)
	}
	if got := docker(t, "exec", "--privileged", name, "grep", "CapEff", "/proc/self/status"); !strings.HasSuffix(got, all) {
		t.Errorf("a privileged exec: %s, want %s", got, all)
	}
	for _, tt := range []struct {
		code int
		args []string
	}{{127, []string{"no-such-command"}}, {126, []string{"/etc/passwd"}}, {137, []string{"sh", "-c", "kill -9 $$"}}} {
		if r := d.Docker(append([]string{"exec", name}, tt.args...)...); r.Code != tt.code {
			t.Errorf("exec %q: exit code %d, want %d: %s", tt.args, r.Code, tt.code, r.Stderr)
		}
	}

	docker(t, "exec", "-d", name, "sh", "-c", "echo done > /tmp/detached")
	testutil.Eventually(t, "the detached exec has run", func() bool {
		return d.Docker("exec", name, "cat", "/tmp/detached").Stdout == "done\n"
	})
	dockerFails(t, "No such container: no-such", "exec", "no-such", "true")
	docker(t, "stop", name)
	dockerFails(t, "is not running", "exec", name, "true")
}

// TestExecEndsWhileAChildHoldsItsOutput: the client gets the exit code though a
// process left in the background keeps the output open.
func TestExecEndsWhileAChildHoldsItsOutput(t *testing.T) {
	t.Parallel()
	name := idle(t)
	begin := time.Now()
	r := engine(t).Docker("exec", name, "sh", "-c", "sleep 120 & echo started; exit 4")
	if r.Code != 4 || r.Stdout != "started\n" || time.Since(begin) > 60*time.Second {
		t.Errorf("after %s: %+v", time.Since(begin), r)
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	term := engine(t).InTerminal(t, 33, 101, "run", "--rm", "-it", "busybox", "sh")
	term.Expect("# ")
	term.Type("stty size\n")
	term.Expect("33 101")
	term.Resize(44, 122)
	testutil.Eventually(t, "the new size arrives", func() bool {
		term.Type("stty size\n")
		time.Sleep(100 * time.Millisecond)
		return strings.Contains(term.Screen(), "44 122")
	})
	term.Type("tty; exit 6\n")
	term.Expect("/dev/pts/0")
	if code := term.ExitCode(); code != 6 {
		t.Errorf("exit code %d", code)
	}
}

func TestTerminalExec(t *testing.T) {
	t.Parallel()
	name := idle(t)
	term := engine(t).InTerminal(t, 21, 77, "exec", "-it", name, "sh")
	term.Expect("# ")
	term.Type("stty size\n")
	term.Expect("21 77")
	term.Type("sleep 300\n")
	time.Sleep(300 * time.Millisecond)
	term.Type("\x03") // Ctrl-C ends the sleep, not the shell
	term.Type("exit 8\n")
	if code := term.ExitCode(); code != 8 {
		t.Errorf("exit code %d; screen:\n%s", code, term.Screen())
	}
}

// TestAttach: the input of a container started with -d -i stays open, one client
// after another may write to it. The client itself stays until the container
// ends, so it is ended here.
func TestAttach(t *testing.T) {
	t.Parallel()
	name := background(t, "-i", "busybox", "cat")
	for _, text := range []string{"through the attach\n", "and again\n"} {
		ctx, leave := context.WithTimeoutCause(t.Context(), testutil.Patience, errors.New("what was written does not come back"))
		cmd := engine(t).DockerCommand(ctx, "attach", name)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(out, got); err != nil || string(got) != text {
			t.Errorf("got %q, %v", got, err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		leave()
		_ = cmd.Wait() // it was killed
	}
	if got := inspect(t, name, ".State.Running"); got != "true" {
		t.Errorf("running: %s", got)
	}
}

func TestAttachTwoClientsSeeTheSame(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; for i in 1 2 3; do echo line $i; done; exit 5")
	results := make(chan testutil.Result, 2)
	for range 2 {
		go func() { results <- engine(t).Docker("attach", "--no-stdin", name) }()
	}
	time.Sleep(time.Second) // nothing tells from outside that a client is attached
	docker(t, "exec", name, "touch", "/go")
	for range 2 {
		if r := <-results; r.Stdout != "line 1\nline 2\nline 3\n" || r.Code != 5 {
			t.Errorf("got %+v", r)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	term := engine(t).InTerminal(t, 24, 80, "run", "-it", "--name", name, "busybox", "sh")
	term.Expect("# ")
	term.Type("\x10\x11") // Ctrl-P Ctrl-Q
	if code := term.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := inspect(t, name, ".State.Running"); got != "true" {
		t.Errorf("running: %s", got)
	}
	term = engine(t).InTerminal(t, 24, 80, "attach", "--detach-keys", "ctrl-x,d", name)
	time.Sleep(500 * time.Millisecond)
	term.Type("echo back $((40+2))\n")
	term.Expect("back 42")
	term.Type("\x18d")
	term.Expect("read escape sequence")
	term.ExitCode()
	if got := inspect(t, name, ".State.Running"); got != "true" {
		t.Errorf("running after the second: %s", got)
	}
}

// TestExecOutlivesItsTerminal: an exec goes on when its client detaches or is lost.
func TestExecOutlivesItsTerminal(t *testing.T) {
	t.Parallel()
	name := idle(t)
	lives := func(seconds string) bool {
		return strings.Contains(docker(t, "exec", name, "ps", "-o", "args"), "sleep "+seconds)
	}
	term := engine(t).InTerminal(t, 24, 80, "exec", "-it", name, "sleep", "301")
	testutil.Eventually(t, "it runs", func() bool { return lives("301") })
	term.Type("\x10\x11")
	term.Expect("read escape sequence")
	term = engine(t).InTerminal(t, 24, 80, "exec", "-it", name, "sleep", "302")
	testutil.Eventually(t, "it runs", func() bool { return lives("302") })
	term.Kill()
	testutil.Never(t, time.Second, "they end with their clients", func() bool { return !lives("301") || !lives("302") })
	docker(t, "exec", name, "killall", "sleep")
}

func TestSignalsAreForwarded(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the signal did not arrive"))
	defer cancel()
	cmd := engine(t).DockerCommand(ctx, "run", "--name", name, "busybox", "sh", "-c",
		"trap 'echo got it; exit 9' HUP; echo ready; while :; do sleep 0.05; done")
	done := make(chan testutil.Result, 1)
	go func() { done <- testutil.Finish(cmd) }()
	testutil.Eventually(t, "the shell is ready", func() bool { return strings.Contains(engine(t).Docker("logs", name).Stdout, "ready") })
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.Code != 9 || r.Stdout != "ready\ngot it\n" {
		t.Errorf("got %+v", r)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; echo err >&2; printf 'no newline'")
	docker(t, "wait", name)
	r := engine(t).Docker("logs", name)
	if r.Stdout != "line 1\nline 2\nline 3\nline 4\nline 5\nno newline" || r.Stderr != "err\n" {
		t.Errorf("got %+v", r)
	}
	// Both streams count, and their order to each other is not sure.
	if r := engine(t).Docker("logs", "--tail", "1", name); r.Stdout+r.Stderr != "no newline" && r.Stdout+r.Stderr != "err\n" {
		t.Errorf("--tail 1: %+v", r)
	}
	if got := len(lines(docker(t, "logs", "--tail", "6", name))); got != 5 && got != 6 {
		t.Errorf("--tail 6: %d lines of standard output", got)
	}
	if r := engine(t).Docker("logs", "--tail", "0", name); r.Stdout+r.Stderr != "" {
		t.Errorf("--tail 0: %+v", r)
	}
	stamp := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z line 1$`)
	if l := lines(docker(t, "logs", "-t", name)); !stamp.MatchString(l[0]) {
		t.Errorf("--timestamps: %q", l[0])
	}
	dockerFails(t, "No such container: no-such", "logs", "no-such")
}

func TestLogsSinceAndUntil(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "echo early; sleep 2; echo late")
	docker(t, "wait", name)
	l := lines(docker(t, "logs", "-t", name))
	if len(l) != 2 {
		t.Fatalf("got %q", l)
	}
	at, err := time.Parse(time.RFC3339Nano, strings.Fields(l[0])[0])
	if err != nil {
		t.Fatal(err)
	}
	middle := at.Add(time.Second).Format(time.RFC3339Nano)
	if got := docker(t, "logs", "--since", middle, name); got != "late" {
		t.Errorf("--since: %q", got)
	}
	if got := docker(t, "logs", "--until", middle, name); got != "early" {
		t.Errorf("--until: %q", got)
	}
	if got := docker(t, "logs", "--since", "1h", name); got != "early\nlate" {
		t.Errorf("--since 1h: %q", got)
	}
}

func TestLogsFollow(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after")
	done := make(chan testutil.Result, 1)
	go func() { done <- engine(t).Docker("logs", "-f", name) }()
	time.Sleep(700 * time.Millisecond)
	select {
	case r := <-done:
		t.Fatalf("ended before the container: %+v", r)
	default:
	}
	docker(t, "exec", name, "touch", "/go")
	if r := <-done; r.Stdout != "before\nafter\n" || r.Code != 0 {
		t.Errorf("got %+v", r)
	}
}

// TestLogsAreComplete: a container that exits at once loses no line, and the
// order of each stream is kept.
func TestLogsAreComplete(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done")
	docker(t, "wait", name)
	l := lines(docker(t, "logs", name))
	for i, s := range l {
		if s != strconv.Itoa(i) {
			t.Fatalf("line %d is %q", i, s)
		}
	}
	if len(l) != 20000 {
		t.Errorf("%d lines", len(l))
	}
}

func TestLogRotation(t *testing.T) {
	t.Parallel()
	name := background(t, "--log-opt", "max-size=16k", "--log-opt", "max-file=2", "busybox", "sh", "-c",
		"i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done")
	docker(t, "wait", name)
	l := lines(docker(t, "logs", name))
	if len(l) < 50 || len(l) > 1000 || l[len(l)-1] != "line 1999" {
		t.Fatalf("%d lines, the last is %q", len(l), l[max(0, len(l)-1)])
	}
	var first int
	if _, err := fmt.Sscanf(l[0], "line %d", &first); err != nil || first+len(l) != 2000 {
		t.Errorf("the first of %d lines is %q: there is a gap", len(l), l[0])
	}
	dockerFails(t, "max-size", "run", "--rm", "--log-opt", "max-size=many", "busybox", "true")
}

func TestLogDriverNone(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	if got := docker(t, "run", "--name", name, "--log-driver=none", "busybox", "echo", "hello"); got != "hello" {
		t.Errorf("the attached client: %q", got)
	}
	dockerFails(t, "configured logging driver does not support reading", "logs", name)
	dockerFails(t, "no-such-driver", "run", "--rm", "--log-driver=no-such-driver", "busybox", "true")
}
