package database

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Engine makes the adapters of one database engine.
type Engine interface {
	// Name is the value of [Label] for this engine.
	Name() string
	// Recognise tells whether a container with this environment holds this engine, for [Auto].
	Recognise(env []string) bool
	// Adapter makes the adapter for a container with this environment: the image's variables first, then
	// the container's, of which the last one of a name wins.
	Adapter(env []string) Adapter
}

// Catalog is the set of engines that this daemon knows.
type Catalog struct{ engines []Engine }

// NewCatalog makes a catalog; the order of engines is the order of recognition.
func NewCatalog(engines ...Engine) *Catalog { return &Catalog{engines: slices.Clone(engines)} }

// unsupported are the engines whose images are well known and which have no adapter: by name, the variables that
// only their images set.
var unsupported = []struct {
	name string
	env  []string
}{
	{"mariadb", []string{"MARIADB_VERSION", "MARIADB_MAJOR"}},
	{"mysql", []string{"MYSQL_MAJOR", "MYSQL_VERSION"}},
	{"sqlserver", []string{"MSSQL_SA_PASSWORD", "MSSQL_PID", "MSSQL_RPC_PORT"}},
	{"files", nil},
}

// ForImage returns the adapter of a container with these labels and this environment, or nil if it is not a data
// image. With [Auto], an engine that is not known makes an ordinary container, and the warning says why. An
// engine asked for by name that has no adapter is an error (errdefs.ErrNotImplemented, or
// errdefs.ErrInvalidArgument for a name that means nothing).
func (c *Catalog) ForImage(labels map[string]string, env []string) (a Adapter, warning string, err error) {
	name, ok := labels[Label]
	if !ok || name == "" {
		return nil, "", nil
	}
	if name == Auto {
		return c.recognise(env)
	}
	for _, e := range c.engines {
		if e.Name() == name {
			return e.Adapter(env), "", nil
		}
	}
	for _, u := range unsupported {
		if u.name == name {
			return nil, "", errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(
				"label %s=%s: this engine is not supported yet (supported: %s)", Label, name, c.names()))
		}
	}
	return nil, "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
		"label %s=%q names no database engine (supported: %s, %s)", Label, name, c.names(), Auto))
}

func (c *Catalog) recognise(env []string) (Adapter, string, error) {
	for _, e := range c.engines {
		if e.Recognise(env) {
			return e.Adapter(env), "", nil
		}
	}
	for _, u := range unsupported {
		for _, name := range u.env {
			if _, ok := Getenv(env, name); ok {
				return nil, fmt.Sprintf("%s=%s: this looks like %s, which is not supported yet; "+
					"the container is treated as one without a database", Label, Auto, u.name), nil
			}
		}
	}
	return nil, fmt.Sprintf("%s=%s: no database was recognised by the environment; name it (%s=%s) "+
		"or remove the label", Label, Auto, Label, c.names()), nil
}

func (c *Catalog) names() string {
	names := make([]string, len(c.engines))
	for i, e := range c.engines {
		names[i] = e.Name()
	}
	return strings.Join(names, ", ")
}

// Getenv returns the value of a variable in a list of NAME=value. The last one wins, as in a container.
func Getenv(env []string, name string) (string, bool) {
	for _, kv := range slices.Backward(env) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}
