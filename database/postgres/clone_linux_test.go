package postgres

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/database"

	"github.com/google/go-cmp/cmp"
)

// find returns the entry of a kind, or fails.
func find(t *testing.T, r database.Report, kind, name string) database.Outward {
	t.Helper()
	for _, o := range r.Outward {
		if o.Kind == kind && (name == "" || o.Name == name) {
			return o
		}
	}
	t.Fatalf("no %s %q in %+v", kind, name, r.Outward)
	return database.Outward{}
}

// firstStart takes a clone through its first start as the engine does.
func (c *cluster) firstStart(t *testing.T, r database.Request, args ...string) database.Report {
	t.Helper()
	a := c.adapter()
	r.Args = append([]string{"docker-entrypoint.sh", "postgres"}, args...)
	report, err := a.BeforeFirstStart(t.Context(), c.files(t), r)
	if err != nil {
		t.Fatal(err)
	}
	c.start(t, append(args, report.Args...)...)
	after, err := a.AfterFirstReady(t.Context(), c.guest(), r)
	if err != nil {
		t.Fatalf("%v\n%s", err, c.logText(t))
	}
	report.Add(after)
	return report
}

// production is a server that reaches out in every way that this machine can show, and a publisher that it subscribes to.
func production(t *testing.T) (p, publisher *cluster, archive string) {
	t.Helper()
	publisher = newCluster(t)
	publisher.start(t)
	publisher.query(t, "postgres", "CREATE TABLE feed (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE feed")
	p = newCluster(t)
	archive = filepath.Join(p.dir, "archive")
	p.appendFile(t, "postgresql.conf", "archive_mode = on\nArchive_Command 'test -z \"$SECRET\" && cp %p "+archive+".%f' # to the \\'archive\\'\n")
	p.start(t)
	p.query(t, "postgres", `CREATE DATABASE "odd 'db' \ =x"`)
	p.query(t, "postgres", "CREATE TABLE feed (id int PRIMARY KEY)")
	conn := "host=127.0.0.1 port=" + publisher.port + " user=postgres dbname=postgres password=sub_secret"
	p.query(t, "postgres", fmt.Sprintf(`CREATE SUBSCRIPTION "odd ""sub""" CONNECTION '%s' PUBLICATION pub WITH (slot_name = prod)`, conn))
	p.query(t, `odd 'db' \ =x`, `CREATE SCHEMA cron; CREATE TABLE cron.job (jobid int, schedule text, command text, active bool);
		INSERT INTO cron.job VALUES (7, '* * * * *', 'call leak(''cron_secret'')', true), (8, '@daily', 'x', false);
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'prod.example', application_name 'fdw_secret')`)
	eventually(t, "the subscription works", func() bool { return walSenders(t, publisher) == "1" })
	return p, publisher, archive
}

func walSenders(t *testing.T, c *cluster) string {
	t.Helper()
	return c.query(t, "postgres", "SELECT count(*) FROM pg_stat_replication")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}

func TestCloneIsHarmless(t *testing.T) {
	t.Parallel()
	p, publisher, archive := production(t)
	p.stop(t, syscall.SIGKILL) // as a commit finds it: not shut down
	c := p.clone(t)
	eventually(t, "production's own connection ends", func() bool { return walSenders(t, publisher) == "0" })
	old, _ := filepath.Glob(archive + "*")
	if _, err := os.Stat(filepath.Join(c.data, pidFile)); err != nil {
		t.Fatal("the test needs a stale pid file:", err)
	}

	report := c.firstStart(t, database.Request{ID: "c1"})
	text, _ := json.Marshal(report)
	for _, secret := range []string{"sub_secret", "cron_secret", "fdw_secret", "SECRET"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the report holds a secret: %s", text)
		}
	}
	for _, want := range []struct{ kind, name string }{
		{"archive_mode", ""}, {"archive_command", ""}, {"subscription", `postgres.odd "sub"`}, {"cron job", `odd 'db' \ =x.7`},
	} {
		if !find(t, report, want.kind, want.name).Off {
			t.Errorf("%s %s was left on", want.kind, want.name)
		}
	}
	if far := find(t, report, "foreign server", `odd 'db' \ =x.far`); far.Off || far.Detail != "host=prod.example" {
		t.Errorf("foreign server: %+v", far)
	}
	check := func() {
		t.Helper()
		c.query(t, "postgres", "CREATE TABLE IF NOT EXISTS x (a int); INSERT INTO x VALUES (1); SELECT pg_switch_wal(); CHECKPOINT")
		time.Sleep(2 * time.Second)
		if n := walSenders(t, publisher); n != "0" {
			t.Errorf("the clone has %s connections to the publisher", n)
		}
		if now, _ := filepath.Glob(archive + "*"); len(now) != len(old) {
			t.Errorf("the clone archives: %v", now)
		}
		if n := c.query(t, `odd 'db' \ =x`, "SELECT count(*) FROM cron.job WHERE active"); n != "0" {
			t.Errorf("%s jobs are active", n)
		}
	}
	check()
	c.stop(t, syscall.SIGINT)
	c.restart(t)
	check()
	c.query(t, "postgres", "ALTER SYSTEM RESET max_logical_replication_workers")
	c.stop(t, syscall.SIGINT)
	c.restart(t)
	check()

	// Dropping the clone's subscription must not reach production's slot.
	c.query(t, "postgres", `DROP SUBSCRIPTION "odd ""sub"""`)
	if n := publisher.query(t, "postgres", "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'prod'"); n != "1" {
		t.Error("dropping the clone's subscription dropped production's slot")
	}

	// A clone's clone has nothing left to switch off.
	c.stop(t, syscall.SIGQUIT)
	cc := c.clone(t)
	second := cc.firstStart(t, database.Request{ID: "c2"})
	for _, o := range second.Outward {
		if o.Off {
			t.Errorf("found on in the clone's clone: %+v", o)
		}
	}
}

