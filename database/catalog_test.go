package database_test

import (
	"strings"
	"testing"

	"slipway/database"
	"slipway/database/postgres"

	"github.com/containerd/errdefs"
)

func TestForImage(t *testing.T) {
	catalog := database.NewCatalog(postgres.Engine{})
	official := []string{"PG_MAJOR=16", "PGDATA=/var/lib/postgresql/data"}
	for name, test := range map[string]struct {
		label   string
		env     []string
		adapter string
		warning string
		err     func(error) bool
	}{
		"no label":        {env: official},
		"by name":         {label: "postgres", adapter: "postgres"},
		"recognised":      {label: "auto", env: official, adapter: "postgres"},
		"mysql":           {label: "auto", env: []string{"MYSQL_MAJOR=8.0"}, warning: "mysql, which is not supported yet"},
		"mariadb":         {label: "auto", env: []string{"MARIADB_VERSION=1"}, warning: "mariadb"},
		"sqlserver":       {label: "auto", env: []string{"MSSQL_PID=x"}, warning: "sqlserver"},
		"nothing":         {label: "auto", env: []string{"PATH=/bin"}, warning: "no database was recognised"},
		"unsupported":     {label: "mysql", err: errdefs.IsNotImplemented},
		"means nothing":   {label: "oracle", err: errdefs.IsInvalidArgument},
		"capital letters": {label: "Postgres", err: errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			labels := map[string]string{}
			if test.label != "" {
				labels[database.Label] = test.label
			}
			a, warning, err := catalog.ForImage(labels, test.env)
			if (a != nil) != (test.adapter != "") || a != nil && a.Name() != test.adapter {
				t.Errorf("adapter %v, want %q", a, test.adapter)
			}
			if (warning != "") != (test.warning != "") || !strings.Contains(warning, test.warning) {
				t.Errorf("warning %q, want %q", warning, test.warning)
			}
			if (err != nil) != (test.err != nil) || test.err != nil && !test.err(err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestCapture(t *testing.T) {
	over := 0
	c := &database.Capture{Limit: 5, Over: func() { over++ }}
	for _, s := range []string{"abc", "de", "f", "ghi"} {
		if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("Write(%q) = %d, %v", s, n, err)
		}
		if got, want := c.Exceeded(), s == "f" || s == "ghi"; got != want {
			t.Errorf("after %q: exceeded %v", s, got)
		}
	}
	if string(c.Bytes()) != "abcde" || over != 1 {
		t.Errorf("kept %q, told %d times", c.Bytes(), over)
	}
}
