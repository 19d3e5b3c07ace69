package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/vishvananda/netns"
)

const (
	password  = "bench"
	awaitTime = 5 * time.Minute
	pollEvery = 5 * time.Millisecond
)

// server is a database, reached by a port of the loopback address.
type server struct {
	container string
	port      int
	netns     string
}

// freePort finds a port that nobody uses.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // local
	if err != nil {
		return 0, err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

func (s server) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(fmt.Sprintf(
		"host=127.0.0.1 port=%d user=postgres password=%s dbname=bench sslmode=disable connect_timeout=5", s.port, password))
	if err != nil {
		return nil, err
	}
	if s.netns != "" {
		cfg.DialFunc = s.dial
	}
	return pgx.ConnectConfig(ctx, cfg)
}

// dial connects from inside the network namespace; the connection stays usable outside.
func (s server) dial(ctx context.Context, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer home.Close()
	there, err := netns.GetFromName(s.netns)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if netns.Set(home) == nil { // else the thread ends with the goroutine
		runtime.UnlockOSThread()
	}
	return conn, err
}

// await asks until there is an answer.
func (s server) await(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, awaitTime, fmt.Errorf("%s did not answer within %v", s.container, awaitTime))
	defer cancel()
	var last error
	for ctx.Err() == nil {
		if last = s.exec(ctx, sql); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollEvery):
		}
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), last)
}

func (s server) exec(ctx context.Context, sql string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// pgbench runs the host's pgbench and returns what it printed.
func (b *bench) pgbench(ctx context.Context, s server, args ...string) (string, error) {
	args = append(args, "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "postgres", "bench")
	cmd := exec.CommandContext(ctx, filepath.Join(b.postgres, "pgbench"), args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	out, _, err := execute(cmd)
	return out, err
}

// clients of pgbench, as many as keep a small machine busy.
var clients = []string{"-n", "-c", "8", "-j", "2"}

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// throughput measures transactions a second.
func (b *bench) throughput(ctx context.Context, s server, seconds int, options ...string) (float64, error) {
	out, err := b.pgbench(ctx, s, slices.Concat([]string{"-T", strconv.Itoa(seconds)}, clients, options)...)
	if err != nil {
		return 0, err
	}
	match := tpsLine.FindStringSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("pgbench printed no throughput: %s", out)
	}
	return strconv.ParseFloat(match[1], 64)
}
