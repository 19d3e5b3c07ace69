package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"slipway/database"

	"github.com/containerd/errdefs"
)

const (
	probeTime   = 5 * time.Second
	outputLimit = 1 << 20
	// maxMessage is how much of the guest's own words goes into an error.
	maxMessage = 300
)

// errConnect says that psql could not log in; the server may still be there.
var errConnect = errors.New("cannot connect")

// login is one way to reach the server.
type login struct {
	osUser, role, database string
	host, port             string // empty for libpq's defaults
}

// env makes libpq and the session independent of whatever the container's environment and the database's own
// settings say. Names go here and not into arguments, where libpq would take some of them for a connection string.
func (l login) env(timeout time.Duration) []string {
	options := []string{
		"-c search_path=pg_catalog", // nobody's functions are called by the administrator
		"-c standard_conforming_strings=on",
		"-c default_transaction_read_only=off",
		"-c client_min_messages=warning",
		"-c statement_timeout=" + strconv.FormatInt(timeout.Milliseconds(), 10),
	}
	return append(l.place(), "PGUSER="+l.role, "PGDATABASE="+l.database, "PGPASSWORD=", "PGPASSFILE=/dev/null/none",
		"PGSSLMODE=prefer", "PGTARGETSESSIONATTRS=any", "PGCLIENTENCODING=UTF8", "PGCONNECT_TIMEOUT=5",
		"PGAPPNAME=slipway", "PGOPTIONS="+strings.Join(options, " "))
}

// place are the variables that say where the server is. A PGPORT of the container's own is left alone unless a
// port was found, because the server obeys it too.
func (l login) place() []string {
	env := []string{"PGHOST=" + l.host, "PGHOSTADDR="}
	if l.port != "" {
		env = append(env, "PGPORT="+l.port)
	}
	return env
}

// psql runs a script in one session and returns what it printed. Errors wrap errConnect if there was no session;
// they never hold anything of the script.
func psql(ctx context.Context, g database.Guest, l login, script string, timeout time.Duration) ([]byte, error) {
	res, err := g.Exec(ctx, database.Command{
		Argv:        []string{"psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-f", "-"},
		Stdin:       strings.NewReader(script),
		Env:         l.env(timeout),
		User:        l.osUser,
		Timeout:     timeout + time.Second, // the server's own limit comes first: its message is better
		OutputLimit: outputLimit,
	})
	if err != nil {
		return nil, fmt.Errorf("psql: %w", err)
	}
	switch res.ExitCode {
	case 0:
		return res.Stdout, nil
	case 2:
		return nil, fmt.Errorf("psql: %w: %s", errConnect, clip(res.Stderr))
	case 126, 127:
		return nil, fmt.Errorf("psql cannot be run in the container: %s", clip(res.Stderr))
	default:
		return nil, fmt.Errorf("psql: %s", clip(res.Stderr))
	}
}

// connect finds a login that works, beginning with the one that almost always does, and runs the script with it.
// A script that fails is not run a second time.
func (a *Adapter) connect(ctx context.Context, g database.Guest, script string, timeout time.Duration) (login, []byte, error) {
	first := login{role: a.roles[0], database: a.databases[0]}
	out, firstErr := psql(ctx, g, first, script, timeout)
	if firstErr == nil || !errors.Is(firstErr, errConnect) {
		return first, out, firstErr
	}
	host, port, accepting := a.find(ctx, g)
	if !accepting {
		return first, nil, unavailable(firstErr)
	}
	for _, osUser := range []string{"", "postgres"} {
		for _, db := range a.databases {
			for _, role := range a.roles {
				l := login{osUser: osUser, role: role, database: db, host: host, port: port}
				if l == first {
					continue
				}
				out, err := psql(ctx, g, l, script, timeout)
				if err == nil || !errors.Is(err, errConnect) {
					return l, out, err
				}
				if ctx.Err() != nil {
					return l, nil, unavailable(context.Cause(ctx))
				}
			}
		}
	}
	return first, nil, unavailable(firstErr)
}

// find asks whether a server takes connections, and where: at the default place or the one that the server has
// written into its data directory.
func (a *Adapter) find(ctx context.Context, g database.Guest) (host, port string, accepting bool) {
	if isReady(ctx, g, login{}) {
		return "", "", true
	}
	show := []string{"cat", "--", a.dataDir + "/" + pidFile}
	if a.windows {
		// cd, unlike type, takes a path with spaces as it is, and there is no way to give quotes to cmd.exe.
		show = []string{"cmd.exe", "/D", "/C", "cd", "/D", "%PGDATA%", "&&", "type", pidFile}
	}
	res, err := g.Exec(ctx, database.Command{Argv: show, Timeout: probeTime, OutputLimit: 4096})
	if err != nil || res.ExitCode != 0 {
		return "", "", false
	}
	pf := parsePidFile(res.Stdout)
	if pf.port == "" || pf.host() == "" {
		return "", "", false
	}
	return pf.host(), pf.port, isReady(ctx, g, login{host: pf.host(), port: pf.port})
}

// isReady is true if the server takes connections, whether or not it would let us in. The exit code says so in
// every language, which psql's message does not.
func isReady(ctx context.Context, g database.Guest, l login) bool {
	res, err := g.Exec(ctx, database.Command{
		Argv:    []string{"pg_isready", "-q", "-t", "3"},
		Env:     append(l.place(), "PGDATABASE=postgres", "PGUSER=postgres"),
		Timeout: probeTime, OutputLimit: 4096,
	})
	return err == nil && res.ExitCode == 0
}

// queryJSON runs a script that prints one JSON value.
func (a *Adapter) queryJSON(ctx context.Context, g database.Guest, script string, timeout time.Duration, v any) (login, error) {
	l, out, err := a.connect(ctx, g, script, timeout)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return l, fmt.Errorf("psql: unexpected output %s", clip(out))
	}
	return l, nil
}

func unavailable(err error) error {
	if errdefs.IsUnavailable(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
}

// clip makes text from the guest fit for a one-line message: it is short and has no control characters.
func clip(b []byte) string {
	s := clean(strings.TrimSpace(string(b[:min(len(b), 4*maxMessage)])), maxMessage)
	if s == "" {
		return "(no message)"
	}
	return s
}

// clean drops control characters and invalid bytes, and cuts after limit characters.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}

// ident quotes a name for SQL.
func ident(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// literal quotes a string for SQL, whatever standard_conforming_strings says.
func literal(s string) string {
	s = strings.ReplaceAll(s, `'`, `''`)
	if strings.Contains(s, `\`) {
		return ` E'` + strings.ReplaceAll(s, `\`, `\\`) + `'`
	}
	return `'` + s + `'`
}
