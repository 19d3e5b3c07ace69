package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"slipway/database"

	"github.com/containerd/errdefs"
)

const (
	sweepTime    = time.Minute
	recoveryTime = time.Minute
	recoveryPoll = 200 * time.Millisecond
	// maxFound is how many things of one clone are listed. All of them are switched off, listed or not.
	maxFound = 1000
)

// overviewScript prints what can be seen from any database, one JSON object a line.
const overviewScript = `SELECT json_build_object('kind', 'recovery') WHERE pg_is_in_recovery();
SELECT json_build_object('kind', 'database', 'name', datname) FROM pg_database
  WHERE datallowconn AND datconnlimit <> -2 ORDER BY oid;
SELECT json_build_object('kind', 'subscription', 'name', subname, 'database', datname, 'detail',
    CASE WHEN subenabled THEN 'was enabled' ELSE 'was disabled' END)
  FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid ORDER BY datname, subname;
SELECT json_build_object('kind', 'replication slot', 'name', slot_name, 'detail', slot_type || ', keeps log until it is used or dropped')
  FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name;
SELECT current_setting('server_version_num')::int >= 150000 AS collversion \gset
\if :collversion
SELECT json_build_object('kind', 'collation', 'name', datname, 'detail',
    datcollversion || ' in the data, ' || pg_database_collation_actual_version(oid) || ' in this image')
  FROM pg_database WHERE datcollversion <> pg_database_collation_actual_version(oid) ORDER BY datname;
\endif
`

// foreignServers are only used by queries, so they are reported and left. Their options hold no passwords (those are
// in user mappings), and only the harmless ones are shown.
const foreignServers = `SELECT json_build_object('kind', 'foreign server', 'name', srvname, 'database', current_database(), 'detail',
    (SELECT string_agg(o, ' ') FROM unnest(srvoptions) AS o WHERE o ~ '^(host|hostaddr|port|dbname)='))
  FROM pg_foreign_server ORDER BY srvname;
`

// schedulers are the extensions that run jobs by a table in the database, and how to find and stop the jobs. A job's
// command is not shown.
var schedulers = []struct{ table, list, off string }{
	{
		table: "cron.job",
		list: `SELECT json_build_object('kind', 'cron job', 'database', current_database(),
    'name', coalesce(to_jsonb(j)->>'jobname', j.jobid::text), 'detail', j.schedule) FROM cron.job AS j WHERE active ORDER BY jobid;`,
		off: `UPDATE cron.job SET active = false WHERE active;`,
	},
	{
		table: "pgagent.pga_job",
		list: `SELECT json_build_object('kind', 'pgagent job', 'database', current_database(), 'name', jobname)
  FROM pgagent.pga_job WHERE jobenabled ORDER BY jobid;`,
		off: `UPDATE pgagent.pga_job SET jobenabled = false WHERE jobenabled;`,
	},
}

// item is one line that the scripts print.
type item struct{ Kind, Name, Database, Detail string }

func (i item) title() string {
	if i.Database == "" {
		return clean(i.Name, maxDetail)
	}
	return clean(i.Database+"."+i.Name, maxDetail)
}

// AfterFirstReady disables subscriptions and takes away the names of their slots (so that dropping one in the clone
// does not drop production's slot), makes scheduled jobs inactive, and sets the password of the request.
// A repeated call reports the jobs that the first one had not yet reached.
func (a *Adapter) AfterFirstReady(ctx context.Context, g database.Guest, r database.Request) (database.Report, error) {
	var report database.Report
	keep := r.KeepsOutward()
	l, items, err := a.overview(ctx, g, !keep)
	if err != nil {
		return report, err
	}
	var databases []string
	subscriptions := map[string][]string{} // by database
	recovering := false
	for _, i := range items {
		switch i.Kind {
		case "recovery":
			recovering = true
		case "database":
			databases = append(databases, i.Name)
		case "subscription":
			subscriptions[i.Database] = append(subscriptions[i.Database], i.Name)
			list(&report, i, !keep)
		case "collation":
			report.Notes = append(report.Notes, fmt.Sprintf("database %s: collation version %s; rebuild the indexes "+
				"on text, then ALTER DATABASE … REFRESH COLLATION VERSION", clean(i.Name, maxDetail), clean(i.Detail, maxDetail)))
		default:
			list(&report, i, false)
		}
	}
	found, err := sweep(ctx, g, l, databases, subscriptions, keep || recovering)
	if err != nil {
		return report, fmt.Errorf("switch off what reaches out of the clone: %w", err)
	}
	for _, i := range found {
		list(&report, i, !keep && i.Kind != "foreign server")
	}
	return report, a.requestedPassword(ctx, g, l, r.Env)
}

