package testutil

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Daemon is a real slipwayd with roots, a socket, a bridge and a subnet of its
// own, so that several live side by side. It is not safe for concurrent
// starting and stopping; everything else may be used by many tests at once.
type Daemon struct {
	Root     string // holds everything below
	DataRoot string
	ExecRoot string
	Socket   string
	Bridge   string
	Subnet   string // of the default bridge, "10.x.y.0/24"

	extra  []string // more flags
	env    []string
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
	http   *http.Client
}

// binDir holds the daemon under test. The Makefile says where.
func binDir() string {
	return fromEnv("SLIPWAY_TEST_BIN", filepath.Join(moduleRoot(), "bin"))
}

// Binary is the path of a program of the engine under test.
func Binary(name string) string { return filepath.Join(binDir(), name) }

// WindowsBinary is the path of a program of the engine's Windows build.
func WindowsBinary(name string) string {
	return filepath.Join(fromEnv("SLIPWAY_TEST_WINDOWS_BIN", filepath.Join(moduleRoot(), "bin", "windows")), name)
}

// PostgresForWindows is the folder that script/postgres-windows has filled. Where it
// could not, the test is skipped.
func PostgresForWindows(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(moduleRoot(), "bin", "postgres-windows")
	if !exists(filepath.Join(dir, "bin", "postgres.exe")) {
		Skip(t, NeedsNPM)
	}
	return dir
}

func fromEnv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// moduleRoot is the nearest directory above with a go.mod: tests run in their
// package's own.
func moduleRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
	}
	return dir
}

// Daemons' roots lie on disk, not in a tmpfs: the pool is tested as it is used.
const (
	rootsDir   = "/var/tmp"
	rootPrefix = "slipway-test-"
	ownerFile  = "owner" // holds the process id of the test
)

// NewDaemon prepares a daemon in a new directory and does not start it. flags
// are added to the command line.
func NewDaemon(flags ...string) (*Daemon, error) {
	root, err := os.MkdirTemp(rootsDir, rootPrefix)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(root, ownerFile), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return nil, err
	}
	n := claimNumber()
	d := &Daemon{
		Root:     root,
		DataRoot: filepath.Join(root, "data"),
		ExecRoot: filepath.Join(root, "run"),
		Socket:   filepath.Join(root, "slipway.sock"),
		Bridge:   fmt.Sprintf("swt%d", n),
		Subnet:   fmt.Sprintf("10.%d.%d.0/24", 200+n/250, n%250),
	}
	d.extra = append([]string{
		"--data-root", d.DataRoot,
		"--exec-root", d.ExecRoot,
		"--host", "unix://" + d.Socket,
		"--pidfile", filepath.Join(root, "slipwayd.pid"),
		"--config-file", d.configFile(),
		"--bridge", d.Bridge,
		"--bip", fmt.Sprintf("10.%d.%d.1/24", 200+n/250, n%250),
		"--default-address-pool", fmt.Sprintf("base=10.%d.0.0/16,size=24", 150+n%50),
		"--storage-opt", "pool.size=20g",
	}, flags...)
	if err := os.WriteFile(d.configFile(), []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	d.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", d.Socket)
		},
		DisableKeepAlives: true, // a restarted daemon must not meet old connections
	}}
	return d, nil
}

func (d *Daemon) configFile() string { return filepath.Join(d.Root, "daemon.json") }

// LogFile is the daemon's own log, of all its starts.
func (d *Daemon) LogFile() string { return filepath.Join(d.Root, "slipwayd.log") }

