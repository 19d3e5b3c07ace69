package pipe

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/Microsoft/go-winio"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// Protected is the beginning of the names that Windows lets only administrators
// and the system create. Wine lets everybody.
const Protected = `\\.\pipe\ProtectedPrefix\Administrators\`

// OnlyAdministrators is a security descriptor for [ListenConfig] in Microsoft's
// "Security Descriptor String Format": full access for the system and for
// administrators, none for anyone else, nothing inherited.
const OnlyAdministrators = "D:P(A;;GA;;;SY)(A;;GA;;;BA)"

// bufferSize is how many bytes a writer may be ahead of the reader, each way.
const bufferSize = 64 << 10

// ListenConfig says how a pipe is made.
type ListenConfig struct {
	// SecurityDescriptor says who may connect, as SDDL. Empty:
	// [OnlyAdministrators].
	SecurityDescriptor string
	// MessageMode lets either side close its half of a connection: it has
	// CloseWrite. Bytes are read as from any connection.
	MessageMode bool
}

// Listen makes the pipe path (\\.\pipe\name) and returns its listener. From then
// on the name is taken, and clients that dial wait until Accept takes them. A
// name that is in use is errdefs.ErrAlreadyExists.
func Listen(path string, cfg ListenConfig) (net.Listener, error) {
	if underWine() && exists(path) {
		return nil, fmt.Errorf("pipe %s is in use: %w", path, errdefs.ErrAlreadyExists)
	}
	descriptor := cfg.SecurityDescriptor
	if descriptor == "" {
		descriptor = OnlyAdministrators
	}
	config := &winio.PipeConfig{
		SecurityDescriptor: descriptor,
		MessageMode:        cfg.MessageMode,
		InputBufferSize:    bufferSize,
		OutputBufferSize:   bufferSize,
	}
	if underWine() {
		return listenPrimed(path, config)
	}
	listener, err := winio.ListenPipe(path, config)
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED), errors.Is(err, windows.ERROR_ALREADY_EXISTS), errors.Is(err, windows.ERROR_PIPE_BUSY):
		// Windows denies access both where another process has the name
		// and where the caller may not make it.
		return nil, fmt.Errorf("pipe %s is in use, or may not be made by this account (%w): %w", path, err, errdefs.ErrAlreadyExists)
	case err != nil:
		return nil, fmt.Errorf("listening on pipe %s: %w", path, err)
	}
	return listener, nil
}

// Dial connects to the pipe path. It waits for the listener's Accept until ctx
// ends; a pipe that is not there is fs.ErrNotExist at once. The connection has CloseWrite if the pipe is in message mode.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	conn, err := winio.DialPipeContext(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("connecting to pipe: %w", err)
	}
	return conn, nil
}

// DialChecked is [Dial] for where the answer matters: check is told the id of
// the process that serves the pipe, and its error closes the connection before a
// byte went over it. [Trusted] is such a check.
func DialChecked(ctx context.Context, path string, check func(process uint32) error) (net.Conn, error) {
	conn, err := Dial(ctx, path)
	if err != nil {
		return nil, err
	}
	process, err := server(conn)
	if err == nil {
		err = check(process)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pipe %s is not served by whom it should be: %w", path, err), conn.Close())
	}
	return conn, nil
}

// server returns the id of the process that serves conn.
func server(conn net.Conn) (uint32, error) {
	file, ok := conn.(interface{ Fd() uintptr })
	if !ok {
		return 0, fmt.Errorf("%T is no pipe: %w", conn, errdefs.ErrInvalidArgument)
	}
	var process uint32
	if err := windows.GetNamedPipeServerProcessId(windows.Handle(file.Fd()), &process); err != nil {
		return 0, fmt.Errorf("asking for the pipe's server: %w", err)
	}
	return process, nil
}

// Trusted returns nil if process runs as the system or as this process's own
// account, and is no less an administrator than this process; else
// errdefs.ErrPermissionDenied.
func Trusted(process uint32) error {
	handle, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, process)
	if err != nil {
		return fmt.Errorf("process %d: %w", process, err)
	}
	defer windows.CloseHandle(handle) //nolint:errcheck // a handle that was only asked
	var token windows.Token
	if err := windows.OpenProcessToken(handle, windows.TOKEN_QUERY, &token); err != nil {
		return fmt.Errorf("token of process %d: %w", process, err)
	}
	defer token.Close()
	theirs, err := token.GetTokenUser()
	if err != nil {
		return fmt.Errorf("account of process %d: %w", process, err)
	}
	own := windows.GetCurrentProcessToken()
	ours, err := own.GetTokenUser()
	if err != nil {
		return fmt.Errorf("account of this process: %w", err)
	}
	switch {
	case theirs.User.Sid.IsWellKnown(windows.WinLocalSystemSid):
		return nil
	case !theirs.User.Sid.Equals(ours.User.Sid):
		return fmt.Errorf("process %d runs as %s: %w", process, theirs.User.Sid, errdefs.ErrPermissionDenied)
	case own.IsElevated() && !token.IsElevated():
		return fmt.Errorf("process %d is no administrator: %w", process, errdefs.ErrPermissionDenied)
	}
	return nil
}
