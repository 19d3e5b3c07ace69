//go:build unix

package api_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"slipway/api"

	"github.com/containerd/errdefs"
)

// defaultNetwork is the network of containers that name none.
const defaultNetwork = "bridge"

// newHost is an address that only this test listens on.
func newHost(t *testing.T) string {
	t.Helper()
	return "unix://" + filepath.Join(t.TempDir(), "s.sock")
}

func dialHost(ctx context.Context, host string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(host, "unix://"))
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "s.sock")
	listen := func(opts api.ListenOptions) (net.Listener, error) {
		ls, err := api.Listen(t.Context(), "unix://"+path, opts)
		if err != nil {
			return nil, err
		}
		return ls[0], nil
	}
	group := api.ListenOptions{Group: "12345"}
	if os.Getuid() != 0 {
		group = api.ListenOptions{}
	}
	first, err := listen(group)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o660 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
	if gid := info.Sys().(*syscall.Stat_t).Gid; group.Group != "" && gid != 12345 {
		t.Errorf("group %d", gid)
	}
	if _, err := listen(group); !errdefs.IsAlreadyExists(err) {
		t.Errorf("beside a live daemon: %v", err)
	}
	// A daemon that was killed leaves its socket behind.
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = first.Close()
	second, err := listen(group)
	if err != nil {
		t.Fatalf("after a dead daemon: %v", err)
	}
	_ = second.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(group); !errdefs.IsAlreadyExists(err) {
		t.Errorf("on a file: %v", err)
	}
	_ = os.Remove(path)
	if _, err := listen(api.ListenOptions{Group: "no-such-group"}); !errdefs.IsNotFound(err) {
		t.Errorf("unknown group: %v", err)
	}
	third, err := listen(api.ListenOptions{Group: "no-such-group", GroupOptional: true})
	if err != nil {
		t.Fatalf("unknown optional group: %v", err)
	}
	_ = third.Close()
}

func TestUnixRefuses(t *testing.T) {
	if _, err := api.Listen(t.Context(), "unix://x.sock", api.ListenOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a relative path: %v", err)
	}
	if _, err := api.Listen(t.Context(), "npipe:////./pipe/x", api.ListenOptions{}); !errdefs.IsNotImplemented(err) {
		t.Errorf("a named pipe: %v", err)
	}
}

// TestSystemdSocket runs this test again with a socket as systemd passes it.
func TestSystemdSocket(t *testing.T) {
	if os.Getenv("LISTEN_FDS") != "" {
		ls, err := api.Listen(t.Context(), "fd://", api.ListenOptions{})
		if err != nil || len(ls) != 1 || ls[0].Addr().Network() != "unix" {
			t.Fatalf("%v, %v", ls, err)
		}
		return
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// LISTEN_PID must be the test's own, which only a shell's exec can know.
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run='^TestSystemdSocket$'`, exe)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1")
	cmd.ExtraFiles = []*os.File{f}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
