package sqlservertest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"
)

// open connects the real client to a double.
func open(t *testing.T, s *Server, encrypt, user, password string) *sql.Conn {
	t.Helper()
	conn, err := tryOpen(t, s, encrypt, user, password)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func tryOpen(t *testing.T, s *Server, encrypt, user, password string) (*sql.Conn, error) {
	t.Helper()
	cfg, err := msdsn.Parse(fmt.Sprintf(
		"server=127.0.0.1;port=%d;user id=%s;encrypt=%s;trustservercertificate=true;app name=test", s.Port(), user, encrypt))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Password = password
	db := sql.OpenDB(mssql.NewConnectorConfig(cfg))
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func TestLoginAndStatements(t *testing.T) {
	for _, encrypt := range []string{"true", "false", "disable"} {
		t.Run("encrypt="+encrypt, func(t *testing.T) {
			text := strings.Repeat("a long text ", 1000) // more than a packet
			s := New(t, Config{LoginOnly: encrypt != "true", Passwords: map[string]string{"sa": `p{}ä;'"Ω`}, Script: []Step{
				{Page: "x", SQL: "SELECT  name,\n n, b FROM t", In: "master", Rows: &Table{
					Columns: []string{"name", "n", "b"}, Rows: [][]any{{"ä", 7, true}, {nil, nil, nil}, {"", -1, false}},
				}},
				{Page: "x", SQL: "USE other", Use: "other", Info: []Message{Notice(5701, "Changed database context")}},
				{Page: "x", SQL: "SELECT @p1, @p2", In: "other", Args: []any{text, int64(3)}, Rows: &Table{Columns: []string{"a"}, Rows: [][]any{{"1"}}}},
				{Page: "x", SQL: text},
			}})
			conn := open(t, s, encrypt, "sa", `p{}ä;'"Ω`)
			rows, err := conn.QueryContext(t.Context(), "SELECT name, n, b FROM t")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for rows.Next() {
				var name sql.NullString
				var n sql.NullInt64
				var b sql.NullBool
				if err := rows.Scan(&name, &n, &b); err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprint(name, n, b))
			}
			want := []string{"{ä true} {7 true} {true true}", "{ false} {0 false} {false false}", "{ true} {-1 true} {false true}"}
			if err := rows.Err(); err != nil || !slices.Equal(got, want) {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := conn.ExecContext(t.Context(), "USE other"); err != nil {
				t.Error(err)
			}
			var one string
			if err := conn.QueryRowContext(t.Context(), "SELECT @p1, @p2", text, 3).Scan(&one); err != nil || one != "1" {
				t.Errorf("%q, %v", one, err)
			}
			if _, err := conn.ExecContext(t.Context(), text); err != nil {
				t.Error(err)
			}
			if l := s.Logins(); len(l) != 1 || l[0].User != "sa" || l[0].Password != `p{}ä;'"Ω` || l[0].App != "test" || l[0].Integrated {
				t.Errorf("logins %+v", l)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	s := New(t, Config{Name: `HOST\NAME`, Passwords: map[string]string{"sa": "right"}, Script: []Step{
		{Page: "x", SQL: "EXEC one", Errors: []Message{CannotOpenFile(`C:\a.mdf`, 5, "Access is denied."), CannotOpenNew("a")}},
		{Page: "x", SQL: "EXEC two", Errors: []Message{NewerVersion("a", 957, 904)}},
	}})
	_, err := tryOpen(t, s, "true", "sa", "wrong")
	var m mssql.Error
	if !errors.As(err, &m) || m.Number != 18456 || m.Class != 14 || m.State != 1 || m.ServerName != `HOST\NAME` {
		t.Errorf("%v, %+v", err, m)
	}
	conn := open(t, s, "true", "sa", "right")
	_, err = conn.ExecContext(t.Context(), "EXEC one")
	if !errors.As(err, &m) || m.Number != 1813 || len(m.All) != 2 || m.All[0].Number != 5120 || m.All[0].State != 101 {
		t.Errorf("%v, %+v", err, m)
	}
	_, err = conn.ExecContext(t.Context(), "EXEC two")
	if !errors.As(err, &m) || m.Number != 948 || m.Class != 20 {
		t.Errorf("%v, %+v", err, m)
	}
	if err := conn.PingContext(t.Context()); err == nil {
		t.Error("the connection lives on after an error of severity 20")
	}
}

func TestHangAndStop(t *testing.T) {
	s := New(t, Config{Passwords: map[string]string{"sa": ""}, Script: []Step{
		{Page: "x", SQL: "WAITFOR DELAY '01:00'", Hang: true},
		{Page: "x", SQL: "SELECT 1", Rows: &Table{Columns: []string{"a"}, Rows: [][]any{{1}}}},
		{Page: "x", SQL: "SHUTDOWN;", Stop: true},
	}})
	conn := open(t, s, "true", "sa", "")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-s.Hanging()
		cancel(nil)
	}()
	if _, err := conn.ExecContext(ctx, "WAITFOR DELAY '01:00'"); !errors.Is(err, context.Canceled) {
		t.Errorf("a statement that hangs: %v", err)
	}
	var n int
	if err := conn.QueryRowContext(t.Context(), "SELECT 1").Scan(&n); err != nil || n != 1 {
		t.Errorf("after it: %d, %v", n, err)
	}
	if _, err := conn.ExecContext(t.Context(), "SHUTDOWN;"); err == nil {
		t.Error("no error from a connection that was cut")
	}
	select {
	case <-s.Stopped():
	case <-time.After(10 * time.Second):
		t.Fatal("the server was not told to stop")
	}
	if _, err := tryOpen(t, s, "true", "sa", ""); err == nil {
		t.Error("a stopped server takes connections")
	}
}

// recorder collects what a double says to its test.
type recorder struct {
	testing.TB
	said     []string
	cleanups []func()
}

func (r *recorder) Error(args ...any)            { r.said = append(r.said, fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any) { r.said = append(r.said, fmt.Sprintf(f, args...)) }
func (r *recorder) Cleanup(f func())             { r.cleanups = append(r.cleanups, f) }

func TestScriptIsChecked(t *testing.T) {
	r := &recorder{TB: t}
	s := New(r, Config{Passwords: map[string]string{"sa": ""}, Script: []Step{{Page: "x", SQL: "EXEC first", In: "other"}, {Page: "x", SQL: "EXEC never"}}})
	conn := open(t, s, "true", "sa", "")
	for _, statement := range []string{"EXEC second", "EXEC first"} { // the wrong one; the right one in the wrong database
		if _, err := conn.ExecContext(t.Context(), statement); err == nil {
			t.Errorf("%s: no error", statement)
		}
	}
	for _, f := range r.cleanups {
		f()
	}
	all := strings.Join(r.said, "\n")
	for _, want := range []string{"unexpected statement", "in database master instead of other", "did not come (x):\nEXEC never"} {
		if !strings.Contains(all, want) {
			t.Errorf("the test was not told %q:\n%s", want, all)
		}
	}
	if len(r.said) != 3 {
		t.Errorf("%q", r.said)
	}
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte{0, 0, 6, 0, 1, 0xff, 9})
	f.Add([]byte{4, 0, 0, 0, 'a', 0})
	f.Add(append([]byte{4, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 0, 0, 0, typeNVarChar, 0x40, 0x1f, 0, 0, 0, 0, 0, 2, 0, 'x', 0}, 0, 0, typeIntN, 8, 0))
	f.Add(make([]byte, login7Fixed))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = parsePrelogin(data)
		_, _ = parseLogin7(data)
		_, _ = parseBatch(data)
		_, _, _ = parseRPC(data)
		_, _, _ = readMessage(strings.NewReader(string(data)))
	})
}
