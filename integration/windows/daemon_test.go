//go:build linux

package windows

import (
	"encoding/json"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

// TestClients: both clients reach the daemon, each its own way.
func TestClients(t *testing.T) {
	e := startEngine(t)
	const format = "{{.Client.Os}} {{.Server.Os}} {{.Server.APIVersion}}"
	if got := e.mustDocker("version", "-f", format); !strings.HasPrefix(got, "windows windows 1.") {
		t.Errorf("docker.exe over the pipe: %s", got)
	}
	if got := e.mustTCP("version", "-f", format); !strings.HasPrefix(got, "linux windows 1.") {
		t.Errorf("docker over TCP: %s", got)
	}
	var info struct {
		OSType, OperatingSystem, Architecture, Driver, DockerRootDir, CgroupDriver string
		NCPU                                                                       int
		MemTotal                                                                   int64
	}
	if err := json.Unmarshal([]byte(e.mustDocker("info", "-f", "{{json .}}")), &info); err != nil {
		t.Fatal(err)
	}
	if info.OSType != "windows" || info.Architecture != "amd64" || info.Driver != "dirs" || info.DockerRootDir != e.root+`\data` ||
		info.NCPU < 1 || info.MemTotal < 1<<28 || info.CgroupDriver != "" {
		t.Errorf("info: %+v", info)
	}
	if got := e.mustDocker("ps", "-aq"); got != "" {
		t.Errorf("a new engine has containers: %s", got)
	}
}

// TestStopAndKill: an engine that was stopped, and one that was killed, leave
// nothing that is in the way of the next.
func TestStopAndKill(t *testing.T) {
	e := newEngine(t)
	for _, end := range []func(){e.stop, e.kill, e.stop} {
		e.start()
		e.mustDocker("info")
		end()
		if r := e.docker("version"); r.Code == 0 {
			t.Error("an engine that was ended answers")
		}
	}
	e.noProcess("slipwayd.exe --data-root " + e.root)
}

// TestSecondEngine: two engines share no data root, whatever the pipes.
func TestSecondEngine(t *testing.T) {
	e := startEngine(t)
	second := command(t.Context(), testutil.WindowsBinary("slipwayd.exe"),
		"--data-root", e.root+`\data`, "--exec-root", e.root+`\run2`, "-H", e.pipe+"b")
	if r := finish(t, second); r.Code != 1 || !strings.Contains(r.Stderr, "another slipwayd") {
		t.Errorf("same data root: exit code %d: %s", r.Code, r.Stderr)
	}
	third := command(t.Context(), testutil.WindowsBinary("slipwayd.exe"),
		"--data-root", e.root+`\data3`, "--exec-root", e.root+`\run3`, "-H", e.pipe)
	if r := finish(t, third); r.Code != 1 || !strings.Contains(r.Stderr, "in use") {
		t.Errorf("same pipe: exit code %d: %s", r.Code, r.Stderr)
	}
	e.mustDocker("info")
}

// TestService: the daemon as a service of Wine's manager.
func TestService(t *testing.T) {
	e := newEngine(t)
	service := func(args ...string) result {
		return finish(t, command(t.Context(), testutil.WindowsBinary("slipwayd.exe"), append([]string{"service"}, args...)...))
	}
	must := func(args ...string) {
		t.Helper()
		if r := service(args...); r.Code != 0 {
			t.Fatalf("service %v: exit code %d: %s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	const name = "--service-name=slipway-test"
	if r := service("install", name, "--mtu=much"); r.Code == 0 || !strings.Contains(r.Stderr, "--mtu") {
		t.Errorf("installed with a wrong flag: %+v", r)
	}
	if r := service("start", name); r.Code == 0 || !strings.Contains(r.Stderr, "no service") {
		t.Errorf("started without being installed: %+v", r)
	}
	must(append([]string{"install", name}, e.flags()...)...)
	if r := service("install", name); r.Code == 0 || !strings.Contains(r.Stderr, "already") {
		t.Errorf("installed twice: %+v", r)
	}
	must("start", name)
	e.mustDocker("info")
	if r := service("uninstall", name); r.Code == 0 || !strings.Contains(r.Stderr, "stop it first") {
		t.Errorf("uninstalled while running: %+v", r)
	}
	must("stop", name)
	if r := e.docker("version"); r.Code == 0 {
		t.Error("a service that was stopped answers")
	}
	must("uninstall", name)
	if r := service("start", name); r.Code == 0 {
		t.Error("the service is still there")
	}
	e.noProcess("service run " + name)
}
