//go:build linux

package windows

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"slipway/internal/testutil"
)

// psql is Debian's, on Linux: it reaches the container by the published port.
const psql = "/usr/lib/postgresql/15/bin/psql"

// TestPostgres is tier D: PostgreSQL for Windows in containers: made, committed when
// stopped, three clones at once with data of their own, one of them committed and
// cloned again, all removed.
func TestPostgres(t *testing.T) {
	needWine(t)
	programs := testutil.PostgresForWindows(t)
	e := startEngine(t)
	bin := `Z:` + strings.ReplaceAll(programs, "/", `\`) + `\bin\`
	// Each container listens on an address of its own.
	server := fmt.Sprintf(`CMD [%q,"-D","%%CONTAINER_ROOT%%\\pgdata","-h","%%SLIPWAY_ADDRESS%%"]`, bin+"postgres.exe")
	e.importFolder("pg:15", map[string]string{"pgdata/.keep": ""}, "--expose", "5432", "--env", "PATH="+bin+`;C:\windows\system32`)
	e.mustDocker("run", "--name", "init", "pg:15", cmdExe, "/c", "del pgdata\\.keep && "+bin+`initdb.exe -D %CONTAINER_ROOT%\pgdata -U postgres -A trust -E UTF8 --locale=C -N`)
	e.mustDocker("commit", "--change", server, "init", "pg:empty")

	e.mustDocker("run", "-d", "-P", "--name", "base", "pg:empty")
	e.sql("base", "create table t as select generate_series(1, 1000) i")
	e.mustDocker("stop", "-t", "2", "base") // CTRL_BREAK does not arrive under Wine
	e.mustDocker("commit", "base", "pg:base")

	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if r := e.docker("run", "-d", "-P", "--name", fmt.Sprint("clone", i), "pg:base"); r.Code != 0 {
				t.Errorf("clone %d: %s", i, r.Stderr)
			}
		})
	}
	wg.Wait()
	for i := range 3 {
		e.sql(fmt.Sprint("clone", i), fmt.Sprintf("insert into t select %d", -i))
	}
	for i := range 3 {
		want := fmt.Sprintf("1001|%d", -i)
		if got := e.sql(fmt.Sprint("clone", i), "select count(*), min(i) from t"); got != want {
			t.Errorf("clone %d has %s, want %s", i, got, want)
		}
	}
	e.mustDocker("stop", "-t", "2", "clone2")
	e.mustDocker("commit", "clone2", "pg:second")
	e.mustDocker("run", "-d", "-P", "--name", "again", "pg:second")
	if got := e.sql("again", "select count(*), min(i) from t"); got != "1001|-2" {
		t.Errorf("the clone of the commit has %s", got)
	}
	e.mustDocker("rm", "-f", "init", "base", "clone0", "clone1", "clone2", "again")
	e.noProcess("postgres.exe")
	e.noProcess("containerd-shim-slipway-job-v1.exe")
}

// sql runs one statement in a container's database, from Linux, once it answers.
func (e *engine) sql(container, statement string) string {
	e.t.Helper()
	_, port, found := strings.Cut(strings.SplitN(e.mustTCP("port", container, "5432/tcp"), "\n", 2)[0], ":")
	if !found {
		e.t.Fatalf("container %s has no published port", container)
	}
	run := func(statement string) result {
		cmd := exec.Command(psql, "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-Atqc", statement)
		cmd.Env = append(cmd.Environ(), "PGCONNECT_TIMEOUT=5")
		return finish(e.t, cmd)
	}
	testutil.Eventually(e.t, "the database of "+container+" answers", func() bool { return run("select 1").Code == 0 })
	return e.must("psql", run(statement), []string{statement})
}
