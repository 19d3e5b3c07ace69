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

func TestAttach(t *testing.T) {
	const attachOne = `CREATE DATABASE [sales] ON (FILENAME = N'C:\c\sales.mdf') FOR ATTACH;`
	mdf := []string{`C:\c\sales.mdf`}
	for name, test := range map[string]struct {
		attachment Attachment
		script     []sqlservertest.Step
		want       []string // orphans
		is         func(error) bool
		says       string
	}{
		"an MDF": {
			attachment: Attachment{Database: "sales", Paths: mdf},
			script: []sqlservertest.Step{
				in(step(PageCreateDatabase, attachOne), "master"), into("sales", "[sales]"),
				rows(in(step(PageOrphans, sqlOrphans), "sales"), "user_name sid"), into("master", "[master]"),
			},
		},
		"all files, an odd name, orphans": {
			attachment: Attachment{Database: `a]b'c "Ω`, Paths: []string{`C:\it's\a.mdf`, `\\?\C:\it's\a.ndf`, `C:\it's\a.ldf`}},
			script: []sqlservertest.Step{
				step(PageCreateDatabase, `CREATE DATABASE [a]]b'c "Ω] ON (FILENAME = N'C:\it''s\a.mdf'), `+
					`(FILENAME = N'\\?\C:\it''s\a.ndf'), (FILENAME = N'C:\it''s\a.ldf') FOR ATTACH;`),
				into(`a]b'c "Ω`, `[a]]b'c "Ω]`),
				rows(step(PageOrphans, sqlOrphans), "user_name sid", []any{"web", "0x0105"}, []any{"re\nport", "0x0106"}), into("master", "[master]"),
			},
			want: []string{"web", "re port"},
		},
		"a lost log": {
			attachment: Attachment{Database: "sales", Paths: mdf, RebuildLog: true},
			script: []sqlservertest.Step{
				step(PageCreateDatabase, `CREATE DATABASE [sales] ON (FILENAME = N'C:\c\sales.mdf') FOR ATTACH_REBUILD_LOG;`), into("sales", "[sales]"),
				rows(step(PageOrphans, sqlOrphans), "user_name sid"), into("master", "[master]"),
			},
		},
		"a newer file": {
			attachment: Attachment{Database: "sales", Paths: mdf},
			script:     []sqlservertest.Step{fails(step(PageCreateDatabase, attachOne), sqlservertest.CannotOpenNew("sales"), sqlservertest.NewerVersion("sales", 957, 904))},
			is:         errdefs.IsFailedPrecondition, says: "newer SQL Server than this one",
		},
		"a file that is in use": {
			attachment: Attachment{Database: "sales", Paths: mdf},
			script: []sqlservertest.Step{fails(step(PageCreateDatabase, attachOne),
				sqlservertest.CannotOpenFile(mdf[0], 32, "The process cannot access the file because it is being used by another process."),
				sqlservertest.Message{Number: 1802, Severity: 16, State: 7, Text: "CREATE DATABASE failed. Some file names listed could not be created. Check related errors."})},
			is: errdefs.IsFailedPrecondition, says: "Operating system error 32",
		},
		"a directory that is not there": {
			attachment: Attachment{Database: "sales", Paths: mdf},
			script:     []sqlservertest.Step{fails(step(PageCreateDatabase, attachOne), sqlservertest.DirectoryLookup(mdf[0], 3, "The system cannot find the path specified."))},
			is:         errdefs.IsInvalidArgument, says: "directory",
		},
		"a name that is taken": {
			attachment: Attachment{Database: "sales", Paths: mdf},
			script:     []sqlservertest.Step{fails(step(PageCreateDatabase, attachOne), sqlservertest.Exists("sales"))},
			is:         errdefs.IsAlreadyExists, says: "1801",
		},
		"an encrypted database": {
			attachment: Attachment{Database: "sales", Paths: mdf},
			script:     []sqlservertest.Step{fails(step(PageCreateDatabase, attachOne), sqlservertest.NoCertificate("0xAB"))},
			is:         errdefs.IsFailedPrecondition, says: "CREATE CERTIFICATE",
		},
		"a closed master key": {
			attachment: Attachment{Database: "sales", Paths: mdf},
			script:     []sqlservertest.Step{fails(step(PageCreateDatabase, attachOne), sqlservertest.NoMasterKey())},
			is:         errdefs.IsFailedPrecondition, says: "ALTER MASTER KEY ADD ENCRYPTION BY SERVICE MASTER KEY",
		},
		"no file":          {attachment: Attachment{Database: "sales"}, is: errdefs.IsInvalidArgument, says: "no file"},
		"a relative path":  {attachment: Attachment{Database: "sales", Paths: []string{"sales.mdf"}}, is: errdefs.IsInvalidArgument, says: "absolute"},
		"no name":          {attachment: Attachment{Paths: mdf}, is: errdefs.IsInvalidArgument, says: "empty"},
		"too long a name":  {attachment: Attachment{Database: strings.Repeat("😀", 65), Paths: mdf}, is: errdefs.IsInvalidArgument, says: "128"},
		"a NUL in a name ": {attachment: Attachment{Database: "a\x00", Paths: mdf}, is: errdefs.IsInvalidArgument, says: "character"},
	} {
		t.Run(name, func(t *testing.T) {
			s := session(t, double(t, test.script...))
			got, err := s.Attach(t.Context(), test.attachment)
			if test.is != nil {
				if !test.is(err) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.Orphans); diff != "" || (len(got.Notes) > 0) != (len(test.want) > 0) {
				t.Error(diff, got.Notes)
			}
		})
	}
}

