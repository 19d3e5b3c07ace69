//go:build linux

package integration

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/internal/testutil"
)

// TestDatabaseHealth: a container is healthy while its database answers, without a
// HEALTHCHECK in the image.
func TestDatabaseHealth(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	since := strconv.FormatInt(time.Now().Unix(), 10)
	name := backgroundOn(t, d.Daemon, "--health-interval", "1s", "--health-retries", "2", "--health-timeout", "2s", goldImage)
	if got := d.show(t, name, ".State.Health.Status"); got != "starting" && got != "healthy" {
		t.Errorf("at first it is %s", got)
	}
	d.healthy(t, name)
	if got := d.show(t, name, "(index .State.Health.Log 0).Output"); got != "the database answers queries" {
		t.Errorf("log: %s", got)
	}
	postmaster := d.ContainerProcess(t, name)
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(int(postmaster), s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	d.becomes(t, name, "unhealthy")
	if got := d.MustDocker(t, "ps", "--filter", "health=unhealthy", "--filter", "name="+name, "--format", "{{.Status}}"); !strings.Contains(got, "(unhealthy)") {
		t.Errorf("ps: %s", got)
	}
	signal(syscall.SIGCONT)
	d.healthy(t, name)
	events := d.MustDocker(t, "events", "--since", since, "--until", strconv.FormatInt(time.Now().Unix()+1, 10),
		"--filter", "container="+name, "--filter", "event=health_status", "--format", "{{.Action}}")
	if want := "health_status: healthy\nhealth_status: unhealthy\nhealth_status: healthy"; events != want {
		t.Errorf("events: %q", events)
	}
}

// TestDatabaseHealthcheckWins: of the image or the request; it does not wait for the database.
func TestDatabaseHealthcheckWins(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	image := unique(t) + ":1"
	source := d.clone(t, goldImage)
	d.commit(t, source, image, "-c", "HEALTHCHECK --interval=1s --retries=1 CMD test -e /run/fine")
	name := backgroundOn(t, d.Daemon, image)
	d.becomes(t, name, "unhealthy")
	d.MustDocker(t, "exec", name, "touch", "/run/fine")
	d.healthy(t, name)
	// A database that never comes up.
	never := backgroundOn(t, d.Daemon, "--entrypoint", "sleep", "--health-cmd", "true", "--health-interval", "1s", goldImage, "600")
	d.healthy(t, never)
	none := backgroundOn(t, d.Daemon, "--no-healthcheck", goldImage)
	if got := d.show(t, none, "json .State.Health"); got != "null" {
		t.Errorf("health without a check: %s", got)
	}
}

// TestDatabaseStop is a clean shutdown.
func TestDatabaseStop(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	image := unique(t) + ":1"
	source := d.clone(t, goldImage)
	d.commit(t, source, image, "-c", "STOPSIGNAL SIGINT")
	name := d.clone(t, image)
	if got := d.show(t, name, ".Config.StopSignal}} {{.Config.StopTimeout"); got != "SIGINT 120" {
		t.Errorf("inspect shows %s", got)
	}
	// A session and an open transaction, for which SIGTERM would wait.
	session := d.DockerCommand(t.Context(), "exec", name, "psql", "-U", "postgres", "-c", "BEGIN", "-c", "SELECT pg_sleep(600)")
	if err := session.Start(); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "the session sleeps", func() bool {
		return d.sql(t, name, "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep' AND state = 'active'") == "1"
	})
	d.MustDocker(t, "stop", name)
	_ = session.Wait() // it was cut
	log := d.Docker("logs", name).Stderr
	if !strings.Contains(log, "received fast shutdown request") || !strings.Contains(log, "database system is shut down") {
		t.Errorf("the database says:\n%s", log)
	}
	if got := d.show(t, name, ".State.ExitCode"); got != "0" {
		t.Errorf("exit code %s", got)
	}
	d.MustDocker(t, "start", name)
	d.healthy(t, name)
	if log, clean := d.Docker("logs", name).Stderr, "database system was shut down at"; !strings.Contains(log, clean) {
		t.Errorf("the next start recovers:\n%s", log)
	}
	d.wantGold(t, name)
}

