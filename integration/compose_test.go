//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

// application is three services: a store that takes its time to be ready, a server
// that copies from it when it starts, and a client of the server. The store can only
// be reached by the server.
const application = `
services:
  store:
    image: busybox
    command: sh -c "sleep 1; echo $$WORD > /data/index.html; exec httpd -f -p 5432 -h /data"
    environment:
      WORD: ${WORD:-first}
    volumes: [data:/data]
    networks: [back]
    stop_grace_period: 0s
    healthcheck:
      test: [CMD, wget, -q, -O-, "http://127.0.0.1:5432/"]
      interval: 200ms
      timeout: 5s
      retries: 100
  web:
    image: busybox
    command: sh -c "mkdir /www && wget -q -O /www/index.html http://storage:5432/ && exec httpd -f -p 80 -h /www"
    networks:
      front: {}
      back: {}
    links: [store:storage]
    ports: ["127.0.0.1::80"]
    stop_grace_period: 0s
    depends_on:
      store: {condition: service_healthy}
  client:
    image: busybox
    command: sh -c "until wget -q -O- http://web/; do sleep 0.1; done; wget -T 1 -q -O- http://store:5432/ || echo no store; exec sleep 600"
    networks: [front]
    stop_grace_period: 0s
    depends_on: [web]
  idle:
    image: busybox
    profiles: [more]
    command: sleep 600
    stop_grace_period: 0s
volumes:
  data: {}
networks:
  front: {}
  back: {internal: true}
`

// project is a compose application on an engine.
type project struct {
	d    *testutil.Daemon
	name string
	file string
}

func newProject(t *testing.T, d *testutil.Daemon, content string) *project {
	t.Helper()
	if err := d.UsePlugin("docker-compose"); err != nil {
		t.Fatal(err)
	}
	p := &project{d: d, name: unique(t), file: filepath.Join(t.TempDir(), "compose.yaml")}
	if err := os.WriteFile(p.file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.Running() {
			p.try("--profile", "*", "down", "-v", "--remove-orphans")
		}
	})
	return p
}

func (p *project) try(args ...string) testutil.Result {
	return p.d.Docker(append([]string{"compose", "-p", p.name, "-f", p.file, "--progress", "quiet"}, args...)...)
}

func (p *project) run(t *testing.T, args ...string) string {
	t.Helper()
	r := p.try(args...)
	if r.Code != 0 {
		t.Fatalf("docker compose %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// states are the services' containers, and how they are.
func (p *project) states(t *testing.T) map[string]string {
	t.Helper()
	states := map[string]string{}
	for _, line := range lines(p.run(t, "ps", "-a", "--format", "json")) {
		var c struct{ Name, Service, State, Health string }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		states[strings.TrimPrefix(c.Name, p.name+"-")] = strings.TrimSpace(c.State + " " + c.Health)
	}
	return states
}

func (p *project) wantStates(t *testing.T, want map[string]string) {
	t.Helper()
	if got := p.states(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("states: %v, want %v", got, want)
	}
}

// wantLogs waits for what a container of the project writes. Those of a service that
// has several would be mixed up in `compose logs`.
func (p *project) wantLogs(t *testing.T, container, want string) {
	t.Helper()
	testutil.Eventually(t, container+" has written "+want, func() bool {
		return strings.Contains(p.d.Docker("logs", p.name+"-"+container).Stdout, want)
	})
}

// TestCompose takes an application through its life.
func TestCompose(t *testing.T) {
	t.Parallel()
	p := newProject(t, engine(t), application)
	p.run(t, "up", "-d")
	p.wantStates(t, map[string]string{"store-1": "running healthy", "web-1": "running", "client-1": "running"})
	p.wantLogs(t, "client-1", "first\nno store\n")
	if got := p.run(t, "logs", "--no-log-prefix", "client"); !strings.Contains(got, "first\n") || !strings.Contains(got, "no store") {
		t.Errorf("logs: %q", got)
	}
	address := p.run(t, "port", "web", "80")
	if got := p.run(t, "exec", "-T", "client", "wget", "-q", "-O-", "http://web/"); got != "first" {
		t.Errorf("exec: %q", got)
	}
	if got := run(t, "--network=host", "busybox", "wget", "-q", "-O-", "http://"+address+"/"); got != "first" {
		t.Errorf("by the published port: %q", got)
	}
	if got := lines(p.run(t, "config", "--services")); len(got) != 3 {
		t.Errorf("services: %q", got)
	}

	// Nothing has changed: nothing is made anew.
	ids := p.run(t, "ps", "-q")
	p.run(t, "up", "-d")
	if got := p.run(t, "ps", "-q"); got != ids {
		t.Errorf("a second up changed the containers: %s, before %s", got, ids)
	}
	p.run(t, "restart", "client")
	p.run(t, "stop", "client")
	p.wantStates(t, map[string]string{"store-1": "running healthy", "web-1": "running", "client-1": "exited"})
	p.run(t, "start", "client")

	// One service is changed; what depends on it starts again, the volume stays.
	changed := p.try("exec", "-T", "store", "sh", "-c", "echo kept > /data/kept")
	if changed.Code != 0 {
		t.Errorf("%+v", changed)
	}
	content, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.file, []byte(strings.ReplaceAll(string(content), ":-first", ":-second")), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(t, "up", "-d", "--force-recreate", "--scale", "client=2")
	p.wantStates(t, map[string]string{"store-1": "running healthy", "web-1": "running", "client-1": "running", "client-2": "running"})
	p.wantLogs(t, "client-1", "second\nno store\n")
	if got := p.run(t, "exec", "-T", "store", "cat", "/data/kept"); got != "kept" {
		t.Errorf("in the volume: %q", got)
	}
	p.run(t, "--profile", "more", "up", "-d", "idle")
	if got := p.run(t, "run", "--rm", "-T", "--no-deps", "client", "sh", "-c", "wget -q -O- http://web/; exit 0"); got != "second" {
		t.Errorf("run: %q", got)
	}

	p.run(t, "--profile", "more", "down", "-v")
	for _, kind := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q"}, {"volume", "ls", "-q"}} {
		if got := docker(t, append(kind, "--filter", "label=com.docker.compose.project="+p.name)...); got != "" {
			t.Errorf("docker %s after down: %q", kind[0], got)
		}
	}
}

// TestComposeWaits: a service that does not become healthy keeps others from being
// started, and up says so.
func TestComposeWaits(t *testing.T) {
	t.Parallel()
	p := newProject(t, engine(t), strings.Replace(application, "wget, -q, -O-, \"http://127.0.0.1:5432/\"]\n      interval: 200ms\n      timeout: 5s\n      retries: 100",
		"\"false\"]\n      interval: 100ms\n      retries: 2", 1))
	r := p.try("up", "-d")
	if r.Code == 0 || !strings.Contains(r.Stderr, "is unhealthy") {
		t.Errorf("up: %+v", r)
	}
	if got := p.states(t); got["store-1"] != "running unhealthy" || got["web-1"] != "created" || got["client-1"] != "created" {
		t.Errorf("states: %v", got)
	}
}
