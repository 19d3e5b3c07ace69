//go:build linux

package integration

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

// TestFaultDemoClean: the demo removes everything that it has made, whatever
// happened to its daemon.
func TestFaultDemoClean(t *testing.T) {
	t.Parallel()
	testutil.RequireRoot(t)
	d, err := testutil.NewDaemon()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Destroy(); err != nil {
			t.Errorf("left: %v", err)
		}
	})
	script := demoScript(t)
	clean := func(when string) {
		cmd := exec.CommandContext(t.Context(), script, "clean")
		cmd.Env = append(os.Environ(), "DEMO_ROOT="+d.DataRoot, "DEMO_RUN="+d.ExecRoot, "DEMO_BRIDGE="+d.Bridge, "HOME="+d.Root)
		if r := testutil.Finish(cmd); r.Code != 0 || r.Stdout+r.Stderr != "" {
			t.Fatalf("%s: %+v", when, r)
		}
		for _, path := range []string{d.DataRoot, d.ExecRoot} {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s is there (%v)", when, path, err)
			}
		}
		aliases, err := filepath.Glob("/sys/class/net/*/ifalias")
		if err != nil {
			t.Fatal(err)
		}
		for _, alias := range aliases {
			if data, err := os.ReadFile(alias); err == nil && strings.TrimSpace(string(data)) == "slipway:"+d.Bridge {
				t.Errorf("%s: %s is there", when, alias)
			}
		}
	}
	clean("never started")
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if err := d.LoadBusybox(); err != nil {
		t.Fatal(err)
	}
	d.MustDocker(t, "network", "create", "demo")
	d.MustDocker(t, "run", "-d", "--name", "demo", "--network", "demo", "-v", "demo:/data", "busybox", "sleep", "600")
	process := d.ContainerProcess(t, "demo")
	d.Kill()
	clean("after a crash")
	if process.Alive() {
		t.Error("the container runs on")
	}
	if mounts, err := d.Mounts(); err != nil || len(mounts) > 0 {
		t.Errorf("mounted: %v, %v", mounts, err)
	}
	clean("again")
}

// demoScript is the demo in a directory with the programs under test.
func demoScript(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../script/demo.sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "script", "demo.sh")
	for _, sub := range []string{"script", "bin/clients"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(script, data, 0o700); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"bin/slipwayd": testutil.Binary("slipwayd"), "bin/slipway": testutil.Binary("slipway"), "bin/clients/docker": testutil.ClientBinary("docker"),
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return script
}
