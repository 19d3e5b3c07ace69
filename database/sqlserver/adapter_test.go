package sqlserver

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"slipway/database"
	"slipway/database/sqlserver/sqlservertest"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

const password = `S3cret ]'";{}Ω`

// guest is a container whose SQL Server is a double.
type guest struct{ *sqlservertest.Server }

var _ database.Dialer = guest{}

func (guest) Exec(context.Context, database.Command) (database.Result, error) {
	return database.Result{}, errors.New("nothing is run in this container")
}

func (g guest) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	if port != 1433 {
		return nil, errdefs.ErrUnavailable.WithMessage("nothing listens on port " + strconv.Itoa(int(port)))
	}
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(g.Port()))))
}

// step is a statement that the double expects, as the documentation has it.
func step(page Page, text string) sqlservertest.Step {
	return sqlservertest.Step{Page: string(page), SQL: text}
}

func rows(s sqlservertest.Step, columns string, values ...[]any) sqlservertest.Step {
	s.Rows = &sqlservertest.Table{Columns: strings.Fields(columns), Rows: values}
	return s
}

func args(s sqlservertest.Step, values ...any) sqlservertest.Step {
	s.Args = values
	return s
}

func in(s sqlservertest.Step, db string) sqlservertest.Step {
	s.In = db
	return s
}

func fails(s sqlservertest.Step, messages ...sqlservertest.Message) sqlservertest.Step {
	s.Errors = messages
	return s
}

func into(db, quoted string) sqlservertest.Step {
	s := step(PageUse, "USE "+quoted+";")
	s.Use = db
	return s
}

// double starts a server that has the login sa.
func double(t *testing.T, script ...sqlservertest.Step) guest {
	t.Helper()
	return guest{sqlservertest.New(t, sqlservertest.Config{Name: `HOST\SW_A`, Passwords: map[string]string{"sa": password}, Script: script})}
}

func adapter(passwords ...string) *Adapter {
	env := []string{EnvInstance + "=SW_A"}
	for _, p := range passwords {
		env = append(env, EnvPassword+"="+p)
	}
	return Engine{}.Adapter(env).(*Adapter)
}

