package sqlserver

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"slipway/database/sqlserver/sqlservertest"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

// launched makes a preparation whose server is a double; args are those that it was started with.
func launched(g guest, args *[]string) Preparation {
	return Preparation{
		Launch: func(_ context.Context, a []string) (func(context.Context) error, error) {
			*args = a
			return func(ctx context.Context) error {
				select {
				case <-g.Stopped():
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}, nil
		},
		Args:  []string{"-sSW_B", "-c"},
		Login: Login{User: "sa", Password: password, Dial: func(ctx context.Context) (net.Conn, error) { return g.Dial(ctx, 1433) }},
		Root:  `C:\slipway\b`, Data: `C:\slipway\b\MSSQL\DATA`,
	}
}

func masterFiles(values ...[]any) sqlservertest.Step {
	return rows(step(PageMasterFiles, sqlFiles), "db database_id name physical_name pages", values...)
}

func shutdownStep() sqlservertest.Step {
	s := step(PageShutdown, "SHUTDOWN;")
	s.Stop = true
	return s
}

// TestPrepareClone moves the files of a clone from the original's root to the clone's.
func TestPrepareClone(t *testing.T) {
	g := double(t,
		masterFiles(
			[]any{"master", 1, "master", `C:\slipway\b\MSSQL\DATA\master.mdf`, 1}, []any{"master", 1, "mastlog", `C:\slipway\a\MSSQL\DATA\mastlog.ldf`, 1},
			[]any{"tempdb", 2, "tempdev", `c:\Slipway\A\mssql\data\tempdb.mdf`, 1},
			[]any{"model", 3, "modeldev", `c:\Slipway\A\mssql\data\model.mdf`, 1}, []any{"model", 3, "modellog", `c:\Slipway\A\mssql\data\modellog.ldf`, 1},
			[]any{"it's", 5, "a]b", `C:\slipway\a\files\it's.mdf`, 1}, []any{"it's", 5, "log", `C:\slipway\ab\it's.ldf`, 1},
			[]any{"moved", 6, "m", `C:\slipway\b\files\m.mdf`, 1},
		),
		step(PageMoveSystem, `ALTER DATABASE [tempdb] MODIFY FILE (NAME = [tempdev], FILENAME = N'C:\slipway\b\mssql\data\tempdb.mdf');`),
		step(PageMoveUser, `ALTER DATABASE [it's] MODIFY FILE (NAME = [a]]b], FILENAME = N'C:\slipway\b\files\it''s.mdf');`),
		step(PageMoveSystem, `ALTER DATABASE [model] MODIFY FILE (NAME = [modellog], FILENAME = N'C:\slipway\b\mssql\data\modellog.ldf');`),
		step(PageMoveSystem, `ALTER DATABASE [model] MODIFY FILE (NAME = [modeldev], FILENAME = N'C:\slipway\b\mssql\data\model.mdf');`),
		shutdownStep(),
	)
	var args []string
	done, err := Prepare(t.Context(), launched(g, &args))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"-sSW_B", "-c", "-f", "-mslipway", "-T3608"}, args); diff != "" {
		t.Error(diff)
	}
	if len(done.Moved) != 4 || len(done.Notes) != 1 || !strings.Contains(done.Notes[0], `C:\slipway\ab\it's.ldf`) {
		t.Errorf("%+v", done)
	}
}

