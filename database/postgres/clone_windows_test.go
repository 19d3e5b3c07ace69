package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/database"
	"slipway/database/guestfiles"
)

// A clone of a database that reaches out is made harmless in its files, before anything runs.
func TestBeforeFirstStart(t *testing.T) {
	dir := t.TempDir()
	root, data := filepath.Join(dir, "root"), filepath.Join(dir, "volume")
	if err := errors.Join(os.MkdirAll(root, 0o755), os.MkdirAll(data, 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"PG_VERSION":      "15\n",
		"postgresql.conf": "archive_mode = on\narchive_command = 'copy \"%p\" \"\\\\\\\\nas\\\\wal\\\\%f\"'\nport = 5432\n",
		"postmaster.pid":  "4711\nC:/old/pgdata\n1700000000\n5432\n\n*\n  1234\nready\n",
		"standby.signal":  "",
	} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := guestfiles.New(guestfiles.Mount{Path: "/", Source: root}, guestfiles.Mount{Path: `C:\pgdata`, Source: data})
	if err != nil {
		t.Fatal(err)
	}
	a := Engine{}.Adapter([]string{`PGDATA=%CONTAINER_ROOT%\pgdata`, "PG_MAJOR=15"}).(*Adapter)
	if a.Starting(files) {
		t.Error("a server that says that it is ready counts as starting")
	}
	report, err := a.BeforeFirstStart(t.Context(), files, database.Request{ID: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	auto, err := os.ReadFile(filepath.Join(data, autoConf))
	if err != nil || !strings.Contains(string(auto), "archive_mode = ") || !strings.Contains(string(auto), marker+"c1 ") {
		t.Errorf("%s has %q, %v, and the report is %+v", autoConf, auto, err, report)
	}
	for name, want := range map[string]bool{pidFile: false, "standby.signal": false, "recovery.signal": true} {
		if _, err := os.Lstat(filepath.Join(data, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, err := a.BeforeFirstStart(t.Context(), files, database.Request{ID: "c1"})
	if err != nil || len(again.Outward) != len(report.Outward) || len(report.Outward) == 0 {
		t.Errorf("the second time: %+v, %v", again, err)
	}
}
