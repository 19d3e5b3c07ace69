package postgres

import (
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestGuestPath(t *testing.T) {
	for p, want := range map[string]string{
		"/var/lib/postgresql/data/": "/var/lib/postgresql/data", `C:\pgdata`: "/pgdata", `c:/pgdata/x`: "/pgdata/x", `%CONTAINER_ROOT%\pgdata`: "/pgdata",
		`%container_root%\a\..\pgdata`: "/pgdata", `\pgdata`: "/pgdata", "data": "", "": "", `D:\pgdata`: "", `%OTHER%\pgdata`: "", `C:\nul`: "",
	} {
		got, windows, ok := guestPath(p)
		if got != want || ok != (want != "") || windows != (ok && p[0] != '/') {
			t.Errorf("%q: %q, %t, %t", p, got, windows, ok)
		}
	}
}

// An image for Windows has its data paths as its mounts have their destinations.
func TestDataPathsOnWindows(t *testing.T) {
	for _, env := range []string{`PGDATA=C:\pgdata\main`, `PGDATA=%CONTAINER_ROOT%\pgdata\main`} {
		a := Engine{}.Adapter([]string{env, "PG_MAJOR=15"})
		got := a.DataPaths(ocispec.ImageConfig{Volumes: map[string]struct{}{`C:\pgdata`: {}, `C:\elsewhere`: {}}})
		if !slices.Equal(got, []string{`C:\pgdata`, `C:\pgdata\main`}) {
			t.Errorf("%s: %q", env, got)
		}
	}
}
