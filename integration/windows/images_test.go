//go:build linux

package windows

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

// TestImages: a folder becomes an image, whose archive is one of Windows and goes
// out and in again; volumes and containers are made of it, and nothing of any is
// left.
func TestImages(t *testing.T) {
	e := startEngine(t)
	folder := world.unix(e.root + `\folder`)
	for name, text := range map[string]string{"app/run.cmd": "@echo off\r\necho hello\r\n", "pgdata/PG_VERSION": "15"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made := e.windowsClient(nil, testutil.WindowsBinary("slipway.exe"), "-H", e.pipe, "image", "import-dir", e.root+`\folder`, "folder:1",
		"--entrypoint", `["cmd.exe", "/C", "%CONTAINER_ROOT%\\app\\run.cmd"]`, "--volume", "C:/pgdata", "--database", "postgres", "--env", `PGDATA=%CONTAINER_ROOT%\pgdata`)
	if made.Code != 0 {
		t.Fatalf("import-dir: %+v", made)
	}
	const format = "{{.Os}} {{.Architecture}} {{.OsVersion}} {{json .Config.Volumes}} {{json .Config.Env}}"
	if got := e.mustTCP("image", "inspect", "-f", format, "folder:1"); !strings.HasPrefix(got, "windows amd64 10.0.") ||
		!strings.HasSuffix(got, `{"C:\\pgdata":{}} ["PGDATA=%CONTAINER_ROOT%\\pgdata"]`) {
		t.Errorf("inspect: %s", got)
	}
	e.mustDocker("tag", "folder:1", "folder:2")
	archive := world.unix(e.root + `\saved.tar`)
	e.mustDocker("save", "-o", e.root+`\saved.tar`, "folder:1")
	listed, err := exec.Command("tar", "-xOf", archive, "manifest.json").CombinedOutput()
	if err != nil || !bytes.Contains(listed, []byte("folder:1")) {
		t.Errorf("the archive has the table %s, %v", listed, err)
	}
	e.mustDocker("rmi", "folder:1", "folder:2")
	if got := e.mustDocker("images", "-q"); got != "" {
		t.Errorf("images are left: %s", got)
	}
	e.mustTCP("load", "-q", "-i", archive)
	first := e.mustDocker("create", "--name", "first", "folder:1")
	second := e.mustTCP("create", "-v", `named:C:\pgdata`, "folder:1")
	for _, id := range []string{first, second} {
		source := e.mustDocker("inspect", "-f", "{{(index .Mounts 0).Source}}", id)
		if text, err := os.ReadFile(filepath.Join(world.unix(source), "PG_VERSION")); err != nil || string(text) != "15" {
			t.Errorf("the volume at %s has %q, %v", source, text, err)
		}
	}
	if r := e.docker("create", "-v", `C:\x:C:\y:ro`, "folder:1"); r.Code == 0 || !strings.Contains(r.Stderr, "read-only mounts are not possible") {
		t.Errorf("a read-only mount: %+v", r)
	}
	e.mustDocker("rm", "-v", first, second)
	if got := e.mustDocker("volume", "ls", "-q"); got != "named" {
		t.Errorf("the volumes are %q", got)
	}
	e.mustDocker("volume", "rm", "named")
	e.mustDocker("rmi", "folder:1")
	if log, err := os.ReadFile(e.log); err != nil || bytes.Contains(log, []byte("Invalid function")) {
		t.Fatalf("slipwayd.exe cannot remove directories under Wine: build it with -overlay bin/wine/overlay.json, and name its folder in SLIPWAY_TEST_WINDOWS_BIN (%v)", err)
	}
	for _, dir := range []string{"containerd/io.containerd.snapshotter.v1.dirs/snapshots", "volumes"} {
		left, err := os.ReadDir(filepath.Join(world.unix(e.root+`\data`), "pool", dir))
		if err != nil || len(left) > 0 {
			t.Errorf("%s has %v, %v", dir, left, err)
		}
	}
}