func session(t *testing.T, g guest) *Server {
	t.Helper()
	s, err := adapter(password).connect(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

const (
	sqlRecovering = "SELECT COUNT(*) AS recovering FROM sys.databases WHERE state = 2;"
	sqlVersion    = "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version, " +
		"CAST(SERVERPROPERTY('Edition') AS nvarchar(128)) AS edition, CAST(SERVERPROPERTY('InstanceName') AS nvarchar(128)) AS instance;"
	sqlFiles = "SELECT DB_NAME(database_id) AS db, database_id, name, physical_name, CAST(size AS bigint) AS pages " +
		"FROM sys.master_files ORDER BY database_id, file_id;"
	sqlOrphans = "SELECT dp.name AS user_name, CONVERT(nvarchar(200), dp.sid, 1) AS sid FROM sys.database_principals AS dp " +
		"LEFT JOIN sys.server_principals AS sp ON dp.sid = sp.sid " +
		"WHERE sp.sid IS NULL AND dp.authentication_type_desc = 'INSTANCE' AND dp.principal_id > 4 ORDER BY dp.name;"
	sqlJobs      = "SELECT name FROM msdb.dbo.sysjobs WHERE enabled = 1 ORDER BY name;"
	sqlMail      = "EXEC msdb.dbo.sysmail_help_profile_sp;"
	sqlLinks     = "SELECT name, provider, data_source FROM sys.servers WHERE is_linked = 1 AND (is_data_access_enabled = 1 OR is_rpc_out_enabled = 1) ORDER BY name;"
	sqlEndpoints = "SELECT name, type_desc FROM sys.endpoints WHERE type IN (3, 4) AND state = 0 ORDER BY name;"
	sqlStart     = "SELECT name FROM master.sys.procedures WHERE is_auto_executed = 1 ORDER BY name;"
	sqlOption    = "EXEC sp_serveroption @server = @p1, @optname = @p2, @optvalue = N'false';"
	sqlJobOff    = "EXEC msdb.dbo.sp_update_job @job_name = @p1, @enabled = 0;"
)

func TestReady(t *testing.T) {
	g := double(t,
		rows(step(PageDatabases, sqlRecovering), "recovering", []any{2}),
		rows(step(PageDatabases, sqlRecovering), "recovering", []any{0}),
	)
	a := adapter(password)
	if err := a.Ready(t.Context(), g); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "2 databases are being recovered") {
		t.Errorf("while databases are recovered: %v", err)
	}
	if err := a.Ready(t.Context(), g); err != nil {
		t.Error(err)
	}
	for _, l := range g.Logins() {
		if l.App != "slipway" || l.User != "sa" || l.Password != password || l.Integrated {
			t.Errorf("login %+v", l)
		}
	}
	g.Stop()
	if err := a.Ready(t.Context(), g); !errdefs.IsUnavailable(err) {
		t.Errorf("of a server that is gone: %v", err)
	}
}

func TestReadyRefused(t *testing.T) {
	for name, test := range map[string]struct {
		refuse []sqlservertest.Message
		a      *Adapter
		says   string
	}{
		"wrong password":   {nil, adapter("wrong"), "error 18456, severity 14, state 1: Login failed for user 'sa'."},
		"single user":      {[]sqlservertest.Message{sqlservertest.SingleUser("sa")}, adapter(password), "single-user mode"},
		"upgrade":          {[]sqlservertest.Message{sqlservertest.UpgradeMode("sa")}, adapter(password), "upgrades its system databases"},
		"no password":      {nil, adapter(), "MSSQL_SA_PASSWORD"},
		"another's port":   {nil, Engine{}.Adapter([]string{EnvPort + "=1500", EnvPassword + "=x"}).(*Adapter), "port 1500"},
		"an unknown error": {[]sqlservertest.Message{{Number: 17830, Severity: 20, State: 1, Text: "a\x1b[31m\nnetwork error"}}, adapter(password), "error 17830, severity 20, state 1: login error: a[31m network error"},
	} {
		t.Run(name, func(t *testing.T) {
			g := guest{sqlservertest.New(t, sqlservertest.Config{Passwords: map[string]string{"sa": password}, Refuse: test.refuse})}
			err := test.a.Ready(t.Context(), g)
			if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), test.says) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestPasswords logs in with an older password where the newest is not the data's yet.
func TestPasswords(t *testing.T) {
	g := double(t, rows(step(PageDatabases, sqlRecovering), "recovering", []any{0}))
	if err := adapter(password, "newest").Ready(t.Context(), g); err != nil {
		t.Error(err)
	}
	if l := g.Logins(); len(l) != 2 || l[0].Password != "newest" {
		t.Errorf("%+v", l)
	}
}

func TestHungServer(t *testing.T) {
	hang := step(PageDatabases, sqlRecovering)
	hang.Hang = true
	g := double(t, hang)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-g.Hanging()
		cancel(database.ErrTimeout)
	}()
	if err := adapter(password).Ready(ctx, g); !errdefs.IsUnavailable(err) || !errors.Is(err, database.ErrTimeout) {
		t.Errorf("%v", err)
	}
}

func TestWindowsAuthenticationIsNotUsed(t *testing.T) {
	for _, user := range []string{"", `DOMAIN\admin`, "admin@domain"} {
		_, err := Connect(t.Context(), Login{User: user, Dial: func(context.Context) (net.Conn, error) {
			t.Errorf("%q: dialled", user)
			return nil, errors.New("no")
		}})
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", user, err)
		}
	}
}

func TestRecognise(t *testing.T) {
	if !(Engine{}).Recognise([]string{"MSSQL_INSTANCE=X"}) || (Engine{}).Recognise([]string{"MSSQL_PID=Express", "MSSQL_SA_PASSWORD=x"}) {
		t.Error("an image is recognised by MSSQL_INSTANCE alone")
	}
}

func TestCheckpointDescribeStop(t *testing.T) {
	stop := step(PageShutdown, "SHUTDOWN;")
	stop.Stop = true
	g := double(t,
		rows(step(PageDatabases, "SELECT name FROM sys.databases WHERE database_id > 4 AND state = 0 ORDER BY database_id;"), "name", []any{"sales"}, []any{"in]use"}, []any{"it's"}),
		into("sales", "[sales]"), in(step(PageCheckpoint, "CHECKPOINT;"), "sales"),
		fails(step(PageUse, "USE [in]]use];"), sqlservertest.Message{Number: 924, Severity: 14, State: 1, Text: "Database 'in]use' is already open and can only have one user at a time."}),
		into("it's", "[it's]"), in(step(PageCheckpoint, "CHECKPOINT;"), "it's"),
		rows(step(PageServerProperty, sqlVersion), "version edition instance", []any{"15.0.2000.5", "Express Edition (64-bit)", "SW_A"}),
		rows(step(PageMasterFiles, sqlFiles), "db database_id name physical_name pages",
			[]any{"master", 1, "master", `C:\c\MSSQL\DATA\master.mdf`, 512}, []any{"sales", 5, "sales", `C:\c\sales.mdf`, 1024}, []any{"sales", 5, "log", `C:\c\sales.ldf`, 128}),
		stop,
	)
	a := adapter(password)
	if err := a.Checkpoint(t.Context(), g); err == nil || !strings.Contains(err.Error(), "924") {
		t.Errorf("checkpoint: %v", err)
	}
	d, err := a.Describe(t.Context(), g)
	want := database.Description{Version: "15.0.2000.5", Paths: []string{`C:\c\MSSQL\DATA`, `C:\c`}, Bytes: 8192 * 1664}
	if diff := cmp.Diff(want, d); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if err := a.Stop(t.Context(), g); err != nil {
		t.Error(err)
	}
	<-g.Stopped()
}

func TestFirstReady(t *testing.T) {
	g := double(t,
		rows(step(PageJobs, sqlJobs), "name", []any{"nightly export"}, []any{"it's"}),
		args(step(PageUpdateJob, sqlJobOff), "nightly export"), args(step(PageUpdateJob, sqlJobOff), "it's"),
		rows(step(PageMailProfiles, sqlMail), "profile_id name description", []any{56, "ops", nil}, []any{57, "sales", "x"}),
		step(PageStopMail, "EXEC msdb.dbo.sysmail_stop_sp;"),
		rows(step(PageServers, sqlLinks), "name provider data_source", []any{"PROD", "SQLNCLI", "prod.example"}, []any{"X", nil, nil}),
		args(step(PageServerOption, sqlOption), "PROD", "data access"), args(step(PageServerOption, sqlOption), "PROD", "rpc out"),
		args(step(PageServerOption, sqlOption), "X", "data access"), args(step(PageServerOption, sqlOption), "X", "rpc out"),
		rows(step(PageEndpoints, sqlEndpoints), "name type_desc", []any{"Mirror]ing", "DATABASE_MIRRORING"}),
		step(PageAlterEndpoint, "ALTER ENDPOINT [Mirror]]ing] STATE = STOPPED;"),
		rows(step(PageStartProcedures, sqlStart), "name", []any{"sp_at_start"}),
		step(PageAlterLogin, "ALTER LOGIN [sa] WITH PASSWORD = N'clone''s';"),
	)
	report, err := adapter(password, "clone's").AfterFirstReady(t.Context(), g, database.Request{Env: []string{EnvPassword + "=clone's"}})
	want := database.Report{Outward: []database.Outward{
		{Kind: "agent job", Name: "nightly export", Off: true},
		{Kind: "agent job", Name: "it's", Off: true},
		{Kind: "database mail", Detail: "profiles: ops, sales", Off: true},
		{Kind: "linked server", Name: "PROD", Detail: "SQLNCLI prod.example", Off: true},
		{Kind: "linked server", Name: "X", Off: true},
		{Kind: "endpoint", Name: "Mirror]ing", Detail: "DATABASE_MIRRORING", Off: true},
		{Kind: "start procedure", Name: "sp_at_start", Detail: "runs at every start of the server"},
	}}
	if diff := cmp.Diff(want, report); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestFirstReadyWithoutComponents meets a server in which neither the agent nor mail was ever turned on.
func TestFirstReadyWithoutComponents(t *testing.T) {
	g := double(t,
		rows(step(PageJobs, sqlJobs), "name", []any{"syspolicy_purge_history"}),
		fails(args(step(PageUpdateJob, sqlJobOff), "syspolicy_purge_history"), sqlservertest.Blocked("dbo.xp_sqlagent_notify", "Agent XPs")),
		fails(step(PageMailProfiles, sqlMail), sqlservertest.Blocked("dbo.sysmail_help_profile_sp", "Database Mail XPs")),
		rows(step(PageServers, sqlLinks), "name provider data_source"),
		rows(step(PageEndpoints, sqlEndpoints), "name type_desc"), rows(step(PageStartProcedures, sqlStart), "name"),
	)
	report, err := adapter(password).AfterFirstReady(t.Context(), g, database.Request{})
	want := database.Report{Outward: []database.Outward{{Kind: "agent job", Name: "syspolicy_purge_history", Off: true}}}
	if diff := cmp.Diff(want, report); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestFirstReadyFails does not call a clone harmless that is not.
func TestFirstReadyFails(t *testing.T) {
	g := double(t,
		rows(step(PageJobs, sqlJobs), "name", []any{"nightly"}),
		fails(args(step(PageUpdateJob, sqlJobOff), "nightly"), sqlservertest.Message{Number: 229, Severity: 14, State: 5, Text: "The EXECUTE permission was denied."}),
	)
	r := database.Request{Env: []string{EnvPassword + "=new"}}
	if _, err := adapter(password).AfterFirstReady(t.Context(), g, r); err == nil || !strings.Contains(err.Error(), "nightly") {
		t.Errorf("%v", err)
	}
}

func TestKeepOutward(t *testing.T) {
	g := double(t,
		rows(step(PageJobs, sqlJobs), "name", []any{"nightly"}),
		rows(step(PageMailProfiles, sqlMail), "profile_id name description"), rows(step(PageServers, sqlLinks), "name provider data_source"),
		rows(step(PageEndpoints, sqlEndpoints), "name type_desc"), rows(step(PageStartProcedures, sqlStart), "name"),
	)
	keep := database.Request{Labels: map[string]string{database.LabelOutward: database.OutwardKeep}}
	a := adapter(password)
	report, err := a.AfterFirstReady(t.Context(), g, keep)
	if diff := cmp.Diff(database.Report{Outward: []database.Outward{{Kind: "agent job", Name: "nightly"}}}, report); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if a.NeedsGate(nil, keep) || !a.NeedsGate(nil, database.Request{}) {
		t.Error("the gate is for what is switched off")
	}
	keep.Env = []string{EnvPassword + "=x"}
	if !a.NeedsGate(nil, keep) {
		t.Error("the gate is for a new password")
	}
}

func TestSetPassword(t *testing.T) {
	const secret = "a]'weak"
	g := double(t,
		fails(step(PageAlterLogin, "ALTER LOGIN [app]]] WITH PASSWORD = N'a]''weak';"),
			sqlservertest.Message{Number: 15118, Severity: 16, State: 1, Text: "Password validation failed."}),
		fails(step(PageAlterLogin, "ALTER LOGIN [sa] WITH PASSWORD = N'a]''weak';"),
			sqlservertest.Message{Number: 102, Severity: 15, State: 1, Text: "Incorrect syntax near 'a]'weak'."}),
	)
	a := adapter(password)
	if err := a.SetPassword(t.Context(), g, "app]", secret); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "policy") {
		t.Errorf("%v", err)
	}
	if err := a.SetPassword(t.Context(), g, "", secret); err == nil || strings.Contains(err.Error(), "weak") {
		t.Errorf("%v", err)
	}
	for _, p := range []string{"", strings.Repeat("x", 129), "a\x00b"} {
		if err := a.SetPassword(t.Context(), g, "", p); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", p, err)
		}
	}
}
