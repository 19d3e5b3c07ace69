package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"slipway/database/sqlserver"
	"slipway/database/sqlserver/sqlservertest"

	"github.com/google/go-cmp/cmp"
)

// machine is a machine with docker whose containers are doubles of SQL Server, by their scripts.
type machine struct {
	t       *testing.T
	scripts map[string][]sqlservertest.Step
	servers map[string]*sqlservertest.Server
	calls   []string
}

func (m *machine) docker(_ context.Context, env []string, args ...string) (string, error) {
	call := strings.Join(args, " ")
	if args[0] != "port" { // asked once for each connection
		m.calls = append(m.calls, call)
	}
	switch args[0] {
	case "run":
		name := args[3]
		password, ok := strings.CutPrefix(env[0], sqlserver.EnvPassword+"=")
		if !ok || strings.Contains(call, password) {
			return "", errors.New("the password is not where it belongs")
		}
		//nolint:contextcheck // a double lives as long as its test
		m.servers[name] = sqlservertest.New(m.t, sqlservertest.Config{Passwords: map[string]string{"sa": password}, Script: m.scripts[name]})
		return "0123", nil
	case "exec":
		return `C:\slipway\` + args[1], nil
	case "port":
		return fmt.Sprintf("0.0.0.0:%d\n[::]:%d", m.servers[args[1]].Port(), m.servers[args[1]].Port()), nil
	}
	return "", nil
}

func tell(t *testing.T, m *machine, ldf string) (string, error) {
	t.Helper()
	m.t, m.servers = t, map[string]*sqlservertest.Server{}
	n := 0
	var out bytes.Buffer
	s := story{
		out: &out, docker: m.docker, image: "sqlserver:2019", mdf: "files/customers.mdf", ldf: ldf, database: "customers",
		dial: func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		password: func() string { n++; return fmt.Sprintf("secret-%d", n) },
	}
	err := s.run(t.Context())
	return out.String(), err
}

func use(db string) sqlservertest.Step {
	return sqlservertest.Step{Page: string(sqlserver.PageUse), SQL: "USE [" + db + "];", Use: db}
}

func attach(sql string, orphan ...string) []sqlservertest.Step {
	users := &sqlservertest.Table{Columns: []string{"user_name", "sid"}}
	for _, o := range orphan {
		users.Rows = append(users.Rows, []any{o, "0x01"})
	}
	return []sqlservertest.Step{
		{Page: string(sqlserver.PageCreateDatabase), SQL: sql, In: "master"},
		use("customers"),
		{
			Page: string(sqlserver.PageOrphans), In: "customers", Rows: users,
			SQL: "SELECT dp.name AS user_name, CONVERT(nvarchar(200), dp.sid, 1) AS sid FROM sys.database_principals AS dp " +
				"LEFT JOIN sys.server_principals AS sp ON dp.sid = sp.sid " +
				"WHERE sp.sid IS NULL AND dp.authentication_type_desc = 'INSTANCE' AND dp.principal_id > 4 ORDER BY dp.name;",
		},
		use("master"),
		{Page: string(sqlserver.PageShutdown), SQL: "SHUTDOWN;", Stop: true},
	}
}

// clone are the statements of a clone whose files lie in root and that holds rows in the end.
func clone(name, root string, rows ...string) []sqlservertest.Step {
	table := &sqlservertest.Table{Columns: []string{"who"}}
	for _, r := range rows {
		table.Rows = append(table.Rows, []any{r})
	}
	files := sqlservertest.Step{
		Page: string(sqlserver.PageMasterFiles),
		SQL: "SELECT DB_NAME(database_id) AS db, database_id, name, physical_name, CAST(size AS bigint) AS pages " +
			"FROM sys.master_files ORDER BY database_id, file_id;",
		Rows: &sqlservertest.Table{Columns: strings.Fields("db database_id name physical_name pages"), Rows: [][]any{
			{"master", 1, "master", root + `\MSSQL\DATA\master.mdf`, 1}, {"customers", 5, "customers", root + `\customers.mdf`, 1},
		}},
	}
	if rows == nil {
		return []sqlservertest.Step{files}
	}
	return []sqlservertest.Step{
		files, use("customers"),
		{Page: "CREATE TABLE (Transact-SQL)", SQL: "CREATE TABLE dbo.slipway_story (who nvarchar(40) NOT NULL);", In: "customers"},
		{Page: "INSERT (Transact-SQL)", SQL: "INSERT INTO dbo.slipway_story (who) VALUES (N'" + name + "');", In: "customers"},
		use("master"), use("customers"),
		{Page: "SELECT (Transact-SQL)", SQL: "SELECT who FROM dbo.slipway_story;", In: "customers", Rows: table},
		use("master"),
	}
}

const withLog = `CREATE DATABASE [customers] ON (FILENAME = N'C:\slipway\slipway-story\customers.mdf'), ` +
	`(FILENAME = N'C:\slipway\slipway-story\customers_log.ldf') FOR ATTACH;`

func TestStory(t *testing.T) {
	m := &machine{scripts: map[string][]sqlservertest.Step{
		"slipway-story":       attach(withLog, "web", "report"),
		"slipway-story-alice": clone("slipway-story-alice", `c:\Slipway\slipway-story-alice`, "slipway-story-alice"),
		"slipway-story-bob":   clone("slipway-story-bob", `C:\slipway\slipway-story-bob`, "slipway-story-bob"),
	}}
	out, err := tell(t, m, "files/customers_log.ldf")
	if err != nil {
		t.Fatal(err)
	}
	run := func(name, image string) []string {
		return []string{
			"run -d --name " + name + " -P -l io.slipway.database=sqlserver -e MSSQL_SA_PASSWORD " + image,
			"exec " + name + " cmd /c echo %CONTAINER_ROOT%",
		}
	}
	want := run("slipway-story", "sqlserver:2019")
	want = append(want, "cp files/customers.mdf slipway-story:/", "cp files/customers_log.ldf slipway-story:/", "stop slipway-story", "commit slipway-story slipway-story:gold")
	want = append(want, run("slipway-story-alice", "slipway-story:gold")...)
	want = append(want, run("slipway-story-bob", "slipway-story:gold")...)
	want = append(want, "rm -f -v slipway-story slipway-story-alice slipway-story-bob", "rmi -f slipway-story:gold")
	if diff := cmp.Diff(want, m.calls); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{
		"customers is attached in slipway-story", "users of customers without a login on this server: web, report",
		"slipway-story-alice holds what was written into it, and nothing else", "slipway-story-bob holds what was written into it, and nothing else",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("not said: %s\n%s", line, out)
		}
	}
}

func TestStoryFails(t *testing.T) {
	const noLog = `CREATE DATABASE [customers] ON (FILENAME = N'C:\slipway\slipway-story\customers.mdf') FOR ATTACH_REBUILD_LOG;`
	newer := attach(noLog)[:1]
	newer[0].Errors = []sqlservertest.Message{sqlservertest.CannotOpenNew("customers"), sqlservertest.NewerVersion("customers", 957, 904)}
	for name, test := range map[string]struct {
		scripts map[string][]sqlservertest.Step
		says    string
	}{
		"a file of a newer server": {map[string][]sqlservertest.Step{"slipway-story": newer}, "newer SQL Server"},
		"a clone with the original's files": {map[string][]sqlservertest.Step{
			"slipway-story": attach(noLog), "slipway-story-alice": clone("slipway-story-alice", `C:\slipway\slipway-story`),
		}, "outside of its root"},
		"a clone with the other's rows": {map[string][]sqlservertest.Step{
			"slipway-story":       attach(noLog),
			"slipway-story-alice": clone("slipway-story-alice", `C:\slipway\slipway-story-alice`, "slipway-story-alice", "slipway-story-bob"),
			"slipway-story-bob":   clone("slipway-story-bob", `C:\slipway\slipway-story-bob`, "x")[:5],
		}, "holds"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{scripts: test.scripts}
			_, err := tell(t, m, "")
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v", err)
			}
			if last := m.calls[len(m.calls)-1]; last != "rmi -f slipway-story:gold" {
				t.Errorf("something is left behind: the last command was %s", last)
			}
		})
	}
}