// TestDatabaseStopAsAsked: the user's signal and time-out win.
func TestDatabaseStopAsAsked(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	name := d.clone(t, "--stop-signal", "SIGQUIT", "--stop-timeout", "7", goldImage)
	if got := d.show(t, name, ".Config.StopSignal}} {{.Config.StopTimeout"); got != "SIGQUIT 7" {
		t.Errorf("inspect shows %s", got)
	}
	d.MustDocker(t, "stop", name)
	if log := d.Docker("logs", name).Stderr; !strings.Contains(log, "received immediate shutdown request") {
		t.Errorf("the database says:\n%s", log)
	}
	d.MustDocker(t, "start", name)
	d.healthy(t, name)
	d.MustDocker(t, "stop", "-s", "SIGINT", name)
	if log := d.Docker("logs", name).Stderr; !strings.Contains(log, "received fast shutdown request") {
		t.Errorf("the database says:\n%s", log)
	}
	d.MustDocker(t, "start", name)
	d.healthy(t, name)
	if err := syscall.Kill(int(d.ContainerProcess(t, name)), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	d.MustDocker(t, "stop", "-t", "1", name)
	if took := time.Since(began); took > testutil.Patience || d.show(t, name, ".State.ExitCode") != "137" {
		t.Errorf("stop -t 1 of one that hangs took %s, exit code %s", took, d.show(t, name, ".State.ExitCode"))
	}
}

// TestDatabasePassword: the request's is set before anybody is let in, and is seen nowhere.
func TestDatabasePassword(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	const secret = "correct-horse-battery"
	image := unique(t) + ":1"
	source := d.clone(t, goldImage)
	d.commit(t, source, image, "-c", "ENV POSTGRES_PASSWORD=of-the-image")

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { knock(ctx, t, address) })
	watching.Go(func() { watchArguments(ctx, t, secret) })
	defer watching.Wait()
	defer cancel(nil)

	name := unique(t)
	removeLater(t, d.Daemon, name)
	// Not as an argument of the client either.
	cmd := d.DockerCommand(t.Context(), "run", "-d", "--name", name, "-p", address+":5432", "-e", "POSTGRES_PASSWORD", image)
	cmd.Env = append(cmd.Env, "POSTGRES_PASSWORD="+secret)
	if r := testutil.Finish(cmd); r.Code != 0 {
		t.Fatalf("run: %s", r.Stderr)
	}
	if got := value[int](t, connect(t, d.Daemon, name, secret), "SELECT count(*)::int FROM gold"); strconv.Itoa(got) != goldRows {
		t.Errorf("%d rows", got)
	}
	d.healthy(t, name)
	for _, old := range []string{goldPassword, "of-the-image", ""} {
		if conn, err := tryConnect(t.Context(), address, old); err == nil {
			t.Errorf("the password %q is good", old)
			_ = conn.Close(t.Context())
		}
	}
	log, err := os.ReadFile(d.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	r := d.Docker("logs", name)
	events := d.MustDocker(t, "events", "--since", "30m", "--until", strconv.FormatInt(time.Now().Unix()+1, 10), "--format", "{{json .}}")
	for where, text := range map[string]string{"the daemon's log": string(log), "the container's log": r.Stdout + r.Stderr, "the events": events} {
		if strings.Contains(text, secret) {
			t.Errorf("the password is in %s", where)
		}
	}
	// Once: later it is what the user made it.
	d.sql(t, name, "ALTER ROLE postgres PASSWORD 'changed'")
	d.MustDocker(t, "restart", name)
	connect(t, d.Daemon, name, "changed")
}

// knock tries the old password until the end: it must never be good.
func knock(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	for ctx.Err() == nil {
		for _, old := range []string{goldPassword, "of-the-image"} {
			if conn, err := tryConnect(ctx, address, old); err == nil {
				t.Errorf("the clone let somebody in with the password %q", old)
				_ = conn.Close(context.WithoutCancel(ctx))
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// watchArguments looks for a text in the arguments of all processes.
func watchArguments(ctx context.Context, t *testing.T, secret string) {
	t.Helper()
	for ctx.Err() == nil {
		found, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Error(err)
		}
		for _, file := range found {
			if args, err := os.ReadFile(file); err == nil && strings.Contains(string(args), secret) {
				t.Errorf("the password is in the arguments %q", args)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestDatabasePasswordOfImage: variables of the image set nothing, the data has its password.
func TestDatabasePasswordOfImage(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	image := unique(t) + ":1"
	source := d.clone(t, goldImage)
	d.commit(t, source, image, "-c", "ENV POSTGRES_PASSWORD=of-the-image")
	name := d.clone(t, "-p", "127.0.0.1::5432", image)
	connect(t, d.Daemon, name, goldPassword)
	if conn, err := tryConnect(t.Context(), d.MustDocker(t, "port", name, "5432/tcp"), "of-the-image"); err == nil {
		_ = conn.Close(t.Context())
		t.Error("the image's variable set the password")
	}
}

// callers counts connections to a listener by where they come from.
type callers struct {
	mu    sync.Mutex
	count map[string]int
}

func (c *callers) from(address string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[address]
}

// listen takes calls at an address of the host until the test ends.
func listen(t *testing.T, host string) (*callers, string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	c := &callers{count: map[string]int{}}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if address, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
				c.mu.Lock()
				c.count[address.IP.String()]++
				c.mu.Unlock()
			}
			_ = conn.Close()
		}
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return c, port
}

// TestDatabaseOutward: what production does to others, its clone does not, until it is asked to.
func TestDatabaseOutward(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	const address, archived = "range .NetworkSettings.Networks}}{{.IPAddress}}{{end", "ls /tmp/archive | wc -l"
	gateway := d.MustDocker(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
	calls, port := listen(t, gateway)
	production := d.clone(t, goldImage, "-c", "wal_level=logical")
	conninfo := "host=" + gateway + " port=" + port + " password=of-the-publisher dbname=x"
	d.MustDocker(t, "exec", "-u", "postgres", production, "mkdir", "/tmp/archive")
	d.sql(t, production, "ALTER SYSTEM SET archive_mode = on", "ALTER SYSTEM SET archive_command = 'cp %p /tmp/archive/%f'",
		"ALTER SYSTEM SET primary_conninfo = '"+conninfo+"'")
	d.sql(t, production, "CREATE SUBSCRIPTION feed CONNECTION '"+conninfo+"' PUBLICATION p WITH (connect = false, slot_name = 'prod')",
		"ALTER SUBSCRIPTION feed ENABLE")
	d.MustDocker(t, "restart", production)
	d.healthy(t, production)
	testutil.Eventually(t, "production calls its publisher", func() bool { return calls.from(d.show(t, production, address)) > 0 })
	image := unique(t) + ":1"
	d.commit(t, production, image)
	d.MustDocker(t, "rm", "-fv", production)

	clone := d.clone(t, image)
	keep := d.clone(t, "-l", "io.slipway.database.outward=keep", image)
	isOff := func(t *testing.T) {
		t.Helper()
		d.sql(t, clone, "CREATE TABLE IF NOT EXISTS x (a int)", "INSERT INTO x VALUES (1)", "SELECT pg_switch_wal()")
		if got := d.sql(t, clone, "SHOW archive_mode", "SHOW archive_command", "SHOW primary_conninfo", "SELECT subenabled, subslotname FROM pg_subscription"); got != "off\n(disabled)\n\nf|" {
			t.Errorf("settings: %q", got)
		}
		time.Sleep(time.Second)
		if n := calls.from(d.show(t, clone, address)); n != 0 {
			t.Errorf("the clone has called %d times", n)
		}
	}
	isOff(t)
	d.MustDocker(t, "restart", clone)
	d.healthy(t, clone)
	isOff(t)
	d.reports(t, clone, map[string]bool{"archive_mode": true, "archive_command": true, "primary_conninfo": true, "subscription": true})

	d.reports(t, keep, map[string]bool{"archive_mode": false, "archive_command": false, "primary_conninfo": false, "subscription": false})
	testutil.Eventually(t, "the clone that keeps it calls", func() bool { return calls.from(d.show(t, keep, address)) > 0 })
	before := d.MustDocker(t, "exec", keep, "sh", "-c", archived)
	d.sql(t, keep, "CREATE TABLE x (a int)", "SELECT pg_switch_wal()")
	testutil.Eventually(t, "the clone that keeps it archives", func() bool {
		return d.MustDocker(t, "exec", keep, "sh", "-c", archived) != before
	})
	// A clone of the clone is as harmless, without a word.
	second := unique(t) + ":1"
	d.commit(t, clone, second)
	clone = d.clone(t, second)
	isOff(t)
}

// reports: inspect lists what was found, whether it was switched off, and no secret.
func (d *databases) reports(t *testing.T, container string, want map[string]bool) {
	t.Helper()
	// The subscriptions are listed when the database has answered.
	var found []struct {
		Kind, Name, Detail string
		Off                bool
	}
	var text string
	testutil.Eventually(t, "inspect lists all", func() bool {
		text = d.show(t, container, `index .Config.Labels "io.slipway.database.quiesced"`)
		return json.Unmarshal([]byte(text), &found) == nil && len(found) >= len(want)
	})
	if strings.Contains(text, "of-the-publisher") {
		t.Errorf("a password: %s", text)
	}
	for _, f := range found {
		if off, known := want[f.Kind]; !known || off != f.Off {
			t.Errorf("%+v", f)
		}
		delete(want, f.Kind)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v in %s", want, text)
	}
}

// TestDatabaseSaveAndLoad: an archive of a late layer is known where it comes from.
func TestDatabaseSaveAndLoad(t *testing.T) {
	d := databaseEngine(t)
	archive, id := filepath.Join(t.TempDir(), "gold.tar"), d.show(t, goldImage, ".Id")
	rootfs := d.show(t, goldImage, "json .RootFS.Layers")
	d.MustDocker(t, "save", "-o", archive, goldImage)
	layers, used := d.snapshots(t), d.settled(t)
	if out := d.MustDocker(t, "load", "-i", archive); !strings.Contains(out, "Loaded image: "+goldImage) {
		t.Errorf("load: %s", out)
	}
	if now := d.snapshots(t); now != layers {
		t.Errorf("load unpacked %d layers", now-layers)
	}
	// The file system gives back the blocks of a removed file a while later.
	testutil.Eventually(t, "nothing of the archive is kept", func() bool { return d.used(t)-used <= 5*mb })
	if d.show(t, goldImage, ".Id") != id || d.show(t, goldImage, "json .RootFS.Layers") != rootfs {
		t.Errorf("the image is another: %s, was %s", d.show(t, goldImage, ".Id"), id)
	}
	// Also when its name has gone meanwhile.
	spare := unique(t) + ":1"
	d.MustDocker(t, "tag", goldImage, spare)
	d.MustDocker(t, "rmi", goldImage)
	d.MustDocker(t, "load", "-i", archive)
	d.MustDocker(t, "rmi", spare)
	if d.show(t, goldImage, ".Id") != id || d.snapshots(t) != layers {
		t.Error("loaded under its old name the image is another")
	}
}

// TestDatabaseTravel: to another engine by an archive and by a registry, and back.
func TestDatabaseTravel(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	registry := testutil.NewRegistry(t, "", "")
	name := registry.Host + "/team/gold:1"
	d.MustDocker(t, "tag", goldImage, name)
	t.Cleanup(func() { d.Docker("rmi", name) })
	out := d.MustDocker(t, "push", name)
	digest := d.show(t, name, `range .RepoDigests}}{{println .}}{{end`)
	_, pushed, _ := strings.Cut(out, "digest: ")
	pushed, _, _ = strings.Cut(pushed, " ")
	if pushed == "" || !strings.Contains(digest, "/team/gold@"+pushed) {
		t.Errorf("push says %s, the image %s", out, digest)
	}
	id := d.show(t, goldImage, ".Id")
	if out := d.MustDocker(t, "pull", name); !strings.Contains(out, "Image is up to date") || d.show(t, name, ".Id") != id {
		t.Errorf("pulled back: %s", out)
	}

	other := &databases{Daemon: ownEngine(t), digest: d.digest}
	other.MustDocker(t, "pull", name)
	first := other.clone(t, name)
	other.wantGold(t, first)
	// A commit over there, back here by an archive.
	other.sql(t, first, "DELETE FROM gold WHERE id > 500")
	archive, returned := filepath.Join(t.TempDir(), "returned.tar"), unique(t)+":1"
	other.commit(t, first, returned)
	other.MustDocker(t, "save", "-o", archive, returned)
	d.MustDocker(t, "load", "-i", archive)
	t.Cleanup(func() { d.Docker("rmi", "-f", returned) })
	if got := d.sql(t, d.clone(t, returned), "SELECT count(*) FROM gold"); got != "500" {
		t.Errorf("%s rows came back", got)
	}
	var checked any
	other.API(t, http.MethodGet, "/debug/check", nil, http.StatusOK, &checked)
}