// TestPrepareTemplates makes the first system databases of an instance.
func TestPrepareTemplates(t *testing.T) {
	g := double(t,
		masterFiles(
			[]any{"master", 1, "master", `C:\slipway\b\MSSQL\DATA\master.mdf`, 1},
			[]any{"tempdb", 2, "tempdev", `e:\build\tempdb.mdf`, 1}, []any{"model", 3, "modeldev", `e:\build\model.mdf`, 1},
			[]any{"msdb", 4, "MSDBData", `e:\build\MSDBData.mdf`, 1},
		),
		step(PageMoveSystem, `ALTER DATABASE [tempdb] MODIFY FILE (NAME = [tempdev], FILENAME = N'C:\slipway\b\MSSQL\DATA\tempdb.mdf');`),
		step(PageMoveSystem, `ALTER DATABASE [msdb] MODIFY FILE (NAME = [MSDBData], FILENAME = N'C:\slipway\b\MSSQL\DATA\MSDBData.mdf');`),
		step(PageMoveSystem, `ALTER DATABASE [model] MODIFY FILE (NAME = [modeldev], FILENAME = N'C:\slipway\b\MSSQL\DATA\model.mdf');`),
		step(PageAlterLogin, "ALTER LOGIN [sa] WITH PASSWORD = N'first';"), step(PageAlterLogin, "ALTER LOGIN [sa] ENABLE;"),
		shutdownStep(),
	)
	var args []string
	p := launched(g, &args)
	p.Templates, p.Password = true, "first"
	if done, err := Prepare(t.Context(), p); err != nil || len(done.Moved) != 3 {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestPrepareAgain finishes what was cut short after the first move.
func TestPrepareAgain(t *testing.T) {
	g := double(t,
		masterFiles(
			[]any{"tempdb", 2, "tempdev", `C:\slipway\b\MSSQL\DATA\tempdb.mdf`, 1}, []any{"model", 3, "modeldev", `C:\slipway\a\MSSQL\DATA\model.mdf`, 1},
			[]any{"sales", 5, "sales", `C:\slipway\a\sales.mdf`, 1},
		),
		step(PageMoveUser, `ALTER DATABASE [sales] MODIFY FILE (NAME = [sales], FILENAME = N'C:\slipway\b\sales.mdf');`),
		step(PageMoveSystem, `ALTER DATABASE [model] MODIFY FILE (NAME = [modeldev], FILENAME = N'C:\slipway\b\MSSQL\DATA\model.mdf');`),
		shutdownStep(),
	)
	var args []string
	if done, err := Prepare(t.Context(), launched(g, &args)); err != nil || len(done.Moved) != 2 || len(done.Notes) > 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestPrepareWaits tries again while the server starts.
func TestPrepareWaits(t *testing.T) {
	g := guest{sqlservertest.New(t, sqlservertest.Config{
		Passwords: map[string]string{"sa": password},
		Refuse:    []sqlservertest.Message{{Number: 17187, Severity: 16, State: 1, Text: "SQL Server is not ready to accept new client connections."}, sqlservertest.SingleUser("sa")},
		Script:    []sqlservertest.Step{masterFiles([]any{"model", 3, "modeldev", `C:\slipway\b\MSSQL\DATA\model.mdf`, 1}), shutdownStep()},
	})}
	var args []string
	if done, err := Prepare(t.Context(), launched(g, &args)); err != nil || len(done.Moved)+len(done.Notes) > 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestPrepareFails(t *testing.T) {
	model := []any{"model", 3, "modeldev", `C:\slipway\a\MSSQL\DATA\model.mdf`, 1}
	for name, test := range map[string]struct {
		script []sqlservertest.Step
		change func(*Preparation)
		says   string
	}{
		"a move that is refused": {
			script: []sqlservertest.Step{
				masterFiles(model),
				fails(step(PageMoveSystem, `ALTER DATABASE [model] MODIFY FILE (NAME = [modeldev], FILENAME = N'C:\slipway\b\MSSQL\DATA\model.mdf');`),
					sqlservertest.Message{Number: 5041, Severity: 16, State: 2, Text: "MODIFY FILE failed. File 'modeldev' does not exist."}),
				shutdownStep(),
			},
			says: "5041",
		},
		"a model elsewhere": {script: []sqlservertest.Step{masterFiles([]any{"model", 3, "modeldev", `D:\x\model.mdf`, 1}), shutdownStep()}, says: "not known where"},
		"no model":          {script: []sqlservertest.Step{masterFiles(), shutdownStep()}, says: "missing"},
		"data elsewhere":    {script: []sqlservertest.Step{masterFiles(model), shutdownStep()}, change: func(p *Preparation) { p.Data = `D:\x` }, says: "not in the container"},
		"a wrong password":  {change: func(p *Preparation) { p.Login.Password = "x" }, says: "18456"},
		"no start": {change: func(p *Preparation) {
			p.Launch = func(context.Context, []string) (func(context.Context) error, error) {
				return nil, errors.New("no such file")
			}
		}, says: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var args []string
			p := launched(double(t, test.script...), &args)
			if test.change != nil {
				test.change(&p)
			}
			if _, err := Prepare(t.Context(), p); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("a server that never answers", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var args []string
		p := launched(double(t), &args)
		p.Login.Dial = func(context.Context) (net.Conn, error) {
			cancel(errors.New("out of patience"))
			return nil, errors.New("refused")
		}
		if _, err := Prepare(ctx, p); !errdefs.IsUnavailable(err) {
			t.Errorf("%v", err)
		}
	})
}
