//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

// TestLogin: with the client's stored credentials an image can be pulled, and
// not without.
func TestLogin(t *testing.T) {
	t.Parallel()
	d := engine(t)
	registry := testutil.NewRegistry(t, "alice", "secret")
	busybox, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image := registry.Push(t, busybox.With(unique(t)+":1", nil, nil))
	t.Cleanup(func() { d.Docker("rmi", "-f", image) })
	config := t.TempDir()
	client := func(stdin string, args ...string) testutil.Result {
		return d.DockerInput(strings.NewReader(stdin), append([]string{"--config", config}, args...)...)
	}
	if r := client("", "pull", image); r.Code == 0 || !strings.Contains(r.Stderr, "pull access denied") {
		t.Errorf("pull without a login: %+v", r)
	}
	r := client("guess", "login", "-u", "alice", "--password-stdin", registry.Host)
	if r.Code == 0 || !strings.Contains(r.Stderr, "login attempt to http://"+registry.Host+"/v2/ failed with status: 401 Unauthorized") {
		t.Errorf("a wrong password: %+v", r)
	}
	if stored, err := os.ReadFile(filepath.Join(config, "config.json")); err == nil && strings.Contains(string(stored), registry.Host) {
		t.Errorf("a wrong password is kept: %s", stored)
	}
	if r := client("secret", "login", "-u", "alice", "--password-stdin", registry.Host); r.Code != 0 || !strings.Contains(r.Stdout, "Login Succeeded") {
		t.Errorf("login: %+v", r)
	}
	if r := client("", "pull", image); r.Code != 0 {
		t.Errorf("pull: %+v", r)
	}
	if r := client("", "logout", registry.Host); r.Code != 0 {
		t.Errorf("logout: %+v", r)
	}
	if r := client("", "pull", image); r.Code == 0 {
		t.Error("pull after logout")
	}
}
