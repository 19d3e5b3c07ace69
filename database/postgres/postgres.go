// Package postgres is the database adapter for PostgreSQL, version 10 and later.
//
// While the server runs, everything is done with the image's own psql over the server's local socket, with the
// statements on standard input. While it does not, the data directory's postgresql.auto.conf is given settings
// that a clone must have: that file is read last, survives ALTER SYSTEM, and goes with the data into commits.
//
// The package takes no locks and keeps no state.
package postgres

import (
	"path"
	"slices"
	"strings"
	"time"

	"slipway/database"
	"slipway/internal/winpath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	name           = "postgres"
	defaultDataDir = "/var/lib/postgresql/data"

	// stopTime is how long a fast shutdown may take: it ends with a checkpoint, which writes all of
	// shared_buffers. A server that is killed instead only pays with a recovery at the next start.
	stopTime = 2 * time.Minute
)

// Engine makes the adapters. Its zero value is ready to use.
type Engine struct{}

var (
	_ database.Engine         = Engine{}
	_ database.Adapter        = (*Adapter)(nil)
	_ database.Cloner         = (*Adapter)(nil)
	_ database.Watcher        = (*Adapter)(nil)
	_ database.PasswordSetter = (*Adapter)(nil)
	_ database.Describer      = (*Adapter)(nil)
)

// Name is "postgres".
func (Engine) Name() string { return name }

// Recognise looks for the variables that the official image, and those made from it, set.
func (Engine) Recognise(env []string) bool {
	_, major := database.Getenv(env, "PG_MAJOR")
	_, data := database.Getenv(env, "PGDATA")
	return major && data
}

// Adapter makes an adapter; see [database.Engine].
func (Engine) Adapter(env []string) database.Adapter {
	a := &Adapter{dataDir: defaultDataDir}
	if value, ok := database.Getenv(env, "PGDATA"); ok {
		if dir, windows, ok := guestPath(value); ok {
			a.dataDir, a.windows = dir, windows
		}
	}
	if value, ok := database.Getenv(env, "POSTGRES_INITDB_WALDIR"); ok {
		if dir, _, ok := guestPath(value); ok {
			a.walDir = dir
		}
	}
	// A clone may be given another POSTGRES_USER than its data was made with, so every value is a candidate.
	a.roles = append(values(env, "POSTGRES_USER"), values(env, "PGUSER")...)
	a.roles = unique(append(a.roles, "postgres"))
	a.databases = unique(append([]string{"postgres"}, append(values(env, "POSTGRES_DB"), "template1")...))
	return a
}

// Adapter is the adapter for one container. It is immutable.
type Adapter struct {
	dataDir   string   // with slashes and without a drive on Windows too
	windows   bool     // the container's paths have drives and backslashes
	walDir    string   // empty unless the write-ahead log was put elsewhere at initialisation
	roles     []string // the administrator's name, best guess first
	databases []string // databases to connect to, best guess first
}

// Name is "postgres".
func (a *Adapter) Name() string { return name }

// StopDefaults asks for a fast shutdown: sessions are ended, and a checkpoint is written.
func (a *Adapter) StopDefaults() (string, time.Duration) { return "SIGINT", stopTime }

// DataPaths are the data directory, the log directory if it is elsewhere, and the declared volumes that lie in
// them or that they lie in (as in the official image from version 18, whose volume is the parent directory).
func (a *Adapter) DataPaths(cfg ocispec.ImageConfig) []string {
	paths := []string{a.dataDir}
	if a.walDir != "" {
		paths = append(paths, a.walDir)
	}
	own := slices.Clone(paths)
	for v := range cfg.Volumes {
		v, _, ok := guestPath(v)
		if !ok {
			continue
		}
		if slices.ContainsFunc(own, func(p string) bool { return v != "/" && (beneath(v, p) || beneath(p, v)) }) {
			paths = append(paths, v)
		}
	}
	if a.windows {
		for i, p := range paths {
			paths[i] = winpath.Absolute(strings.TrimPrefix(p, "/"))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// containerRoot stands for the root of a container in the variables of an image for Windows, whose processes see the whole
// machine.
const containerRoot = "%CONTAINER_ROOT%"

// guestPath reads an absolute path of a container, of Windows too, and returns it clean, with slashes and without a drive, as
// [database.Files] takes it.
func guestPath(p string) (clean string, windows, ok bool) {
	if path.IsAbs(p) {
		return path.Clean(p), false, true
	}
	if len(p) > len(containerRoot) && strings.EqualFold(p[:len(containerRoot)], containerRoot) {
		p = p[len(containerRoot):]
	}
	inside, err := winpath.Inside(p)
	if err != nil || !strings.Contains(p, `\`) && !winpath.HasDrive(p) {
		return "", false, false
	}
	return path.Join("/", inside), true, true
}

// beneath tells whether p is dir or lies in it; both are clean absolute paths.
func beneath(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// values returns every value that a variable has in a list of NAME=value, the last one first.
func values(env []string, name string) []string {
	var out []string
	for _, kv := range slices.Backward(env) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name && v != "" {
			out = append(out, v)
		}
	}
	return out
}

// unique removes repeated entries and keeps the order.
func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
