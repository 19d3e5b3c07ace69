package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/database"

	"github.com/containerd/errdefs"
)

func TestReady(t *testing.T) {
	c := newCluster(t)
	a := c.adapter()
	if err := a.Ready(t.Context(), c.guest()); !errdefs.IsUnavailable(err) {
		t.Fatalf("before the start: %v, want unavailable", err)
	}
	c.start(t)
	if err := a.Checkpoint(t.Context(), c.guest()); err != nil {
		t.Errorf("Checkpoint: %v", err)
	}
	d, err := a.Describe(t.Context(), c.guest())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.Version, "1") || d.Recovery || d.Bytes < 1<<20 || len(d.Paths) != 1 || d.Paths[0] != c.data {
		t.Errorf("Describe: %+v", d)
	}
	for _, cmd := range c.guest().commands {
		if cmd.Timeout <= 0 || cmd.OutputLimit <= 0 {
			t.Errorf("%v has no limits", cmd.Argv)
		}
	}
	c.stop(t, syscall.SIGINT)
	if err := a.Ready(t.Context(), c.guest()); !errdefs.IsUnavailable(err) {
		t.Errorf("after the stop: %v, want unavailable", err)
	}
}

func TestStarting(t *testing.T) {
	c := newCluster(t)
	a := c.adapter()
	if !a.Starting(c.files(t)) {
		t.Error("false before the start")
	}
	c.start(t)
	if a.Starting(c.files(t)) {
		t.Error("true while it answers")
	}
	c.stop(t, syscall.SIGINT)
	if !a.Starting(c.files(t)) {
		t.Error("false after the stop")
	}
	file := filepath.Join(c.data, pidFile)
	for content, want := range map[string]bool{
		"1\n/d\n1\n5432\n/s\n*\n 1 1\nstarting\n": true,
		"1\n/d\n1\n5432\n/s\n*\n 1 1\nready   \n": false,
		"1\n/d\n1\n5432\n/s\n*\n 1 1\nstandby \n": false,
		"1\n/d\n1\n5432\n/s\n*\n":                 true, // still being written
		"":                                        true,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := a.Starting(c.files(t)); got != want {
			t.Errorf("%q: %v, want %v", content, got, want)
		}
	}
}

// The entrypoint's server answers queries, but goes away again.
func TestReadyNotWhileInitialising(t *testing.T) {
	c := newCluster(t)
	c.launch(t, "-c", "listen_addresses=")
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := c.adapter().Ready(t.Context(), c.guest())
		if errors.Is(err, errInitialising) {
			return
		}
		if err == nil || time.Now().After(deadline) {
			t.Fatalf("%v, want %v", err, errInitialising)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestReadyFindsTheWayIn(t *testing.T) {
	c := newCluster(t)
	c.start(t)
	c.query(t, "postgres", `CREATE ROLE "--odd 'role'" SUPERUSER LOGIN; ALTER ROLE "--odd 'role'" SET search_path = nowhere`)
	conn, err := c.connect(t, "--odd 'role'", "", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "ALTER ROLE postgres RENAME TO nobody_knows"); err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	odd := c.adapter("POSTGRES_USER=--odd 'role'", "POSTGRES_DB=postgresql://elsewhere/x")
	if err := odd.Ready(t.Context(), c.guest()); err != nil {
		t.Errorf("odd role: %v", err)
	}
	later := c.adapter("POSTGRES_USER=--odd 'role'", "POSTGRES_USER=not_there")
	if err := later.Ready(t.Context(), c.guest()); err != nil {
		t.Errorf("an earlier value of POSTGRES_USER: %v", err)
	}
	// The server is not where libpq looks by default.
	moved := &hostGuest{installation: c.installation}
	if err := odd.Ready(t.Context(), moved); err != nil {
		t.Errorf("another socket directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(c.data, "pg_hba.conf"), []byte("local all all peer map=m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.data, "pg_ident.conf"), []byte("m postgres \"--odd 'role'\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	g := c.guest()
	if err := odd.Ready(t.Context(), g); err != nil {
		t.Errorf("peer authentication: %v", err)
	}
	if last := g.commands[len(g.commands)-1]; last.User != "postgres" {
		t.Errorf("peer authentication went through as user %q", last.User)
	}
}

// A container's psql is whatever its image says it is.
func TestHostilePsql(t *testing.T) {
	t.Parallel()
	i := findPostgres(t)
	for name, test := range map[string]struct {
		script string
		want   error
	}{
		"floods":     {"cat /dev/zero", database.ErrOutput},
		"floods err": {"cat /dev/zero >&2", database.ErrOutput},
		"hangs":      {"exec sleep 100", database.ErrTimeout},
		"children":   {"sleep 100 & exit 0", nil},
		"lies":       {`printf '{"kind":"database","name":"\\u0000\\ud800"}\n[1,2'`, nil},
		"fails":      {`printf '\033]0;title\007\377evil\n%0.s' $(seq 1 1000) >&2; exit 2`, errdefs.ErrUnavailable},
		"not psql":   {"exit 127", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "psql"), []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			g := &hostGuest{installation: i, path: dir, socket: dir, port: "1"}
			a := Engine{}.Adapter(nil).(*Adapter)
			begin := time.Now()
			err := a.Ready(t.Context(), g)
			if err == nil || !errdefs.IsUnavailable(err) || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("Ready: %v, want unavailable and %v", err, test.want)
			}
			if strings.ContainsAny(err.Error(), "\n\033\a") || len(err.Error()) > 1000 {
				t.Errorf("Ready: the guest's words are not quoted: %q", err)
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("over"))
			defer cancel()
			if _, err := a.AfterFirstReady(ctx, g, database.Request{Env: []string{"POSTGRES_PASSWORD=x"}}); err == nil {
				t.Error("AfterFirstReady: no error")
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
