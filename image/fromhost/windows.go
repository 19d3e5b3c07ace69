package fromhost

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/sqlinstance"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The keys beneath HKEY_LOCAL_MACHINE where installers record what a Windows machine has.
const (
	// postgresKey has a key for each installation, by the name of its service (EDB's installer, which
	// postgresql.org offers).
	postgresKey = `SOFTWARE\PostgreSQL\Installations`
	// frameworkKey: "How to: Determine which .NET Framework versions are installed".
	frameworkKey = `SOFTWARE\Microsoft\NET Framework Setup\NDP`
	// dotnetKey has where .NET is; it is in the 32-bit view on purpose (dotnet/designs,
	// "Install location search by architecture").
	dotnetKey = `SOFTWARE\WOW6432Node\dotnet\Setup\InstalledVersions\x64`
	// iisKey is the setup's of Internet Information Services.
	iisKey = `SOFTWARE\Microsoft\InetStp`
)

const (
	windowsPGData      = `C:\pgdata`
	windowsEntrypoint  = "/slipway/postgres-entrypoint.cmd"
	windowsDotnet      = `C:\Program Files\dotnet`
	windowsHostableWeb = `C:\Windows\System32\inetsrv\hwebcore.dll`
)

//go:embed postgres-entrypoint.cmd
var windowsPostgresEntrypoint []byte

// windowsHost is a Windows machine's installed software. Its parts are the registry and what of the
// disk has to be looked at, so that a layout as installers leave it can be tried on any system.
type windowsHost struct {
	registry sqlinstance.Keys
	// exists tells whether a file is there.
	exists func(path string) bool
	// list names what is in a directory, nothing if there is none.
	list func(dir string) []string
	now  func() time.Time
}

