package api_test

import (
	"context"
	"crypto/rand"
	"net"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/internal/pipe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// defaultNetwork is the network of containers that name none.
const defaultNetwork = "nat"

// newHost is an address that only this test listens on.
func newHost(t *testing.T) string {
	t.Helper()
	return "npipe:////./pipe/slipway-test-" + rand.Text()
}

func dialHost(ctx context.Context, host string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return pipe.Dial(ctx, strings.ReplaceAll(strings.TrimPrefix(host, "npipe://"), "/", `\`))
}

func TestPipe(t *testing.T) {
	host := newHost(t)
	first, err := api.Listen(t.Context(), host, api.ListenOptions{Group: "slipway", GroupOptional: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(t.Context(), host, api.ListenOptions{}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("beside a live daemon: %v", err)
	}
	_ = first[0].Close()
	second, err := api.Listen(t.Context(), host, api.ListenOptions{})
	if err != nil {
		t.Fatalf("after the first has closed: %v", err)
	}
	_ = second[0].Close()
}

func TestPipeRefuses(t *testing.T) {
	for _, tt := range []struct {
		spec  string
		opts  api.ListenOptions
		class func(error) bool
	}{
		{"npipe://x", api.ListenOptions{}, errdefs.IsInvalidArgument},
		{"npipe:////./pipe/", api.ListenOptions{}, errdefs.IsInvalidArgument},
		{"npipe:////other/pipe/x", api.ListenOptions{}, errdefs.IsInvalidArgument},
		{newHost(t), api.ListenOptions{Group: "no-such-group"}, errdefs.IsNotFound},
		{"unix:///x", api.ListenOptions{}, errdefs.IsNotImplemented},
	} {
		ls, err := api.Listen(t.Context(), tt.spec, tt.opts)
		for _, l := range ls {
			_ = l.Close()
		}
		if !tt.class(err) {
			t.Errorf("%s %+v: %v", tt.spec, tt.opts, err)
		}
	}
}

// TestPipeIsForItsGroup reads the pipe's access control list: the system,
// administrators, the group, and nobody else.
func TestPipeIsForItsGroup(t *testing.T) {
	const users = "S-1-5-32-545"
	for group, want := range map[string]string{
		"":      "D:P(A;;FA;;;SY)(A;;FA;;;BA)",
		users:   "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x12019f;;;BU)",
		"Users": "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x12019f;;;BU)",
	} {
		host := newHost(t)
		ls, err := api.Listen(t.Context(), host, api.ListenOptions{Group: group})
		if err != nil {
			t.Errorf("group %q: %v", group, err)
			continue
		}
		accepted := make(chan error, 1)
		go func() {
			_, err := ls[0].Accept()
			accepted <- err
		}()
		conn, err := dialHost(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		descriptor, err := windows.GetSecurityInfo(windows.Handle(conn.(interface{ Fd() uintptr }).Fd()), windows.SE_KERNEL_OBJECT, windows.DACL_SECURITY_INFORMATION)
		if err != nil {
			t.Fatal(err)
		}
		// Wine keeps the generic rights, which Windows replaces by what they mean.
		got := strings.NewReplacer("GWGR", "0x12019f", "GA", "FA").Replace(descriptor.String())
		if got != want {
			t.Errorf("group %q: %s, want %s", group, got, want)
		}
		if err := <-accepted; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		_ = ls[0].Close()
	}
}
