package service

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	bootstrap "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"golang.org/x/sys/windows"
	"google.golang.org/protobuf/proto"

	"slipway/internal/pipe"
)

const (
	// startTimeout is how long the shim may take until its pipe accepts.
	startTimeout = 20 * time.Second
	// maxParams bounds what containerd sends to a starting shim.
	maxParams = 10 << 20

	taskVersion = 3 // of the task service
)

// start starts the shim and writes to out where it is. The shim's pipe accepts when start returns.
func start(ctx context.Context, call Invocation, in io.Reader, out io.Writer) error {
	if err := removeRootfs(call.Bundle); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(in, maxParams))
	if err != nil {
		return fmt.Errorf("reading the parameters: %w", err)
	}
	var params bootstrap.BootstrapParams
	if err := proto.Unmarshal(data, &params); err != nil {
		return fmt.Errorf("reading the parameters: %w", err)
	}
	if call.TTRPCAddress == "" {
		call.TTRPCAddress = params.GetContainerdTtrpcAddress()
	}
	// Nobody can take a name beforehand that he cannot guess; and on Windows no one but
	// administrators any name of these.
	call.Socket = pipe.Protected + "slipway-job-" + call.Namespace + "-" + call.ID + "-" + strings.ToLower(rand.Text())
	if err := launch(ctx, call); err != nil {
		return err
	}
	return write(out, &bootstrap.BootstrapResult{Version: taskVersion, Address: call.Socket, Protocol: "ttrpc"})
}

// removeRootfs removes the mount point that containerd has made in the bundle. Nothing is mounted there,
// and while it is there containerd asks the bind filter to unmount it, which not every Windows
// has: then the bundle could not be removed.
func removeRootfs(bundle string) error {
	if err := os.Remove(filepath.Join(bundle, "rootfs")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the unused mount point: %w", err)
	}
	return nil
}

// launch starts the shim's process and waits for its pipe.
func launch(ctx context.Context, call Invocation) error {
	var said bytes.Buffer
	cmd, err := startOutside(call, &said)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("its pipe does not accept"))
	defer cancel()
	for {
		conn, err := pipe.DialChecked(ctx, call.Socket, isProcess(cmd.Process.Pid))
		if err == nil {
			return conn.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("connecting to the shim: %w", err), cmd.Process.Kill())
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the shim ended at once: %w: %s", err, bytes.TrimSpace(said.Bytes()))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("starting the shim: %w", context.Cause(ctx)), cmd.Process.Kill())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// isProcess checks who serves a pipe.
func isProcess(pid int) func(uint32) error {
	return func(server uint32) error {
		if int(server) != pid {
			return fmt.Errorf("process %d serves it, not %d", server, pid)
		}
		return nil
	}
}

// startOutside starts the shim's process outside of the job that the daemon may be in, as a service
// of some managers is, so that it outlives the daemon.
func startOutside(call Invocation, said *bytes.Buffer) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("the shim's own path: %w", err)
	}
	const flags = windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP
	for _, breakaway := range []uint32{windows.CREATE_BREAKAWAY_FROM_JOB, 0} {
		cmd := exec.Command(self, serveArguments(call)...) //nolint:noctx // it outlives the caller
		// Not the bundle, which could not be removed then.
		cmd.Dir = filepath.Dir(self)
		cmd.Env = append(os.Environ(), "TTRPC_ADDRESS="+call.TTRPCAddress)
		cmd.Stderr = said
		cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: flags | breakaway}
		err = cmd.Start()
		if err == nil {
			return cmd, nil
		}
		if !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			break
		}
		// The daemon's job lets nothing out. Then the shim lives as long as that job.
	}
	return nil, fmt.Errorf("starting the shim: %w", err)
}

func serveArguments(call Invocation) []string {
	args := []string{"-namespace", call.Namespace, "-address", call.Address, "-id", call.ID, "-bundle", call.Bundle, "-socket", call.Socket}
	if call.Debug {
		args = append(args, "-debug")
	}
	return append(args, "serve")
}