// found lists everything, with a note where no image can be made of it.
func (w *windowsHost) found() ([]Found, error) {
	var all []Found
	for _, part := range []func() ([]Found, error){w.postgres, w.sqlServer, w.dotnet, w.framework, w.iis} {
		found, err := part()
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// values reads a key that need not be there.
func (w *windowsHost) values(key string) (map[string]any, error) {
	values, err := w.registry.Values(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return values, err
}

func (w *windowsHost) subkeys(key string) ([]string, error) {
	names, err := w.registry.Subkeys(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

func text(values map[string]any, name string) string {
	for key, value := range values {
		if s, ok := value.(string); ok && strings.EqualFold(key, name) {
			return s
		}
	}
	return ""
}

func number(values map[string]any, name string) uint64 {
	for key, value := range values {
		if n, ok := value.(uint64); ok && strings.EqualFold(key, name) {
			return n
		}
	}
	return 0
}

// postgres lists the installations, newest first.
func (w *windowsHost) postgres() ([]Found, error) {
	names, err := w.subkeys(postgresKey)
	if err != nil {
		return nil, err
	}
	var all []Found
	for _, name := range names {
		values, err := w.values(postgresKey + `\` + name)
		if err != nil {
			return nil, err
		}
		dir, version := strings.TrimRight(text(values, "Base Directory"), `\`), text(values, "Version")
		major, _, _ := strings.Cut(version, ".")
		f := Found{Name: "postgresql-" + major, Version: version, Package: name, Path: dir, Tag: "postgres:" + major}
		switch {
		case dir == "" || version == "":
			f.Name, f.Tag, f.Note = name, "", "the registry does not say where it is, or which version"
		case !w.exists(dir+`\bin\postgres.exe`) || !w.exists(dir+`\bin\initdb.exe`):
			f.Tag, f.Note = "", "the registry lists it, but its programs are not there"
		}
		all = append(all, f)
	}
	slices.SortStableFunc(all, func(a, b Found) int { return compareVersions(b.Version, a.Version) })
	return all, nil
}

// sqlServer lists the instances of the Database Engine.
func (w *windowsHost) sqlServer() ([]Found, error) {
	instances, problems, err := sqlinstance.Find(w.registry)
	if err != nil {
		return nil, err
	}
	var all []Found
	for _, i := range instances {
		f := Found{
			Name: "sqlserver-" + i.Name, Version: i.Version, Package: strings.TrimSpace("SQL Server " + i.Edition), Path: i.Binn,
			Note: "an image of it is not possible yet",
		}
		if !w.exists(i.Binn + `\sqlservr.exe`) {
			f.Note = "the registry lists it, but its programs are not there"
		}
		all = append(all, f)
	}
	for _, problem := range problems {
		all = append(all, Found{Name: "sqlserver", Package: "SQL Server", Note: problem.Error()})
	}
	return all, nil
}

// noImage is the note of what is only listed: a container uses it where it is installed.
const noImage = "containers use it where it is: it needs no image"

// dotnet lists the runtimes of .NET, newest first.
func (w *windowsHost) dotnet() ([]Found, error) {
	values, err := w.values(dotnetKey)
	if err != nil {
		return nil, err
	}
	root := strings.TrimRight(cmp.Or(text(values, "InstallLocation"), windowsDotnet), `\`)
	var all []Found
	for _, framework := range w.list(root + `\shared`) {
		for _, version := range w.list(root + `\shared\` + framework) {
			all = append(all, Found{Name: "dotnet-" + version, Version: version, Package: framework, Path: root + `\shared\` + framework + `\` + version, Note: noImage})
		}
	}
	slices.SortStableFunc(all, func(a, b Found) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), compareVersions(b.Version, a.Version))
	})
	return all, nil
}

// framework lists the .NET Framework: 4 and later replace each other, 3.5 stands beside them.
func (w *windowsHost) framework() ([]Found, error) {
	var all []Found
	for _, key := range []string{`v4\Full`, "v3.5"} {
		values, err := w.values(frameworkKey + `\` + key)
		if err != nil {
			return nil, err
		}
		if number(values, "Install") != 1 || text(values, "Version") == "" {
			continue
		}
		version := text(values, "Version")
		all = append(all, Found{Name: "dotnet-framework-" + version, Version: version, Package: ".NET Framework", Path: strings.TrimRight(text(values, "InstallPath"), `\`), Note: noImage})
	}
	return all, nil
}

// iis lists Internet Information Services. Containers run sites in Hosted Web Core, since a site's own process is
// not the container's child.
func (w *windowsHost) iis() ([]Found, error) {
	values, err := w.values(iisKey)
	if err != nil || number(values, "MajorVersion") == 0 {
		return nil, err
	}
	version := fmt.Sprintf("%d.%d", number(values, "MajorVersion"), number(values, "MinorVersion"))
	f := Found{Name: "iis", Version: version, Package: "Internet Information Services", Path: strings.TrimRight(text(values, "InstallPath"), `\`), Note: noImage}
	if !w.exists(windowsHostableWeb) {
		f.Note = "the feature IIS Hostable Web Core is not installed: sites cannot run in containers"
	}
	return []Found{f}, nil
}

// build makes the image of one that found has listed; "postgresql" is the newest.
func (w *windowsHost) build(_ context.Context, name string) (im *Image, usual string, err error) {
	all, err := w.found()
	if err != nil {
		return nil, "", err
	}
	for _, f := range all {
		isPostgres := strings.HasPrefix(f.Name, "postgresql-")
		if !strings.EqualFold(f.Name, name) && (!isPostgres || f.Tag == "" || name != "postgresql" && name != "postgres") {
			continue
		}
		if f.Tag == "" {
			return nil, "", errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("no image can be made of %s: %s", f.Name, f.Note))
		}
		return w.postgresImage(f), f.Tag, nil
	}
	if name == "postgresql" || name == "postgres" {
		return nil, "", errdefs.ErrNotFound.WithMessage("PostgreSQL is not installed on this machine; install it, or unpack its archive and make an image of the folder: slipway image import-dir")
	}
	return nil, "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
		"%q is nothing that an image can be made of; without a name, from-host lists what is there", name))
}

// postgresImage makes an image that has no programs: its containers run those that are installed, where they
// are. So an image and its containers cost nothing, and are of use on machines only that have the same version in the
// same directory; for others there is image import-dir.
func (w *windowsHost) postgresImage(f Found) *Image {
	major, _, _ := strings.Cut(f.Version, ".")
	created := w.now().UTC().Truncate(time.Second)
	entry := func(name string, content []byte) File {
		file := File{Path: name, Mode: typeDir | 0o755, modified: created}
		if content != nil {
			file.Mode, file.Size, file.content = typeFile|0o755, int64(len(content)), content
		}
		return file
	}
	return &Image{
		Files: []File{
			entry("/docker-entrypoint-initdb.d", nil), entry("/pgdata", nil), entry(path.Dir(windowsEntrypoint), nil),
			entry(windowsEntrypoint, crlf(windowsPostgresEntrypoint)),
		},
		Packages: []string{f.Package + " " + f.Version},
		created:  created,
		comment:  "runs the PostgreSQL that is installed in " + f.Path,
		windows:  true,
		config: ocispec.ImageConfig{
			Env: []string{
				`PATH=` + f.Path + `\bin;C:\Windows\system32;C:\Windows`, `PGBIN=` + f.Path + `\bin`, "PG_MAJOR=" + major, "PG_VERSION=" + f.Version, `PGDATA=%CONTAINER_ROOT%\pgdata`,
			},
			Entrypoint:   []string{"cmd.exe", "/D", "/C", `%CONTAINER_ROOT%` + strings.ReplaceAll(windowsEntrypoint, "/", `\`)},
			Cmd:          []string{"postgres"},
			Volumes:      map[string]struct{}{windowsPGData: {}},
			ExposedPorts: map[string]struct{}{"5432/tcp": {}},
			Labels: map[string]string{
				"io.slipway.database": "postgres", "io.slipway.host.path": f.Path,
			},
		},
	}
}

// crlf ends lines as cmd.exe needs them: labels are not found else.
func crlf(script []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(script, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// compareVersions compares versions such as 15.4 by their numbers.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		n, _ := strconv.Atoi(x)
		m, _ := strconv.Atoi(y)
		if n != m {
			return cmp.Compare(n, m)
		}
	}
	return 0
}
