package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	slipwayBridge = "slipwaybench0"

	startTime = time.Minute
	stopTime  = 2 * time.Minute
)

// engine is a running daemon and the client that drives it.
type engine struct {
	name   string
	client string
	data   string // directory of its data
	dir    string // stands in the command line of every process that is the engine's
	host   string
	netns  string     // where its published ports are, if not on the host
	leaves [][]string // commands that remove what the daemon leaves for the next one
	daemon *exec.Cmd
	exited chan error
}

// docker runs the client and returns what it printed, and how long the process took.
func (e *engine) docker(ctx context.Context, args ...string) (string, time.Duration, error) {
	return execute(exec.CommandContext(ctx, e.client, append([]string{"-H", e.host}, args...)...)) //nolint:gosec // the program's purpose
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

// startSlipway starts the daemon in its directory.
func startSlipway(ctx context.Context, bin, dir string) (*engine, error) {
	run := "/run/slipway-bench"
	e := &engine{name: "slipway", client: filepath.Join(bin, "clients", "docker"), data: dir, dir: run, host: "unix://" + run + "/slipway.sock"}
	e.leaves = [][]string{
		{"pkill", "--pidfile", run + "/logger.pid"},
		{"umount", filepath.Join(dir, "pool")},
		{"ip", "link", "del", slipwayBridge},
		{"nft", "delete", "table", "ip", "slipway-" + slipwayBridge},
	}
	//nolint:gosec // the program's purpose; it is stopped in order, not when ctx ends
	cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(bin, "slipwayd"), "--config-file", "/dev/null", "--data-root", dir, "--exec-root", run,
		"--host", e.host, "--pidfile", filepath.Join(dir, "pid"), "--bridge", slipwayBridge)
	return e, e.start(ctx, cmd, dir)
}

// startPeer starts Debian's Docker Engine, with a containerd that it manages itself. It gets a network namespace of
// its own, so that its firewall rules are not the host's.
func startPeer(ctx context.Context, bin, dir string) (*engine, error) {
	run := "/run/slipway-bench-peer"
	e := &engine{name: "docker.io", client: filepath.Join(bin, "clients", "docker"), data: dir, dir: run, host: "unix://" + run + "/docker.sock", netns: "slipway-bench"}
	e.leaves = [][]string{{"ip", "netns", "del", e.netns}}
	if _, err := os.Stat("/run/netns/" + e.netns); err != nil {
		if _, _, err := execute(exec.CommandContext(ctx, "ip", "netns", "add", e.netns)); err != nil {
			return nil, err
		}
	}
	if _, _, err := execute(exec.CommandContext(ctx, "ip", "-n", e.netns, "link", "set", "lo", "up")); err != nil {
		return nil, err
	}
	//nolint:gosec // the program's purpose; it is stopped in order, not when ctx ends
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "nsenter", "--net=/run/netns/"+e.netns, "dockerd", "--config-file", filepath.Join(dir, "none.json"), "--data-root", dir,
		"--exec-root", run, "--host", e.host, "--pidfile", filepath.Join(dir, "pid"), "--bip", "10.213.77.1/24")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the user names the directory; nothing is secret in it
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "none.json"), []byte("{}"), 0o600); err != nil { //nolint:gosec // the user names the directory
		return nil, err
	}
	return e, e.start(ctx, cmd, dir)
}

func (e *engine) start(ctx context.Context, cmd *exec.Cmd, dir string) error {
	if _, _, err := e.docker(ctx, "version"); err == nil {
		return fmt.Errorf("something answers at %s: does another bench run?", e.host)
	}
	for _, d := range []string{dir, e.dir} {
		if err := os.MkdirAll(d, 0o755); err != nil { //nolint:gosec // nothing secret in it
			return err
		}
	}
	log, err := os.Create(filepath.Join(dir, "daemon.log")) //nolint:gosec // the user names the directory
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the daemon has its own
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is ours
	if err := cmd.Start(); err != nil {
		return err
	}
	e.daemon, e.exited = cmd, make(chan error, 1)
	go func() { e.exited <- cmd.Wait() }()
	for deadline := time.Now().Add(startTime); ; {
		if _, _, err = e.docker(ctx, "version"); err == nil {
			return nil
		}
		select {
		case err := <-e.exited:
			return fmt.Errorf("%s ended at once: see %s: %w", e.name, log.Name(), err)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s does not answer: see %s: %w", e.name, log.Name(), err), e.stop())
		}
	}
}

// clear removes all containers and volumes.
func (e *engine) clear(ctx context.Context) error {
	ids, _, err := e.docker(ctx, "ps", "-aq")
	if err == nil && ids != "" {
		_, _, err = e.docker(ctx, append([]string{"rm", "-fv"}, strings.Fields(ids)...)...)
	}
	if err != nil {
		return err
	}
	names, _, err := e.docker(ctx, "volume", "ls", "-q")
	if err == nil && names != "" {
		_, _, err = e.docker(ctx, append([]string{"volume", "rm", "-f"}, strings.Fields(names)...)...)
	}
	return err
}

// cleanUp removes what a stopped daemon has left. Some of it may not be there.
func (e *engine) cleanUp(ctx context.Context) error {
	for _, command := range e.leaves {
		if _, _, err := execute(exec.CommandContext(ctx, command[0], command[1:]...)); err != nil { //nolint:gosec // constants
			fmt.Fprintln(os.Stderr, "bench: cleaning up:", err)
		}
	}
	// The peer has its data root mounted on itself, if only it was killed.
	if err := unix.Unmount(e.data, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmounting %s: %w", e.data, err)
	}
	return os.RemoveAll(e.dir) //nolint:gosec // a constant
}

func (e *engine) stop() error {
	if err := e.daemon.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-e.exited:
		return err
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("%s does not stop", e.name), e.daemon.Process.Kill())
	}
}
