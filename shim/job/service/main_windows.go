package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"

	"slipway/internal/version"
)

// Main does what the arguments say, and writes to out what containerd reads. It returns when
// that is done: for serve when the container is deleted.
func Main(ctx context.Context, args []string, in io.Reader, out, usage io.Writer) error {
	if len(args) == 2 && args[0] == breakAction {
		pid, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return fmt.Errorf("process %q: %w", args[1], err)
		}
		return sendBreak(uint32(pid))
	}
	if len(args) > 0 && args[0] == consoleAction {
		code, err := runConsole(args[1:])
		if err != nil {
			_, _ = fmt.Fprintln(out, err) // it is the terminal
		}
		os.Exit(int(code)) //nolint:gocritic // nothing is deferred
	}
	call, err := Parse(args, os.Getenv, usage)
	if err != nil {
		return err
	}
	switch {
	case call.Version:
		_, err = fmt.Fprintln(out, "containerd-shim-slipway-job-v1", version.Version())
		return err
	case call.Info:
		return info(out)
	}
	if call.Bundle == "" {
		if call.Bundle, err = os.Getwd(); err != nil {
			return fmt.Errorf("the bundle: %w", err)
		}
	}
	switch call.Action {
	case "start":
		return start(ctx, call, in, out)
	case "delete":
		return remove(ctx, call, out)
	case "serve":
		return serve(ctx, call)
	default:
		return fmt.Errorf("action %q: %w", call.Action, errdefs.ErrNotImplemented)
	}
}

func info(out io.Writer) error {
	return write(out, &types.RuntimeInfo{
		Name:    "io.containerd.slipway-job.v1",
		Version: &types.RuntimeVersion{Version: version.Version()},
	})
}

func write(out io.Writer, message proto.Message) error {
	data, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}
