//go:build linux

package windows

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

// importFolder makes an image of files, by slipway.exe.
func (e *engine) importFolder(name string, files map[string]string, flags ...string) {
	e.t.Helper()
	folder := e.root + `\` + strings.ReplaceAll(name, ":", "-")
	for path, content := range files {
		file := filepath.Join(world.unix(folder), path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			e.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			e.t.Fatal(err)
		}
	}
	args := append([]string{"image", "import-dir", folder, name, "--quiet"}, flags...)
	e.must("slipway.exe", e.windowsClient(nil, testutil.WindowsBinary("slipway.exe"), args...), args)
}

const cmdExe = `C:\windows\system32\cmd.exe`

// TestRun: a container's program runs in the container's root, and its output, its
// exit code and what it wrote are there, for both clients.
func TestRun(t *testing.T) {
	e := startEngine(t)
	e.importFolder("tiny:1", map[string]string{"hello.txt": "from the image\r\n"})
	out := e.mustDocker("run", "--name", "c1", "tiny:1", cmdExe, "/c", "type hello.txt && echo written>new.txt && echo %CONTAINER_ROOT%")
	if !strings.HasPrefix(out, "from the image") || !strings.Contains(out, `\snapshots\`) {
		t.Errorf("the container printed %q", out)
	}
	if got := e.mustTCP("logs", "c1"); !strings.HasPrefix(got, "from the image") {
		t.Errorf("its log is %q", got)
	}
	if r := e.docker("run", "--name", "c2", "tiny:1", cmdExe, "/c", "exit 42"); r.Code != 42 {
		t.Errorf("exit code %d, want 42: %s", r.Code, r.Stderr)
	}
	if got := e.mustTCP("commit", "c1", "tiny:2"); !strings.HasPrefix(got, "sha256:") {
		t.Errorf("commit printed %q", got)
	}
	if got := e.mustDocker("run", "--rm", "tiny:2", cmdExe, "/c", "type new.txt"); got != "written" {
		t.Errorf("in the image of the commit is %q", got)
	}
	if r := e.docker("run", "--rm", "tiny:1", cmdExe, "/c", "type new.txt"); r.Code == 0 {
		t.Errorf("what a container wrote is in its image: %q", r.Stdout)
	}
	e.mustDocker("rm", "c1", "c2")
	e.noProcess("containerd-shim-slipway-job-v1.exe")
}

// pause is a command that lives until it is ended.
var pause = []string{cmdExe, "/c", "echo up && ping -n 600 127.0.0.1 >nul"}

// TestDaemonDies: containers live on while the daemon is away, and the next takes
// them over.
func TestDaemonDies(t *testing.T) {
	e := startEngine(t)
	e.importFolder("tiny:1", map[string]string{"hello.txt": "x"})
	e.mustDocker(append([]string{"run", "-d", "--name", "c1", "tiny:1"}, pause...)...)
	before := e.mustTCP("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "c1")
	e.kill()
	e.start()
	if after := e.mustTCP("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "c1"); after != before {
		t.Errorf("the container was %s and is %s", before, after)
	}
	if got := e.mustTCP("inspect", "-f", "{{.State.Running}}", "c1"); got != "true" {
		t.Errorf("running: %s", got)
	}
	e.mustDocker("rm", "-f", "c1")
	e.noProcess("containerd-shim-slipway-job-v1.exe")
	e.noProcess("ping")
}

// TestShimDies: a container dies with its shim, is reported, and leaves no process.
func TestShimDies(t *testing.T) {
	e := startEngine(t)
	e.importFolder("tiny:1", map[string]string{"hello.txt": "x"})
	e.mustDocker(append([]string{"run", "-d", "--name", "c1", "tiny:1"}, pause...)...)
	world.kill(t, "containerd-shim-slipway-job-v1.exe")
	testutil.Eventually(t, "the container's end is reported", func() bool {
		return e.mustTCP("inspect", "-f", "{{.State.Running}}", "c1") == "false"
	})
	if code := e.mustTCP("inspect", "-f", "{{.State.ExitCode}}", "c1"); code == "0" {
		t.Error("a container whose shim was killed has exit code 0")
	}
	e.noProcess("ping")
	e.mustDocker("rm", "c1")
}
