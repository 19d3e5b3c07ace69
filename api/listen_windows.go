package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"slipway/internal/pipe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

func listenUnix(context.Context, string, ListenOptions) (net.Listener, error) { return nil, errNoUnix }

var errNoUnix = errdefs.ErrNotImplemented.WithMessage("listening on a unix socket is not implemented on Windows: use npipe:////./pipe/NAME")

func checkUnix(ListenOptions) error { return errNoUnix }

// listenPipe opens a named pipe for the system, administrators and the group.
// Messages let either side end its half of a connection, as Docker's client does
// when its standard input ends.
func listenPipe(address string, opts ListenOptions) (net.Listener, error) {
	if !strings.HasPrefix(address, pipePrefix) || len(address) == len(pipePrefix) {
		return nil, invalidf("invalid host npipe://%s: a named pipe is npipe:////./pipe/NAME", address)
	}
	descriptor, err := pipeDescriptor(opts)
	if err != nil {
		return nil, err
	}
	return pipe.Listen(strings.ReplaceAll(address, "/", `\`), pipe.ListenConfig{SecurityDescriptor: descriptor, MessageMode: true})
}

// pipePrefix begins the names of pipes of this machine, as an URL has them.
const pipePrefix = "//./pipe/"

func checkPipe(opts ListenOptions) error {
	_, err := pipeDescriptor(opts)
	return err
}

// pipeDescriptor says who may use the pipe. The group gets what Docker's client
// asks for when it connects, GENERIC_READ and GENERIC_WRITE. That lets its members
// also make instances of the pipe ("Named Pipe Security and Access Rights" in
// Microsoft's documentation), which is nothing new to them: they rule the engine.
func pipeDescriptor(opts ListenOptions) (string, error) {
	group, err := lookupGroupSID(opts)
	if err != nil || group == nil {
		return pipe.OnlyAdministrators, err
	}
	return fmt.Sprintf("%s(A;;GRGW;;;%s)", pipe.OnlyAdministrators, group), nil
}

// lookupGroupSID finds the group, which is a name or a SID. It returns nil to
// leave the pipe to administrators.
func lookupGroupSID(opts ListenOptions) (*windows.SID, error) {
	if opts.Group == "" {
		return nil, nil
	}
	if sid, err := windows.StringToSid(opts.Group); err == nil {
		return sid, nil
	}
	sid, _, kind, err := windows.LookupSID("", opts.Group)
	switch {
	case err == nil && (kind == windows.SidTypeGroup || kind == windows.SidTypeAlias || kind == windows.SidTypeWellKnownGroup):
		return sid, nil
	case err == nil:
		return nil, invalidf("%s is no group: the pipe can be given to a group only", opts.Group)
	case opts.GroupOptional && errors.Is(err, windows.ERROR_NONE_MAPPED):
		return nil, nil
	case errors.Is(err, windows.ERROR_NONE_MAPPED):
		return nil, errdefs.ErrNotFound.WithMessage("group " + opts.Group + " for the pipe not found")
	}
	return nil, fmt.Errorf("looking for group %s: %w", opts.Group, err)
}
