package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// engine drives the clients.
type engine struct{ host, docker, slipway string }

// run runs the docker client and returns what it printed and how long it took.
func (e engine) run(ctx context.Context, args ...string) (string, time.Duration, error) {
	fmt.Println("$ docker", strings.Join(args, " "))
	return e.quiet(ctx, args...)
}

// quiet is run without showing the command.
func (e engine) quiet(ctx context.Context, args ...string) (string, time.Duration, error) {
	return execute(exec.CommandContext(ctx, e.docker, append([]string{"-H", e.host}, args...)...))
}

func execute(cmd *exec.Cmd) (string, time.Duration, error) {
	var errs strings.Builder
	cmd.Stderr = &errs
	begin := time.Now()
	out, err := cmd.Output()
	took := time.Since(begin)
	if err != nil {
		return "", took, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(string(out)), took, nil
}

// poolUsed are the bytes in use in the pool, after everything in memory was written.
func (e engine) poolUsed(ctx context.Context) (int64, error) {
	if _, _, err := execute(exec.CommandContext(ctx, "sync")); err != nil {
		return 0, err
	}
	out, _, err := execute(exec.CommandContext(ctx, e.slipway, "-H", e.host, "pool", "status", "--format", "json"))
	if err != nil {
		return 0, err
	}
	var status struct {
		Used int64 `json:"used"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return 0, fmt.Errorf("pool status: %w", err)
	}
	return status.Used, nil
}

// fromHost makes the image and returns its name.
func (e engine) fromHost(ctx context.Context) (string, error) {
	fmt.Println("$ slipway image from-host postgresql")
	cmd := exec.CommandContext(ctx, e.slipway, "-H", e.host, "image", "from-host", "postgresql")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	fmt.Print(string(out))
	_, name, ok := strings.Cut(strings.TrimSpace(string(out)), "Loaded image: ")
	if !ok {
		return "", fmt.Errorf("unexpected output %q", out)
	}
	return name, nil
}

// freePort finds a port on the loopback address that nobody uses.
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
