//go:build linux

package windows

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/testutil"

	"golang.org/x/sys/unix"
)

// engine is slipwayd.exe with roots, a pipe and a port of its own.
type engine struct {
	t     *testing.T
	root  string // of all its files, as Windows has it
	pipe  string // for docker.exe
	port  int    // for Linux' docker
	log   string // file
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
}

var engines atomic.Int32

// newEngine makes an engine that ends with the test, and nothing is left of which
// then. It does not run yet.
func newEngine(t *testing.T) *engine {
	t.Helper()
	needWine(t)
	n := engines.Add(1)
	e := &engine{t: t, root: fmt.Sprintf(`C:\engine%d`, n), pipe: fmt.Sprintf("npipe:////./pipe/engine%d", n), port: freePort(t)}
	if err := os.MkdirAll(world.unix(e.root), 0o755); err != nil {
		t.Fatal(err)
	}
	e.log = filepath.Join(world.unix(e.root), "daemon.log")
	t.Cleanup(func() {
		if e.running() {
			e.stop()
		}
		e.endKeeper()
		if t.Failed() {
			log, _ := os.ReadFile(e.log) // the test has failed anyway
			t.Logf("the daemon's log:\n%s", log[max(0, len(log)-30_000):])
		}
	})
	return e
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startEngine makes an engine and starts it.
func startEngine(t *testing.T) *engine {
	t.Helper()
	e := newEngine(t)
	e.start()
	return e
}

// flags are what the daemon is started with.
func (e *engine) flags() []string {
	return []string{
		"--data-root", e.root + `\data`, "--exec-root", e.root + `\run`,
		"-H", e.pipe, "-H", "tcp://127.0.0.1:" + strconv.Itoa(e.port), "--allow-plain-tcp",
		"--container-identity", "own", // Wine has one account
	}
}

// command is a Windows program in the prefix, not started yet.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/usr/lib/wine/wine64", append([]string{program}, args...)...)
	cmd.Env = world.env()
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// start starts the daemon and waits until it answers.
func (e *engine) start() {
	e.t.Helper()
	log, err := os.OpenFile(e.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	cmd := command(context.Background(), testutil.WindowsBinary("slipwayd.exe"), e.flags()...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // how it ended is in its log
	e.cmd, e.ended = cmd, ended
	testutil.Eventually(e.t, "the daemon answers", func() bool {
		if !e.running() {
			e.t.Fatal("the daemon has ended")
		}
		return e.tcp("version").Code == 0
	})
}

func (e *engine) running() bool {
	if e.cmd == nil {
		return false
	}
	select {
	case <-e.ended:
		return false
	default:
		return true
	}
}

// stop ends the daemon as Ctrl+C does.
func (e *engine) stop() { e.t.Helper(); e.end(unix.SIGINT) }

// kill ends the daemon as a crash does.
func (e *engine) kill() { e.t.Helper(); e.end(unix.SIGKILL) }

func (e *engine) end(signal unix.Signal) {
	e.t.Helper()
	if err := e.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.t.Fatal(err)
	}
	select {
	case <-e.ended:
	case <-time.After(testutil.Patience):
		_ = e.cmd.Process.Kill()
		<-e.ended
		e.t.Error("the daemon did not stop")
	}
}

// endKeeper ends the engine's log keeper, which by design outlives the daemon.
func (e *engine) endKeeper() {
	for _, process := range world.processes(e.root + `\`) {
		id, name, _ := strings.Cut(process, " ")
		if pid, err := strconv.Atoi(id); err == nil && strings.Contains(name, "slipway-logger.exe") {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
	}
	e.noProcess(e.root + `\`)
}

// result is what a command printed and how it ended.
type result struct {
	Stdout, Stderr string
	Code           int
}

// commandTimeout ends a command that hangs.
const commandTimeout = 3 * time.Minute

// finish runs a command to its end. Its output goes to files: what it leaves running
// may keep them open, as Wine's service manager does, and is not waited for.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	dir := t.TempDir()
	stdout, err := os.Create(filepath.Join(dir, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err = cmd.Run()
	read := func(f *os.File) string {
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(data), "\r\n", "\n")
	}
	r := result{Stdout: read(stdout), Stderr: read(stderr), Code: -1}
	if cmd.ProcessState != nil {
		r.Code = cmd.ProcessState.ExitCode()
	}
	if err != nil && r.Code <= 0 {
		r.Stderr += err.Error()
	}
	return r
}

// windowsClient runs a client of the Windows build over the named pipe.
func (e *engine) windowsClient(stdin io.Reader, program string, args ...string) result {
	ctx, cancel := context.WithTimeoutCause(context.Background(), commandTimeout, errors.New("the client does not end"))
	defer cancel()
	cmd := command(ctx, program, args...)
	cmd.Env = append(cmd.Env, "DOCKER_HOST="+e.pipe, `DOCKER_CONFIG=`+e.root+`\client`, "DOCKER_CLI_HINTS=false")
	cmd.Stdin = stdin
	return finish(e.t, cmd)
}

// docker runs docker.exe over the named pipe, and mustDocker wants it to succeed.
func (e *engine) docker(args ...string) result {
	return e.windowsClient(nil, testutil.ClientBinary("docker.exe"), args...)
}

func (e *engine) mustDocker(args ...string) string {
	e.t.Helper()
	return e.must("docker.exe", e.docker(args...), args)
}

// tcp runs Linux' docker over TCP.
func (e *engine) tcp(args ...string) result {
	ctx, cancel := context.WithTimeoutCause(context.Background(), commandTimeout, errors.New("docker does not end"))
	defer cancel()
	cmd := exec.CommandContext(ctx, testutil.ClientBinary("docker"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=tcp://127.0.0.1:"+strconv.Itoa(e.port), "DOCKER_CONFIG="+filepath.Join(world.unix(e.root), "linuxclient"), "DOCKER_CLI_HINTS=false")
	cmd.WaitDelay = 5 * time.Second
	return finish(e.t, cmd)
}

func (e *engine) mustTCP(args ...string) string {
	e.t.Helper()
	return e.must("docker", e.tcp(args...), args)
}

func (e *engine) must(client string, r result, args []string) string {
	e.t.Helper()
	if r.Code != 0 {
		e.t.Fatalf("%s %s: exit code %d\n%s%s", client, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// processes are the ids and command lines of what runs in the prefix, apart from
// Wine's own services, and contains the text.
func (p *prefix) processes(text string) []string {
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil
	}
	var found []string
	for _, file := range all {
		environ, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(environ, []byte("WINEPREFIX="+p.dir+"\x00")) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		name := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		if err != nil || name == "" || strings.HasPrefix(name, "/usr/lib/wine/wineserver") || strings.HasPrefix(strings.ToLower(name), `c:\windows\system32\`) {
			continue
		}
		if strings.Contains(name, text) {
			found = append(found, filepath.Base(filepath.Dir(file))+" "+name)
		}
	}
	return found
}

// kill ends what contains the text, as a crash does.
func (p *prefix) kill(t *testing.T, text string) {
	t.Helper()
	found := p.processes(text)
	if len(found) == 0 {
		t.Fatalf("there is no process of %s", text)
	}
	for _, process := range found {
		id, _, _ := strings.Cut(process, " ")
		pid, err := strconv.Atoi(id)
		if err == nil {
			err = unix.Kill(pid, unix.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// noProcess waits until nothing that contains the text runs.
func (e *engine) noProcess(text string) {
	e.t.Helper()
	testutil.Eventually(e.t, "no process of "+text+" is left", func() bool { return len(world.processes(text)) == 0 })
}

func toSlash(windows string) string { return strings.ReplaceAll(windows, `\`, "/") }