func TestDetach(t *testing.T) {
	async := func(values ...[]any) sqlservertest.Step {
		return args(rows(step(PageDatabases, "SELECT is_auto_update_stats_async_on FROM sys.databases WHERE name = @p1;"), "is_auto_update_stats_async_on", values...), "it's")
	}
	single := step(PageSetOptions, "ALTER DATABASE [it's] SET SINGLE_USER WITH ROLLBACK IMMEDIATE;")
	multi := step(PageSetOptions, "ALTER DATABASE [it's] SET MULTI_USER;")
	off := step(PageDetach, "ALTER DATABASE [it's] SET AUTO_UPDATE_STATISTICS_ASYNC OFF;")
	on := step(PageDetach, "ALTER DATABASE [it's] SET AUTO_UPDATE_STATISTICS_ASYNC ON;")
	detach := step(PageDetach, "EXEC sp_detach_db @dbname = N'it''s', @skipchecks = N'true';")
	for name, test := range map[string]struct {
		script []sqlservertest.Step
		notes  int
		is     func(error) bool
	}{
		"done":                         {[]sqlservertest.Step{async([]any{false}), single, detach}, 0, nil},
		"with asynchronous statistics": {[]sqlservertest.Step{async([]any{true}), off, single, detach}, 1, nil},
		"put back when it cannot be":   {[]sqlservertest.Step{async([]any{false}), single, fails(detach, sqlservertest.InUse("it's")), multi}, 0, errdefs.IsConflict},
		"put back with its option": {
			[]sqlservertest.Step{async([]any{true}), off, single, fails(detach, sqlservertest.InUse("it's")), multi, on}, 0, errdefs.IsConflict,
		},
		"not there": {[]sqlservertest.Step{async()}, 0, errdefs.IsNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			notes, err := session(t, double(t, test.script...)).Detach(t.Context(), "it's")
			if (err != nil) != (test.is != nil) || test.is != nil && !test.is(err) || len(notes) != test.notes {
				t.Errorf("%q, %v", notes, err)
			}
		})
	}
	t.Run("a system database", func(t *testing.T) {
		if _, err := session(t, double(t)).Detach(t.Context(), "MSDB"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v", err)
		}
	})
}

func TestUsersAndServiceKey(t *testing.T) {
	s := session(t, double(t,
		into("sales", "[sales]"), in(step(PageOrphans, "ALTER USER [we]]b] WITH LOGIN = [web];"), "sales"), into("master", "[master]"),
		fails(step(PageServiceKey, "ALTER SERVICE MASTER KEY REGENERATE;"), sqlservertest.ServiceMasterKey()),
		step(PageServiceKey, "ALTER SERVICE MASTER KEY FORCE REGENERATE;"),
	))
	if err := s.MapUser(t.Context(), "sales", "we]b", "web"); err != nil {
		t.Error(err)
	}
	if err := s.RegenerateServiceKey(t.Context(), false); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "FORCE REGENERATE") {
		t.Errorf("%v", err)
	}
	if err := s.RegenerateServiceKey(t.Context(), true); err != nil {
		t.Error(err)
	}
}

