//go:build linux

package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"

	"golang.org/x/sys/unix"
)

// TestWrongOptions: one clear line and status 2, before anything is touched.
func TestWrongOptions(t *testing.T) {
	t.Parallel()
	d, err := testutil.NewDaemon()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Destroy(); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(file, []byte(`{"colour": "blue"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	// What is wrongly accepted must not touch the machine's own engine.
	own := []string{"--data-root", d.DataRoot, "--exec-root", d.ExecRoot, "--bridge", d.Bridge, "--pidfile="}
	for want, args := range map[string][]string{
		"--colour":        {"--colour"},
		"mtu":             {"--mtu=big"},
		"colour":          {"--config-file", file},
		"needs mutual":    {"--config-file", os.DevNull, "-H", "tcp://0.0.0.0:2375"},
		"log-level":       {"--config-file", os.DevNull, "--log-level=loud"},
		"no such file or": {"--config-file", "/no/such/file"},
		"max-size":        {"--config-file", os.DevNull, "--log-opt", "max-size=abc"},
		"bogus":           {"--config-file", os.DevNull, "--log-opt", "bogus=1"},
		"no-such-group":   {"--config-file", os.DevNull, "--group=no-such-group"},
		"/no/such/cert":   {"--config-file", os.DevNull, "-H", "tcp://127.0.0.1:1", "--tlsverify", "--tlscert=/no/such/cert"},
	} {
		args = append(args, own...)
		for _, args := range [][]string{args, append(args, "--validate")} {
			r := d.Program(t.Context(), args...)
			if r.Code != 2 || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, want) {
				t.Errorf("%q: exit code %d, stderr %q, want one line with %q", args, r.Code, r.Stderr, want)
			}
		}
	}
	if r := d.Program(t.Context(), "--version"); r.Code != 0 || !strings.Contains(r.Stdout, "lipway") {
		t.Errorf("--version: %+v", r)
	}
	if r := d.Program(t.Context(), "--help"); r.Code != 0 || !strings.Contains(r.Stdout, "--data-root") {
		t.Errorf("--help: %+v", r)
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	info, err := os.Stat(engine(t).Socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o660 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("mode %s", info.Mode())
	}
}

// TestFaultTwoDaemons: on one data root or exec root, or with one bridge, the second
// is refused; on their own roots and bridges they live side by side.
func TestFaultTwoDaemons(t *testing.T) {
	t.Parallel()
	first := ownEngine(t)
	r := first.Program(t.Context(), "--data-root", first.DataRoot, "--exec-root", first.ExecRoot+"2", "--pidfile=", "--config-file", os.DevNull,
		"--host", "unix://"+first.Socket+"2", "--bridge", first.Bridge+"b", "--bip", "10.252.1.1/24")
	if r.Code == 0 || r.Code == 2 || !strings.Contains(r.Stderr, first.DataRoot) {
		t.Errorf("a second daemon on the same data root: %+v", r)
	}
	assertForeignExecRoot(t, first)
	second := ownEngine(t)
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	r = second.Program(t.Context(), "--data-root", second.DataRoot, "--exec-root", second.ExecRoot, "--pidfile=", "--config-file", os.DevNull,
		"--host", "unix://"+second.Socket, "--bridge", first.Bridge, "--bip", "10.252.1.1/24")
	if want := "another slipwayd uses the bridge " + first.Bridge + ": choose another with --bridge\n"; r.Code != 1 || !strings.HasSuffix(r.Stderr, want) {
		t.Errorf("a second daemon with the same bridge: %+v, want %q", r, want)
	}
	if problems, err := first.Check(); err != nil || len(problems) != 0 {
		t.Errorf("the first daemon's network afterwards: %q, %v", problems, err)
	}
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	a, b := backgroundOn(t, first, "busybox", "sleep", "600"), backgroundOn(t, second, "busybox", "sleep", "600")
	if got := first.MustDocker(t, "ps", "--format", "{{.Names}}"); got != a {
		t.Errorf("the first has %q", got)
	}
	if got := second.MustDocker(t, "ps", "--format", "{{.Names}}"); got != b {
		t.Errorf("the second has %q", got)
	}
}

// assertForeignExecRoot: a daemon with another data root is refused while the
// first lives, and while the first's containers outlive it.
func assertForeignExecRoot(t *testing.T, first *testutil.Daemon) {
	t.Helper()
	intruder := func() testutil.Result {
		return first.Program(t.Context(), "--data-root", first.DataRoot+"2", "--exec-root", first.ExecRoot, "--pidfile=", "--config-file", os.DevNull,
			"--host", "unix://"+first.Socket+"2", "--bridge", first.Bridge+"b", "--bip", "10.252.1.1/24")
	}
	runs := backgroundOn(t, first, "busybox", "sleep", "600")
	process := first.ContainerProcess(t, runs)
	for _, want := range []string{"another slipwayd uses the exec root " + first.ExecRoot, "containers of another engine, with the data root " + first.DataRoot} {
		if r := intruder(); r.Code != 1 || strings.Count(r.Stderr, "slipwayd:") != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("a second daemon on the same exec root: %+v, want %q", r, want)
		}
		if _, err := os.Stat(first.Socket + "2"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the refused one's socket: %v", err)
		}
		first.Kill()
	}
	if !process.Alive() {
		t.Error("the first's container was ended")
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	first.MustDocker(t, "exec", runs, "true")
	first.MustDocker(t, "rm", "-f", runs)
}

// TestFaultOtherSignals: what other programs do on SIGHUP and SIGUSR1 does not end
// the daemon.
func TestFaultOtherSignals(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	for s, want := range map[unix.Signal]string{unix.SIGHUP: "reloading the configuration is not supported", unix.SIGUSR1: "goroutine 1 ["} {
		if err := unix.Kill(d.Pid(), s); err != nil {
			t.Fatal(err)
		}
		testutil.Eventually(t, "the log has "+want, func() bool { return strings.Contains(d.LogTail(100), want) })
	}
	d.MustDocker(t, "version")
}

// TestFaultSignalAtStart: a signal ends a daemon whose start stands still as soon
// as that goes on, a second one at once.
func TestFaultSignalAtStart(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	process := d.ContainerProcess(t, backgroundOn(t, d, "busybox", "sleep", "600"))
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	path, release := stallStart(t, d)
	signal := func() {
		if err := unix.Kill(d.Pid(), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	launch := func() {
		if err := d.Launch(); err != nil {
			t.Fatal(err)
		}
		awaitOpen(t, d, path)
		signal()
		if d.WaitExit(300 * time.Millisecond) {
			t.Fatalf("nothing holds it up:\n%s", d.LogTail(20))
		}
	}
	launch()
	signal()
	if !d.WaitExit(testutil.Patience) {
		t.Error("a second signal does not end it")
		d.Kill()
	}
	launch()
	release()
	if !d.WaitExit(testutil.Patience) {
		t.Error("the signal was lost")
		d.Kill()
	}
	if got := d.LogTail(3); !strings.Contains(got, "stopped before it was ready") {
		t.Errorf("the end of its log:\n%s", got)
	}
	if !process.Alive() {
		t.Error("the container was ended")
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
}

// stallStart has the starts of a daemon stand still, until release, when they open
// containerd's database at path.
func stallStart(t *testing.T, d *testutil.Daemon) (path string, release func()) {
	t.Helper()
	path = filepath.Join(d.DataRoot, "pool", "containerd", "io.containerd.metadata.v1.bolt", "meta.db")
	db, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := unix.Flock(int(db.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return path, func() {
		if err := unix.Flock(int(db.Fd()), unix.LOCK_UN); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitOpen waits until the daemon has a file open.
func awaitOpen(t *testing.T, d *testutil.Daemon, path string) {
	t.Helper()
	testutil.Eventually(t, "the daemon opens "+path, func() bool {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", d.Pid()))
		return err == nil && slices.ContainsFunc(links, func(l string) bool { to, err := os.Readlink(l); return err == nil && to == path })
	})
}

// TestFaultListen: sockets are opened before anything else. One that cannot be had
// is an error before anything is made; clients that come during the start
// wait for its end.
func TestFaultListen(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for want, host := range map[string]string{
		"another daemon is listening": "unix://" + d.Socket,
		"address already in use":      "tcp://" + taken.Addr().String(),
	} {
		r := d.Program(t.Context(), "--data-root", d.DataRoot+"2", "--exec-root", d.ExecRoot+"2", "--pidfile=", "--config-file", os.DevNull,
			"--allow-plain-tcp", "-H", "unix://"+d.Socket+"2", "-H", host)
		if r.Code != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%s: %+v, want %q", host, r, want)
		}
		for _, path := range []string{d.DataRoot + "2", d.Socket + "2"} {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s is there (%v)", host, path, err)
			}
		}
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	path, release := stallStart(t, d)
	if err := d.Launch(); err != nil {
		t.Fatal(err)
	}
	awaitOpen(t, d, path)
	listed := make(chan testutil.Result, 1)
	go func() { listed <- d.Docker("images", "-q") }()
	select {
	case r := <-listed:
		t.Errorf("answered during the start: %+v", r)
	case <-time.After(300 * time.Millisecond):
		release()
		if r := <-listed; r.Code != 0 || r.Stdout == "" {
			t.Errorf("after the start: %+v", r)
		}
	}
}

// TestFaultRestart: containers run on while the daemon is away, whether it was
// stopped or killed, and the next daemon takes them over with everything.
func TestFaultRestart(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			d := ownEngine(t)
			end := func() {
				if how == "killed" {
					d.Kill()
				} else if err := d.Stop(); err != nil {
					t.Fatal(err)
				}
			}
			lives := backgroundOn(t, d, "-i", "busybox", "sh", "-c", "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.05; done; exit 6")
			ends := backgroundOn(t, d, "busybox", "sh", "-c", "while [ ! -e /stop ]; do sleep 0.05; done; echo last words; exit 7")
			paused := backgroundOn(t, d, "busybox", "sleep", "600")
			again := backgroundOn(t, d, "--restart=always", "busybox", "sh", "-c", "while [ ! -e /stop ]; do sleep 0.05; done; exit 8")
			created := unique(t)
			d.MustDocker(t, "create", "--name", created, "busybox", "echo", "started later")
			removeLater(t, d, created)
			published := backgroundOn(t, d, "-p", "127.0.0.1::80", "--hostname", "srv", "busybox", "sh", "-c", "while :; do hostname | nc -l -p 80 >/dev/null; done")
			port := d.MustDocker(t, "port", published, "80/tcp")
			d.MustDocker(t, "pause", paused)
			process := d.ContainerProcess(t, lives)
			ending := d.ContainerProcess(t, ends)
			restarting := d.ContainerProcess(t, again)
			end()

			if !process.Alive() {
				t.Fatal("the container ended with the daemon")
			}
			for _, p := range []testutil.Process{ending, restarting} {
				if err := os.WriteFile(p.RootPath("stop"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			testutil.Eventually(t, "two containers end", func() bool { return !ending.Alive() && !restarting.Alive() })
			answers(t, port, "srv") // ports work without the daemon
			time.Sleep(300 * time.Millisecond)

			if err := d.Start(); err != nil {
				t.Fatal(err)
			}
			field := func(name, field string) string { return d.MustDocker(t, "inspect", "-f", "{{"+field+"}}", name) }
			if got := d.ContainerProcess(t, lives); got != process {
				t.Errorf("the running container's process is %d, it was %d", got, process)
			}
			if got := field(ends, ".State.Status}} {{.State.ExitCode"); got != "exited 7" {
				t.Errorf("the one that ended meanwhile: %s", got)
			}
			if got := d.MustDocker(t, "logs", ends); got != "last words" {
				t.Errorf("its output: %q", got)
			}
			if got := field(paused, ".State.Status"); got != "paused" {
				t.Errorf("the paused one: %s", got)
			}
			testutil.Eventually(t, "the restart policy is kept", func() bool { return field(again, ".State.Running") == "true" })
			if got := d.MustDocker(t, "start", "-a", created); got != "started later" {
				t.Errorf("the created one: %q", got)
			}
			answers(t, port, "srv")
			d.MustDocker(t, "exec", lives, "touch", "/stop")
			if got := d.MustDocker(t, "wait", lives); got != "6" {
				t.Errorf("exit code %s", got)
			}
			assertCounts(t, d.MustDocker(t, "logs", lives))
			found, err := d.Check()
			if err != nil || len(found) != 0 {
				t.Errorf("the checker: %q, %v", found, err)
			}
		})
	}
}

// assertCounts wants the lines 1, 2, 3 and so on without a gap.
func assertCounts(t *testing.T, output string) {
	t.Helper()
	for i, l := range lines(output) {
		if l != strconv.Itoa(i+1) {
			t.Fatalf("line %d is %q: output was lost or is out of order", i+1, l)
		}
	}
}

// TestFaultLogKeeper: the log keeper is killed; the containers run on, and no
// line is lost.
func TestFaultLogKeeper(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := backgroundOn(t, d, "busybox", "sh", "-c", "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.02; done")
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		if err := d.LogKeeper(t).Kill(); err != nil {
			t.Fatal(err)
		}
	}
	before := len(lines(d.MustDocker(t, "logs", name)))
	testutil.Eventually(t, "the log grows again", func() bool { return len(lines(d.MustDocker(t, "logs", name))) > before+10 })
	d.MustDocker(t, "exec", name, "touch", "/stop")
	d.MustDocker(t, "wait", name)
	assertCounts(t, d.MustDocker(t, "logs", name))
}

// TestFaultShimKilled: a container whose shim dies ends, is shown as ended, and
// can be started again.
func TestFaultShimKilled(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := backgroundOn(t, d, "busybox", "sleep", "600")
	process := d.ContainerProcess(t, name)
	if err := process.Parent(t).Kill(); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "it is shown as ended", func() bool { return d.MustDocker(t, "inspect", "-f", "{{.State.Running}}", name) == "false" })
	testutil.Eventually(t, "its process is gone", func() bool { return !process.Alive() })
	d.MustDocker(t, "start", name)
	if got := d.MustDocker(t, "exec", name, "echo", "back"); got != "back" {
		t.Errorf("got %q", got)
	}
}

// TestFaultReboot: nothing runs and nothing is mounted any more, the exec root is
// empty; records, images and volumes are there and the restart policy starts
// what it should.
func TestFaultReboot(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	plain := backgroundOn(t, d, "-v", "kept:/data", "busybox", "sh", "-c", "echo data > /data/file; sleep 600")
	always := backgroundOn(t, d, "--restart=always", "busybox", "sleep", "600")
	stopped := backgroundOn(t, d, "--restart=unless-stopped", "busybox", "sleep", "600")
	d.MustDocker(t, "stop", "-t", "0", stopped)
	testutil.Eventually(t, "the file is written", func() bool { return d.Docker("exec", plain, "test", "-e", "/data/file").Code == 0 })
	if err := d.Reboot(); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	state := func(name string) string { return d.MustDocker(t, "inspect", "-f", "{{.State.Status}}", name) }
	if got := state(plain); got != "exited" {
		t.Errorf("the plain one is %s", got)
	}
	if got := state(stopped); got != "exited" {
		t.Errorf("the stopped one is %s", got)
	}
	testutil.Eventually(t, "the other is started", func() bool { return state(always) == "running" })
	if got := d.MustDocker(t, "run", "--rm", "-v", "kept:/data", "busybox", "cat", "/data/file"); got != "data" {
		t.Errorf("the volume has %q", got)
	}
	d.MustDocker(t, "start", plain)
	if found, err := d.Check(); err != nil || len(found) != 0 {
		t.Errorf("the checker: %q, %v", found, err)
	}
}
