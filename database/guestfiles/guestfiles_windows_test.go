package guestfiles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"slipway/database"
)

func TestTree(t *testing.T) {
	dir := t.TempDir()
	root, volume := filepath.Join(dir, "root"), filepath.Join(dir, "volume")
	write := func(path ...string) {
		t.Helper()
		name := filepath.Join(path...)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(filepath.Base(filepath.Dir(name))), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(root, "etc", "file")
	write(root, "pgdata", "file") // hidden by the volume
	write(volume, "PG_VERSION")
	write(volume, "base", "1")
	write(dir, "secret")
	tree, err := New(Mount{Path: "/", Source: root}, Mount{Path: `C:\pgdata`, Source: volume})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/etc/file": "etc", `C:\etc\file`: "etc", "/pgdata/PG_VERSION": "volume", `c:\PGDATA\pg_version`: "volume", "/pgdata/base/1": "base", `\pgdata\base\..\base\1`: "base",
		"/pgdata/file": "", "/../secret": "", `C:\..\secret`: "", "/pgdata": "", `D:\etc\file`: "", "/etc/nul": "", "relative": "",
	} {
		got, err := tree.Read(path, 100)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, err := tree.Read("/pgdata/PG_VERSION", 3); !errors.Is(err, database.ErrOutput) {
		t.Errorf("a limit: %v", err)
	}
	if names, err := tree.List("/pgdata", 10); err != nil || !slices.Equal(names, []string{"PG_VERSION", "base"}) {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := tree.List("/pgdata", 1); !errors.Is(err, database.ErrOutput) {
		t.Errorf("a limit: %v", err)
	}
	for _, text := range []string{"new", "newer"} {
		if err := tree.Replace("/pgdata/postgresql.auto.conf", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(volume, "postgresql.auto.conf")); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := tree.Rename("/pgdata/PG_VERSION", "renamed"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"a/b", `..\x`, "nul", "..", "a:b"} {
		if err := tree.Rename("/pgdata/renamed", bad); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("renamed to %s: %v", bad, err)
		}
	}
	if size, err := tree.Size("/pgdata/renamed"); err != nil || size != int64(len("volume")) {
		t.Errorf("%d, %v", size, err)
	}
	for range 2 {
		if err := tree.Remove("/pgdata/renamed"); err != nil {
			t.Error(err)
		}
	}
	if _, err := tree.Size("/pgdata/renamed"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if left, err := tree.List("/pgdata", 10); err != nil || len(left) != 2 {
		t.Errorf("%q, %v", left, err)
	}
}