func TestFreeze(t *testing.T) {
	is2022 := rows(step(PageServerProperty, sqlVersion), "version edition instance", []any{"16.0.1000.6", "Developer Edition", "SW_A"})
	suspend := step(PageSnapshotBackup, "ALTER SERVER CONFIGURATION SET SUSPEND_FOR_SNAPSHOT_BACKUP = ON (MODE = COPY_ONLY);")
	resume := step(PageSnapshotBackup, "ALTER SERVER CONFIGURATION SET SUSPEND_FOR_SNAPSHOT_BACKUP = OFF;")
	t.Run("2022", func(t *testing.T) {
		s := session(t, double(t, is2022, suspend, resume))
		ctx, cancel := context.WithCancelCause(t.Context())
		thaw, err := s.Freeze(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cancel(nil) // whoever asked for it has gone
		if err := thaw(); err != nil {
			t.Error(err)
		}
	})
	t.Run("too many databases", func(t *testing.T) {
		s := session(t, double(t, is2022, fails(suspend, sqlservertest.Message{Number: 925, Severity: 19, State: 1, Text: "Maximum number of databases used for each query has been exceeded. The maximum allowed is 64."}), resume))
		if _, err := s.Freeze(t.Context()); err == nil || !strings.Contains(err.Error(), "64") {
			t.Errorf("%v", err)
		}
	})
	t.Run("2019", func(t *testing.T) {
		s := session(t, double(t, rows(step(PageServerProperty, sqlVersion), "version edition instance", []any{"15.0.2000.5", "Express Edition", "SW_A"})))
		if _, err := s.Freeze(t.Context()); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "stop the container first") {
			t.Errorf("%v", err)
		}
	})
}

func TestShutdownNow(t *testing.T) {
	stop := step(PageShutdown, "SHUTDOWN WITH NOWAIT;")
	stop.Stop = true
	if err := session(t, double(t, stop)).Shutdown(t.Context(), true); err != nil {
		t.Error(err)
	}
	refused := fails(step(PageShutdown, "SHUTDOWN;"), sqlservertest.Message{Number: 6004, Severity: 10, State: 1, Text: "User does not have permission to perform this action."})
	refused.Errors[0].Severity = 14
	if err := session(t, double(t, refused)).Shutdown(t.Context(), false); err == nil || !strings.Contains(err.Error(), "6004") {
		t.Errorf("%v", err)
	}
}

// TestTooMuch ends a connection whose server does not stop talking.
func TestTooMuch(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	limited := &limitedConn{Conn: client, left: 10}
	go func() {
		for {
			if _, err := server.Write(make([]byte, 4)); err != nil {
				return
			}
		}
	}()
	total := 0
	buf := make([]byte, 64)
	for {
		n, err := limited.Read(buf)
		total += n
		if err != nil {
			break
		}
	}
	if total != 10 {
		t.Errorf("%d bytes of 10", total)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"": "[]", "a": "[a]", "]": "[]]]", "[x]": "[[x]]]", `"'`: `["']`} {
		if got := quoteName(in); got != want {
			t.Errorf("quoteName(%q) = %s", in, got)
		}
	}
	for in, want := range map[string]string{"": "N''", "'": "N''''", "a''b]": "N'a''''b]'", "Ω😀": "N'Ω😀'"} {
		if got := quoteText(in); got != want {
			t.Errorf("quoteText(%q) = %s", in, got)
		}
	}
}

func TestExplainKeepsTheCause(t *testing.T) {
	cause := errors.New("connection reset")
	if err := Explain(cause); !errdefs.IsUnavailable(err) || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if Explain(nil) != nil {
		t.Error("an error of nothing")
	}
}

// TestOldCertificate meets the certificate of a server up to 2017.
func TestOldCertificate(t *testing.T) {
	g := guest{sqlservertest.New(t, sqlservertest.Config{
		OldCertificate: true, Passwords: map[string]string{"sa": password},
		Script: []sqlservertest.Step{rows(step(PageDatabases, sqlRecovering), "recovering", []any{0})},
	})}
	err := adapter(password).Ready(t.Context(), g)
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "start the container again") {
		t.Errorf("%v", err)
	}
	// As in a program that was built to take it.
	t.Setenv("GODEBUG", "x509negativeserial=1")
	if err := adapter(password).Ready(t.Context(), g); err != nil {
		t.Error(err)
	}
}

func TestServerPath(t *testing.T) {
	for in, want := range map[string]string{
		`C:\data\x.mdf`: `C:\r\data\x.mdf`, "/data/x.mdf": `C:\r\data\x.mdf`, `\x.mdf`: `C:\r\x.mdf`, `c:/a/../x.mdf`: `C:\r\x.mdf`, `D:\x.mdf`: "", "x.mdf": "", `C:\a:b`: "",
	} {
		got, err := ServerPath(`C:\r\`, in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}
