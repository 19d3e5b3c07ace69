package testutil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Result is what a command printed and how it ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// commandTimeout ends a command that hangs. It is above every wait in a test.
const commandTimeout = 3 * time.Minute

func clientsDir() string {
	return fromEnv("SLIPWAY_TEST_CLIENTS", filepath.Join(moduleRoot(), "bin", "clients"))
}

// ClientBinary is the path of a client that is not the engine's own.
func ClientBinary(name string) string { return filepath.Join(clientsDir(), name) }

// DockerCommand is the docker client on its way to this daemon, not yet started,
// with a configuration of its own.
func (d *Daemon) DockerCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(clientsDir(), "docker"), args...)
	cmd.Env = append(os.Environ(),
		"DOCKER_HOST=unix://"+d.Socket,
		"DOCKER_CONFIG="+d.clientConfig(),
		"HOME="+d.Root,
		"DOCKER_CLI_HINTS=false",
	)
	cmd.WaitDelay = time.Second
	return cmd
}

// UsePlugin gives the docker client a plugin that is among the clients. It may be
// called again.
func (d *Daemon) UsePlugin(name string) error {
	if _, err := os.Stat(ClientBinary(name)); err != nil {
		return fmt.Errorf("%w: make bin/clients/%s", err, name)
	}
	dir := filepath.Join(d.clientConfig(), "cli-plugins")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Symlink(ClientBinary(name), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (d *Daemon) clientConfig() string { return filepath.Join(d.Root, "client") }

// Docker runs the docker client to its end.
func (d *Daemon) Docker(args ...string) Result { return d.DockerInput(nil, args...) }

// DockerInput is Docker with a standard input.
func (d *Daemon) DockerInput(stdin io.Reader, args ...string) Result {
	ctx, cancel := context.WithTimeoutCause(context.Background(), commandTimeout, errors.New("docker does not end"))
	defer cancel()
	cmd := d.DockerCommand(ctx, args...)
	cmd.Stdin = stdin
	return Finish(cmd)
}

// Slipway runs the engine's own client to its end.
func (d *Daemon) Slipway(args ...string) Result {
	ctx, cancel := context.WithTimeoutCause(context.Background(), commandTimeout, errors.New("slipway does not end"))
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(binDir(), "slipway"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+d.Socket, "SLIPWAY_HOST=unix://"+d.Socket, "HOME="+d.Root)
	cmd.WaitDelay = time.Second
	return Finish(cmd)
}

// Program runs slipwayd itself with just these arguments, to its end.
func (d *Daemon) Program(ctx context.Context, args ...string) Result {
	ctx, cancel := context.WithTimeoutCause(ctx, Patience, errors.New("slipwayd does not end"))
	defer cancel()
	return Finish(exec.CommandContext(ctx, filepath.Join(binDir(), "slipwayd"), args...))
}

// Finish runs a command to its end and keeps what it prints. Code is -1 if it
// could not run or was killed.
func Finish(cmd *exec.Cmd) Result {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		r.Code = -1
		r.Stderr += err.Error()
	}
	return r
}

// MustDocker runs the docker client, wants success, and returns what it printed
// without the last newline.
func (d *Daemon) MustDocker(t *testing.T, args ...string) string {
	t.Helper()
	r := d.Docker(args...)
	if r.Code != 0 {
		t.Fatalf("docker %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// DockerFails runs the docker client and wants it to fail with all of the texts
// in its message.
func (d *Daemon) DockerFails(t *testing.T, texts []string, args ...string) Result {
	t.Helper()
	r := d.Docker(args...)
	if r.Code == 0 {
		t.Fatalf("docker %s: succeeded, want an error with %q\n%s", strings.Join(args, " "), texts, r.Stdout)
	}
	for _, text := range texts {
		if !strings.Contains(r.Stderr, text) {
			t.Errorf("docker %s: error %q, want %q in it", strings.Join(args, " "), r.Stderr, text)
		}
	}
	return r
}

// run is for the machine's own tools.
func run(name string, args ...string) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), Patience, errors.New(name+" does not end"))
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
