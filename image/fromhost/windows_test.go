package fromhost

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/sqlinstance/sqlinstancetest"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// windowsMachine is one with keys and files as the installers leave them.
func windowsMachine(t *testing.T, keys map[string]map[string]any, files ...string) *Host {
	t.Helper()
	registry := sqlinstancetest.New()
	for key, values := range keys {
		if err := registry.SetValues(key, values); err != nil {
			t.Fatal(err)
		}
	}
	same := func(path string) func(string) bool {
		return func(other string) bool { return strings.EqualFold(path, other) }
	}
	return &Host{windows: &windowsHost{
		registry: registry,
		exists:   func(path string) bool { return slices.ContainsFunc(files, same(path)) },
		list: func(dir string) (names []string) {
			for _, file := range files {
				if len(file) <= len(dir) || !strings.EqualFold(file[:len(dir)], dir) || file[len(dir)] != '\\' {
					continue
				}
				name, _, isDir := strings.Cut(file[len(dir)+1:], `\`)
				if isDir && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
			return names
		},
		now: func() time.Time { return time.Unix(1e9, 0) },
	}}
}

func fullMachine(t *testing.T) *Host {
	t.Helper()
	return windowsMachine(t, map[string]map[string]any{
		`SOFTWARE\PostgreSQL\Installations\postgresql-x64-9.6`: {"Base Directory": `C:\Program Files\PostgreSQL\9.6`, "Version": "9.6.24"},
		`SOFTWARE\PostgreSQL\Installations\postgresql-x64-15`: {
			"Base Directory": `C:\Program Files\PostgreSQL\15\`, "Data Directory": `C:\Program Files\PostgreSQL\15\data`,
			"Service ID": "postgresql-x64-15", "Super User": "postgres", "Version": "15.4", "CLT_Version": "15.4",
		},
		`SOFTWARE\PostgreSQL\Installations\postgresql-x64-17`:              {"Base Directory": `D:\pg17`, "Version": "17.0"},
		`SOFTWARE\PostgreSQL\Installations\postgresql-x64-13`:              {"Version": "13.1"},
		`SOFTWARE\Microsoft\Microsoft SQL Server\Instance Names\SQL`:       {"SQLEXPRESS": "MSSQL15.SQLEXPRESS"},
		`SOFTWARE\Microsoft\Microsoft SQL Server\MSSQL15.SQLEXPRESS\Setup`: {"Edition": "Express Edition", "Version": "15.0.2000.5", "SQLBinRoot": `C:\Program Files\Microsoft SQL Server\MSSQL15.SQLEXPRESS\MSSQL\Binn`},
		`SOFTWARE\WOW6432Node\dotnet\Setup\InstalledVersions\x64`:          {"InstallLocation": `C:\Program Files\dotnet\`},
		`SOFTWARE\Microsoft\NET Framework Setup\NDP\v4\Full`:               {"Install": uint64(1), "Release": uint64(528040), "Version": "4.8.03752", "InstallPath": `C:\Windows\Microsoft.NET\Framework64\v4.0.30319\`},
		`SOFTWARE\Microsoft\NET Framework Setup\NDP\v3.5`:                  {"Install": uint64(0), "Version": "3.5.30729.4926"},
		`SOFTWARE\Microsoft\InetStp`:                                       {"MajorVersion": uint64(10), "MinorVersion": uint64(0), "InstallPath": `C:\Windows\system32\inetsrv`, "VersionString": "Version 10.0"},
	},
		`C:\Program Files\PostgreSQL\15\bin\postgres.exe`, `C:\Program Files\PostgreSQL\15\bin\initdb.exe`,
		`C:\Program Files\PostgreSQL\9.6\bin\postgres.exe`, `C:\Program Files\PostgreSQL\9.6\bin\initdb.exe`,
		`C:\Program Files\Microsoft SQL Server\MSSQL15.SQLEXPRESS\MSSQL\Binn\sqlservr.exe`,
		`C:\Program Files\dotnet\shared\Microsoft.NETCore.App\8.0.10\x.dll`, `C:\Program Files\dotnet\shared\Microsoft.NETCore.App\8.0.4\x.dll`,
		`C:\Program Files\dotnet\shared\Microsoft.AspNetCore.App\8.0.4\x.dll`,
	)
}

func TestWindowsList(t *testing.T) {
	found, err := fullMachine(t).List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, strings.Join([]string{f.Name, f.Version, f.Path, f.Tag, f.Note}, "|"))
	}
	want := []string{
		`postgresql-17|17.0|D:\pg17||the registry lists it, but its programs are not there`,
		`postgresql-15|15.4|C:\Program Files\PostgreSQL\15|postgres:15|`,
		`postgresql-x64-13|13.1|||the registry does not say where it is, or which version`,
		`postgresql-9|9.6.24|C:\Program Files\PostgreSQL\9.6|postgres:9|`,
		`sqlserver-SQLEXPRESS|15.0.2000.5|C:\Program Files\Microsoft SQL Server\MSSQL15.SQLEXPRESS\MSSQL\Binn||an image of it is not possible yet`,
		`dotnet-8.0.4|8.0.4|C:\Program Files\dotnet\shared\Microsoft.AspNetCore.App\8.0.4||` + noImage,
		`dotnet-8.0.10|8.0.10|C:\Program Files\dotnet\shared\Microsoft.NETCore.App\8.0.10||` + noImage,
		`dotnet-8.0.4|8.0.4|C:\Program Files\dotnet\shared\Microsoft.NETCore.App\8.0.4||` + noImage,
		`dotnet-framework-4.8.03752|4.8.03752|C:\Windows\Microsoft.NET\Framework64\v4.0.30319||` + noImage,
		`iis|10.0|C:\Windows\system32\inetsrv||the feature IIS Hostable Web Core is not installed: sites cannot run in containers`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if found, err := windowsMachine(t, nil).List(); err != nil || len(found) > 0 {
		t.Errorf("an empty machine has %v, %v", found, err)
	}
}

func TestWindowsBuild(t *testing.T) {
	host := fullMachine(t)
	for name, is := range map[string]func(error) bool{
		"sqlserver-SQLEXPRESS": errdefs.IsNotImplemented, "postgresql-17": errdefs.IsNotImplemented, "iis": errdefs.IsNotImplemented, "nothing": errdefs.IsInvalidArgument,
	} {
		if _, err := host.Build(t.Context(), name, ""); !is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := windowsMachine(t, nil).Build(t.Context(), "postgresql", ""); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	im, err := host.Build(t.Context(), "postgresql", "")
	if err != nil || im.Tag() != "postgres:15" {
		t.Fatal(im, err)
	}
	var archive, again bytes.Buffer
	if err := errors.Join(im.WriteTo(t.Context(), &archive, nil), im.WriteTo(t.Context(), &again, nil)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(archive.Bytes(), again.Bytes()) {
		t.Error("the same image has two archives")
	}
	var spec ocispec.Image
	var layer []string
	for in := tar.NewReader(&archive); ; {
		_, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte("diff_ids")) {
			if err := json.Unmarshal(content, &spec); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasPrefix(string(content), "Files/") {
			layer = layerFiles(t, content)
		}
	}
	if want := []string{"Files/", "Files/docker-entrypoint-initdb.d/", "Files/pgdata/", "Files/slipway/", "Files/slipway/postgres-entrypoint.cmd"}; !slices.Equal(layer, want) {
		t.Errorf("the layer has %q", layer)
	}
	if spec.OS != "windows" || !slices.Contains(spec.Config.Env, `PGBIN=C:\Program Files\PostgreSQL\15\bin`) ||
		spec.Config.Labels["io.slipway.database"] != "postgres" || len(spec.Config.Volumes) != 1 {
		t.Errorf("the configuration is %+v", spec)
	}
	for _, line := range strings.SplitAfter(string(crlf(windowsPostgresEntrypoint)), "\n") {
		if line != "" && !strings.HasSuffix(line, "\r\n") {
			t.Errorf("the line %q does not end as cmd.exe needs it", line)
		}
	}
}

func layerFiles(t *testing.T, layer []byte) (names []string) {
	t.Helper()
	for in := tar.NewReader(bytes.NewReader(layer)); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}