// list adds one thing to the report.
func list(r *database.Report, i item, off bool) {
	if len(r.Outward) >= maxFound {
		return
	}
	r.Outward = append(r.Outward, database.Outward{
		Kind: clean(i.Kind, maxDetail), Name: i.title(), Detail: clean(i.Detail, maxDetail), Off: off,
	})
}

// overview lists what can be seen from one database. If it is asked to, it waits until the server takes writes: one
// that was a standby is promoted after it has begun to answer.
func (a *Adapter) overview(ctx context.Context, g database.Guest, wait bool) (login, []item, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, recoveryTime, database.ErrTimeout)
	defer cancel()
	for {
		l, out, err := a.connect(ctx, g, overviewScript, probeTime)
		if err != nil {
			return l, nil, err
		}
		items, err := parseItems(out)
		if err != nil || !wait || len(items) == 0 || items[0].Kind != "recovery" {
			return l, items, err
		}
		select {
		case <-ctx.Done():
			return l, nil, unavailable(errors.New("the clone is still replaying the log of its origin"))
		case <-time.After(recoveryPoll):
		}
	}
}

// sweep goes through all databases in one session. With look it changes nothing.
func sweep(ctx context.Context, g database.Guest, l login, databases []string, subscriptions map[string][]string, look bool) ([]item, error) {
	var script strings.Builder
	for _, db := range databases {
		fmt.Fprintf(&script, "\\connect -reuse-previous=on %s\nBEGIN;\n", metaLiteral("dbname="+connLiteral(db)))
		for _, s := range subscriptions[db] {
			if !look {
				fmt.Fprintf(&script, "ALTER SUBSCRIPTION %s DISABLE;\nALTER SUBSCRIPTION %[1]s SET (slot_name = NONE);\n", ident(s))
			}
		}
		for _, s := range schedulers {
			fmt.Fprintf(&script, "SELECT to_regclass(%s) IS NOT NULL AS there \\gset\n\\if :there\n%s\n", literal(s.table), s.list)
			if !look {
				script.WriteString(s.off + "\n")
			}
			script.WriteString("\\endif\n")
		}
		script.WriteString(foreignServers + "COMMIT;\n")
	}
	out, err := psql(ctx, g, l, script.String(), sweepTime)
	if err != nil {
		return nil, err
	}
	return parseItems(out)
}

// parseItems reads what a script printed.
func parseItems(out []byte) ([]item, error) {
	var items []item
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var i item
		err := dec.Decode(&i)
		if errors.Is(err, io.EOF) {
			return items, nil
		}
		if err != nil {
			return nil, fmt.Errorf("psql: unexpected output: %s", clip(out))
		}
		items = append(items, i)
	}
}

// connLiteral quotes a value for a libpq connection string.
func connLiteral(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// metaLiteral quotes an argument of a psql meta-command, which ends with its line.
func metaLiteral(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`, "\r", `\r`).Replace(s) + "'"
}

// secret is where a password comes from: the request itself or a file in the container.
type secret struct{ value, file string }

// passwordSource looks for the official image's variables in a request.
func passwordSource(env []string) (secret, bool) {
	if v, _ := database.Getenv(env, "POSTGRES_PASSWORD"); v != "" {
		return secret{value: v}, true
	}
	if v, _ := database.Getenv(env, "POSTGRES_PASSWORD_FILE"); v != "" {
		return secret{file: v}, true
	}
	return secret{}, false
}

// requestedPassword sets the password that stands in the request, if one does.
func (a *Adapter) requestedPassword(ctx context.Context, g database.Guest, l login, env []string) error {
	s, ok := passwordSource(env)
	if !ok {
		return nil
	}
	if s.file != "" {
		if !path.IsAbs(s.file) {
			return errdefs.ErrInvalidArgument.WithMessage("POSTGRES_PASSWORD_FILE must be an absolute path")
		}
		res, err := g.Exec(ctx, database.Command{
			Argv: []string{"cat", "--", s.file}, Timeout: probeTime, OutputLimit: maxPassword,
		})
		if err != nil {
			return fmt.Errorf("read POSTGRES_PASSWORD_FILE: %w", err)
		}
		if res.ExitCode != 0 {
			return errdefs.ErrInvalidArgument.WithMessage("read POSTGRES_PASSWORD_FILE: " + clip(res.Stderr))
		}
		s.value = strings.TrimRight(string(res.Stdout), "\n")
	}
	if err := validPassword(s.value); err != nil {
		return err
	}
	role, _ := database.Getenv(env, "POSTGRES_USER")
	return setPassword(ctx, g, l, role, s.value)
}