// restart starts a clone again, as it is.
func (c *cluster) restart(t *testing.T) {
	t.Helper()
	c.start(t)
}

func TestCloneKeepsOnRequest(t *testing.T) {
	t.Parallel()
	p, publisher, _ := production(t)
	p.stop(t, syscall.SIGINT)
	c := p.clone(t)
	eventually(t, "production's own connection ends", func() bool { return walSenders(t, publisher) == "0" })
	report := c.firstStart(t, database.Request{ID: "k", Labels: map[string]string{database.LabelOutward: database.OutwardKeep}})
	for _, o := range report.Outward {
		if o.Off {
			t.Errorf("switched off: %+v", o)
		}
	}
	find(t, report, "subscription", "")
	find(t, report, "archive_command", "")
	eventually(t, "the clone subscribes", func() bool { return walSenders(t, publisher) == "1" })
}

func TestCloneOfStandby(t *testing.T) {
	t.Parallel()
	primary := newCluster(t)
	primary.start(t)
	primary.query(t, "postgres", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
	standby := primary.installation.tempDir(t)
	s := &cluster{installation: primary.installation, dir: standby, data: filepath.Join(standby, "data")}
	out, err := primary.command(t.Context(), "pg_basebackup", "-D", s.data, "-R", "-c", "fast", "-d",
		"host=127.0.0.1 port="+primary.port+" user=postgres password='standby_secret host=x'").CombinedOutput()
	if err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	s = s.clone(t)
	s.start(t)
	eventually(t, "the standby follows", func() bool { return walSenders(t, primary) == "1" })
	primary.query(t, "postgres", "INSERT INTO t VALUES (0)")
	eventually(t, "the row arrives", func() bool { return s.query(t, "postgres", "SELECT count(*) FROM t") == "1001" })
	s.stop(t, syscall.SIGQUIT)

	c := s.clone(t)
	r := database.Request{ID: "s", Env: []string{"POSTGRES_PASSWORD=it's new"}}
	if !c.adapter().NeedsGate(c.files(t), r) {
		t.Error("NeedsGate: false with a password in the request")
	}
	report := c.firstStart(t, r)
	if n := walSenders(t, primary); n != "0" {
		t.Errorf("the clone has %s connections to the primary", n)
	}
	conninfo := find(t, report, "primary_conninfo", "")
	if text, _ := json.Marshal(report); strings.Contains(string(text), "standby_secret") || !strings.Contains(conninfo.Detail, "port="+primary.port) {
		t.Errorf("report: %s", text)
	}
	if !find(t, report, "standby", "").Off {
		t.Error("it is still a standby")
	}
	c.query(t, "postgres", "INSERT INTO t VALUES (-1)")
	if n := c.query(t, "postgres", "SELECT count(*) FROM t"); n != "1002" {
		t.Errorf("%s rows, want 1002", n)
	}
	c.stop(t, syscall.SIGINT)
	c.start(t)
	if c.query(t, "postgres", "SELECT pg_is_in_recovery()") != "f" || walSenders(t, primary) != "0" {
		t.Error("after a restart it follows the primary")
	}
}

// Settings in the argument list win over every file.
func TestCloneOverridesArguments(t *testing.T) {
	t.Parallel()
	p := newCluster(t)
	c := p.clone(t)
	mark := filepath.Join(c.dir, "archived")
	report := c.firstStart(t, database.Request{ID: "a"}, "-c", "archive_mode=on", "--archive-command=touch "+mark, "-csynchronous_standby_names=far")
	if len(report.Args) != 6 {
		t.Errorf("arguments to add: %q", report.Args)
	}
	c.query(t, "postgres", "CREATE TABLE x (a int); SELECT pg_switch_wal()") // would wait for the standby
	time.Sleep(2 * time.Second)
	if _, err := os.Stat(mark); err == nil {
		t.Error("the clone archives")
	}
}

// Nothing to switch off: the clone is as it was but for the way it recovers.
func TestCloneOfQuietDatabase(t *testing.T) {
	t.Parallel()
	p := newCluster(t)
	p.start(t)
	p.query(t, "postgres", "VACUUM FULL pg_subscription") // gives the catalog another file
	p.stop(t, syscall.SIGQUIT)
	c := p.clone(t)
	report := c.firstStart(t, database.Request{ID: "q"})
	if diff := cmp.Diff(database.Report{}, report); diff != "" {
		t.Error("report (-want +got):", diff)
	}
	if n := c.query(t, "postgres", "SHOW max_logical_replication_workers"); n == "0" {
		t.Error("logical replication is off where there was none")
	}
	if c.adapter().NeedsGate(c.files(t), database.Request{}) {
		t.Error("NeedsGate: true")
	}
	if got := c.query(t, "postgres", "SHOW recovery_init_sync_method"); got != "syncfs" {
		t.Errorf("recovery_init_sync_method = %s", got)
	}
	if r, err := c.adapter().BeforeFirstStart(t.Context(), c.files(t), database.Request{ID: "q"}); err != nil || len(r.Outward) > 0 {
		t.Errorf("repeated: %+v, %v", r, err)
	}
}

// A first start that is cut short at any point is repeated, and finds what the first one found.
func TestBeforeFirstStartRepeated(t *testing.T) {
	t.Parallel()
	p := newCluster(t)
	p.appendFile(t, "postgresql.conf", "include_if_exists 'more.conf'\ninclude_dir 'conf.d'\n")
	p.appendFile(t, "more.conf", "archive_mode = always\n")
	if err := os.Mkdir(filepath.Join(p.data, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.appendFile(t, "conf.d/1.conf", "archive_command = '/usr/bin/send --key abc'\nshared_preload_libraries = 'pg_stat_statements, $libdir/pg_net'\n")
	p.appendFile(t, "postgresql.auto.conf", "primary_conninfo = 'postgresql://u:p@prod:5/x'")
	p.appendFile(t, "standby.signal", "")
	a, f, r := p.adapter(), p.files(t), database.Request{ID: "x"}
	first, err := a.BeforeFirstStart(t.Context(), f, r)
	if err != nil {
		t.Fatal(err)
	}
	find(t, first, "extension worker", "pg_net")
	if d := find(t, first, "archive_command", "").Detail; d != "/usr/bin/send …" {
		t.Errorf("archive_command's detail: %s", d)
	}
	if d := find(t, first, "primary_conninfo", "").Detail; d != "host=prod:5" {
		t.Errorf("primary_conninfo's detail: %s", d)
	}
	conf, err := os.ReadFile(filepath.Join(p.data, autoConf))
	if err != nil {
		t.Fatal(err)
	}
	// As if it had been killed before the rename.
	if err := os.Rename(filepath.Join(p.data, "recovery.signal"), filepath.Join(p.data, "standby.signal")); err != nil {
		t.Fatal(err)
	}
	second, err := a.BeforeFirstStart(t.Context(), f, r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error("second report (-first +second):", diff)
	}
	again, _ := os.ReadFile(filepath.Join(p.data, autoConf))
	if diff := cmp.Diff(string(conf), string(again)); diff != "" {
		t.Error("the file changed:", diff)
	}
	if _, err := os.Stat(filepath.Join(p.data, "standby.signal")); err == nil {
		t.Error("still a standby")
	}
	info, err := os.Stat(filepath.Join(p.data, autoConf))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != p.uid || info.Mode().Perm() != 0o600 {
		t.Errorf("owner or mode of %s changed: %v %v", autoConf, info, err)
	}
}

func TestBeforeFirstStartWithoutData(t *testing.T) {
	c := &cluster{data: t.TempDir()}
	r, err := c.adapter().BeforeFirstStart(t.Context(), c.files(t), database.Request{ID: "n"})
	if diff := cmp.Diff(database.Report{}, r); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if entries, _ := os.ReadDir(c.data); len(entries) > 0 {
		t.Errorf("something was written: %v", entries)
	}
	c.data = filepath.Join(c.data, "not there")
	if _, err := c.adapter().BeforeFirstStart(t.Context(), c.files(t), database.Request{ID: "n"}); err != nil {
		t.Error(err)
	}
}
