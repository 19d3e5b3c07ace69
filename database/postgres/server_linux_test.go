package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/database"
	"slipway/database/guestfiles"

	"github.com/jackc/pgx/v5"
)

// installation is PostgreSQL on this machine and the user that runs it.
type installation struct {
	bin      string
	uid, gid uint32
}

func findPostgres(t *testing.T) installation {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to run a server as the user postgres")
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(dirs) == 0 {
		t.Skip("needs PostgreSQL: apt-get install postgresql")
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("needs the user postgres: apt-get install postgresql")
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return installation{bin: slices.Max(dirs), uid: uint32(uid), gid: uint32(gid)}
}

// command prepares a program of the installation, run as its user.
func (i installation) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(i.bin, name), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: i.uid, Gid: i.gid}}
	return cmd
}

// tempDir makes a directory that the server's user can use, with a path short enough for a socket.
func (i installation) tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pg") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, int(i.uid), int(i.gid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// cluster is a data directory and, at times, the server that runs on it.
type cluster struct {
	installation
	dir, data, socket string
	port              string
	log               string
	cmd               *exec.Cmd
	done              chan struct{}
}

// template is a data directory that is initialised once for all tests.
var template = sync.OnceValues(func() (string, error) {
	return os.MkdirTemp("/tmp", "pgtemplate")
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := template(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var initOnce sync.Mutex

// newCluster makes a fresh data directory whose administrator is "postgres".
func newCluster(t *testing.T) *cluster {
	t.Helper()
	i := findPostgres(t)
	base, err := template()
	if err != nil {
		t.Fatal(err)
	}
	initOnce.Lock()
	defer initOnce.Unlock()
	data := filepath.Join(base, "data")
	if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
		if err := os.Chown(base, int(i.uid), int(i.gid)); err != nil {
			t.Fatal(err)
		}
		c := &cluster{installation: i, data: data}
		c.initdb(t)
	}
	return (&cluster{installation: i, data: data}).clone(t)
}

func (c *cluster) initdb(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"-D", c.data, "-U", "postgres", "--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"}, args...)
	if out, err := c.command(t.Context(), "initdb", args...).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	c.appendFile(t, "postgresql.conf", "fsync = off\nmax_wal_senders = 4\nwal_level = logical\n")
	c.appendFile(t, "pg_hba.conf", "host replication all 127.0.0.1/32 trust\n")
}

// clone copies the data directory as it is.
func (c *cluster) clone(t *testing.T) *cluster {
	t.Helper()
	dir := c.tempDir(t)
	n := &cluster{installation: c.installation, dir: dir, data: filepath.Join(dir, "data"), socket: dir, log: filepath.Join(dir, "log")}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", "--reflink=auto", c.data, n.data).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n.port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	return n
}

func (c *cluster) appendFile(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(c.data, name), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Chown(int(c.uid), int(c.gid)); err != nil {
		t.Fatal(err)
	}
}

// launch runs the server without waiting for it.
func (c *cluster) launch(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"-D", c.data, "-k", c.socket, "-p", c.port, "-c", "listen_addresses=127.0.0.1"}, args...)
	log, err := os.OpenFile(c.log, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.cmd = c.command(context.WithoutCancel(t.Context()), "postgres", args...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait()
	}()
	t.Cleanup(func() { c.stop(t, syscall.SIGQUIT) })
}

// start runs the server until it answers.
func (c *cluster) start(t *testing.T, args ...string) {
	t.Helper()
	c.launch(t, args...)
	deadline := time.Now().Add(30 * time.Second)
	for c.adapter().Ready(t.Context(), c.guest()) != nil {
		select {
		case <-c.done:
			t.Fatalf("the server ended:\n%s", c.logText(t))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server is not ready:\n%s", c.logText(t))
		}
	}
}

func (c *cluster) stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(sig)
	select {
	case <-c.done:
	case <-time.After(20 * time.Second):
		t.Errorf("the server does not end:\n%s", c.logText(t))
		_ = c.cmd.Process.Kill()
		<-c.done
	}
	c.cmd = nil
}

func (c *cluster) logText(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (c *cluster) adapter(env ...string) *Adapter {
	return Engine{}.Adapter(append([]string{"PG_MAJOR=15", "PGDATA=" + c.data}, env...)).(*Adapter)
}

func (c *cluster) guest() *hostGuest {
	return &hostGuest{installation: c.installation, socket: c.socket, port: c.port}
}

func (c *cluster) files(t *testing.T) database.Files {
	t.Helper()
	f, err := guestfiles.New(guestfiles.Mount{Path: "/", Source: "/"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// connect opens a connection over TCP, as an application does.
func (c *cluster) connect(t *testing.T, role, password, db string) (*pgx.Conn, error) {
	t.Helper()
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%s sslmode=disable connect_timeout=10", c.port))
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Password, cfg.Database = role, password, db
	return pgx.ConnectConfig(t.Context(), cfg)
}

// query runs SQL as the administrator and returns the first column of the last row as text.
func (c *cluster) query(t *testing.T, db, sql string) string {
	t.Helper()
	conn, err := c.connect(t, "postgres", "", db)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	for _, r := range slices.Backward(results) {
		if len(r.Rows) > 0 {
			return string(r.Rows[0][0])
		}
	}
	return ""
}

// hostGuest runs commands on this machine as if it were the container: the server's place is libpq's default there.
type hostGuest struct {
	installation
	socket, port string
	path         string // searched first
	commands     []database.Command
	stdin        []string
}

func (g *hostGuest) Exec(ctx context.Context, c database.Command) (database.Result, error) {
	g.commands = append(g.commands, c)
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, database.ErrTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "env", c.Argv...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=" + g.path + ":" + g.bin + ":/usr/bin:/bin"}, c.Env...)
	if i := slices.Index(cmd.Env, "PGHOST="); i >= 0 && g.socket != "" {
		cmd.Env[i] = "PGHOST=" + g.socket
		cmd.Env = append(cmd.Env, "PGPORT="+g.port)
	}
	if c.User == "postgres" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: g.uid, Gid: g.gid}}
	}
	if c.Stdin != nil {
		var b bytes.Buffer
		if _, err := b.ReadFrom(c.Stdin); err != nil {
			return database.Result{}, err
		}
		g.stdin = append(g.stdin, b.String())
		cmd.Stdin = &b
	}
	cmd.WaitDelay = time.Second
	out := &database.Capture{Limit: c.OutputLimit, Over: cancel}
	errs := &database.Capture{Limit: c.OutputLimit, Over: cancel}
	cmd.Stdout, cmd.Stderr = out, errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case out.Exceeded() || errs.Exceeded():
		return database.Result{}, database.ErrOutput
	case ctx.Err() != nil:
		return database.Result{}, context.Cause(ctx)
	case errors.As(err, &exit):
		return database.Result{ExitCode: exit.ExitCode(), Stdout: out.Bytes(), Stderr: errs.Bytes()}, nil
	case err != nil:
		return database.Result{}, err
	}
	return database.Result{Stdout: out.Bytes(), Stderr: errs.Bytes()}, nil
}

// everything is all that the guest was given where others can see it: arguments and environment.
func (g *hostGuest) everything() string {
	var b strings.Builder
	for _, c := range g.commands {
		fmt.Fprintln(&b, c.Argv, c.Env)
	}
	return b.String()
}