// Start starts the daemon and waits until it answers. env is added to its
// environment.
func (d *Daemon) Start(env ...string) error {
	if err := d.Launch(env...); err != nil {
		return err
	}
	deadline := time.Now().Add(2 * Patience)
	for time.Now().Before(deadline) {
		if status, _, err := d.Request(http.MethodGet, "/_ping", nil); err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-d.exited:
			return fmt.Errorf("the daemon ended at its start (%s):\n%s", d.cmd.ProcessState, d.LogTail(40))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("the daemon does not answer:\n%s", d.LogTail(40))
}

// Launch starts the daemon and does not wait for it to answer.
func (d *Daemon) Launch(env ...string) error {
	if d.Running() {
		return errors.New("the daemon runs already")
	}
	log, err := os.OpenFile(d.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// Not CommandContext: a daemon outlives what starts it.
	cmd := exec.Command(filepath.Join(binDir(), "slipwayd"), d.extra...) //nolint:noctx // see above
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "GORACE=log_path="+filepath.Join(d.Root, "race")+" halt_on_error=0")
	cmd.Env = append(append(cmd.Env, d.env...), env...)
	// A group of its own: a Ctrl-C in the terminal is for the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.cmd, d.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait() // how it ended is in ProcessState
	}(d.exited)
	return nil
}

// Running tells whether the daemon's process lives.
func (d *Daemon) Running() bool {
	if d.cmd == nil {
		return false
	}
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// Pid is the process id of the running daemon.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Stop shuts the daemon down in order; containers live on.
func (d *Daemon) Stop() error {
	if !d.Running() {
		return nil
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-d.exited:
	case <-time.After(2 * Patience):
		_ = d.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go to the log
		<-d.exited
		return fmt.Errorf("the daemon does not stop:\n%s", d.LogTail(400))
	}
	if !d.cmd.ProcessState.Success() {
		return fmt.Errorf("the daemon ended with %s:\n%s", d.cmd.ProcessState, d.LogTail(40))
	}
	return nil
}

// Kill ends the daemon with SIGKILL, as a crash would.
func (d *Daemon) Kill() {
	if d.Running() {
		_ = d.cmd.Process.Kill() // fails only if it has just ended
		<-d.exited
	}
}

// WaitExit waits until the daemon has ended by itself, as a failpoint does it.
func (d *Daemon) WaitExit(patience time.Duration) bool {
	select {
	case <-d.exited:
		return true
	case <-time.After(patience):
		return false
	}
}

// Request calls the API and returns the status and the body of its answer.
// body, if not nil, is sent as JSON; an io.Reader as it is.
func (d *Daemon) Request(method, path string, body any) (int, []byte, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 2*Patience, errors.New("the daemon does not answer "+path))
	defer cancel()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		reader = b
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://slipway"+path, reader)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

// API calls the API, wants the status, and decodes the answer into out if that
// is not nil.
func (d *Daemon) API(t *testing.T, method, path string, body any, wantStatus int, out any) {
	t.Helper()
	status, data, err := d.Request(method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if status != wantStatus {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, status, wantStatus, data)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, data)
		}
	}
}

// Stream asks the API for an answer that goes on until ctx ends, and wants success.
func (d *Daemon) Stream(ctx context.Context, t *testing.T, path string) io.ReadCloser {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://slipway"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(resp.Body) // for the message
		t.Fatalf("%s: status %d: %s", path, resp.StatusCode, data)
	}
	return resp.Body
}

// Check runs the engine's own checker and returns what it found.
func (d *Daemon) Check() ([]string, error) {
	status, data, err := d.Request(http.MethodGet, "/debug/check", nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("debug check: status %d: %s", status, data)
	}
	var report struct{ Problems []json.RawMessage }
	if err := json.Unmarshal(data, &report); err != nil {
		return nil, err
	}
	var out []string
	for _, p := range report.Problems {
		out = append(out, string(p))
	}
	return out, nil
}

// Races is what the race detector has found, in the daemon and in the log
// keeper, over all starts.
func (d *Daemon) Races() string {
	files, _ := filepath.Glob(filepath.Join(d.Root, "race.*")) // the pattern is right
	var out strings.Builder
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			fmt.Fprintln(&out, err)
		}
		out.Write(data)
	}
	return out.String()
}

// LogTail is the end of the daemon's log.
func (d *Daemon) LogTail(lines int) string {
	data, err := os.ReadFile(d.LogFile())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
