package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

const schema = `
CREATE TABLE maintainers (
    id    int  PRIMARY KEY,
    name  text NOT NULL UNIQUE);
CREATE TABLE packages (
    id             int  PRIMARY KEY,
    name           text NOT NULL,
    version        text NOT NULL,
    section        text NOT NULL,
    installed_kib  int  NOT NULL,
    maintainer     int  NOT NULL REFERENCES maintainers,
    description    text NOT NULL,
    UNIQUE (name, version));
CREATE TABLE dependencies (
    id       int  PRIMARY KEY,
    package  int  NOT NULL REFERENCES packages,
    kind     text NOT NULL,
    wants    text NOT NULL,
    target   int  REFERENCES packages);
CREATE INDEX ON packages (maintainer);
CREATE INDEX ON dependencies (package);
CREATE INDEX ON dependencies (target);
`

// minPackages is what a package index has at least; with fewer it was never fetched.
const minPackages = 1000

// tableRows are the rows of each table.
type tableRows struct{ maintainers, packages, dependencies int64 }

// index is a package index in the shape of the tables.
type index struct {
	maintainers, packages, dependencies [][]any

	maintainerIDs map[string]int
	packageIDs    map[string]int // the newest version of each name; the one that came first
	seen          map[string]bool
}

// readIndex asks apt for every package that it knows, fetching the index if there is none.
func readIndex(ctx context.Context) (*index, error) {
	x, err := dumpAvailable(ctx)
	if err != nil || len(x.packages) >= minPackages {
		return x, err
	}
	fmt.Println("$ apt-get update")
	cmd := exec.CommandContext(ctx, "apt-get", "update", "-q")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("apt-get update: %w", err)
	}
	if x, err = dumpAvailable(ctx); err == nil && len(x.packages) < minPackages {
		err = errors.New("apt-cache dumpavail knows hardly any packages")
	}
	return x, err
}

func dumpAvailable(ctx context.Context) (*index, error) {
	cmd := exec.CommandContext(ctx, "apt-cache", "dumpavail")
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	x, err := parseIndex(out)
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("apt-cache dumpavail: %w", err)
	}
	return x, nil
}

// parseIndex reads paragraphs of "Field: value" lines.
func parseIndex(r io.Reader) (*index, error) {
	x := &index{maintainerIDs: map[string]int{}, packageIDs: map[string]int{}, seen: map[string]bool{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	fields := map[string]string{}
	for lines.Scan() {
		line := lines.Text()
		switch key, value, ok := strings.Cut(line, ":"); {
		case line == "":
			x.add(fields)
			clear(fields)
		case ok && line[0] != ' ' && line[0] != '\t':
			fields[key] = strings.TrimSpace(value)
		}
	}
	x.add(fields)
	x.resolve()
	return x, lines.Err()
}

// add takes in one package. The dependencies' targets are not known yet.
func (x *index) add(f map[string]string) {
	name, version := f["Package"], f["Version"]
	if name == "" || x.seen[name+" "+version] {
		return
	}
	x.seen[name+" "+version] = true
	maintainer, ok := x.maintainerIDs[f["Maintainer"]]
	if !ok {
		maintainer = len(x.maintainers) + 1
		x.maintainerIDs[f["Maintainer"]] = maintainer
		x.maintainers = append(x.maintainers, []any{maintainer, f["Maintainer"]})
	}
	id := len(x.packages) + 1
	if _, ok := x.packageIDs[name]; !ok {
		x.packageIDs[name] = id
	}
	kib, _ := strconv.Atoi(f["Installed-Size"]) // absent for a few
	x.packages = append(x.packages, []any{id, name, version, f["Section"], kib, maintainer, f["Description"]})
	for _, kind := range []string{"Pre-Depends", "Depends", "Recommends", "Suggests"} {
		for wants := range strings.SplitSeq(f[kind], ",") {
			if wants = strings.TrimSpace(wants); wants != "" {
				x.dependencies = append(x.dependencies, []any{len(x.dependencies) + 1, id, kind, wants, nil})
			}
		}
	}
}

// resolve finds the package that each dependency names first.
func (x *index) resolve() {
	for _, d := range x.dependencies {
		wants, _ := d[3].(string)
		name := wants
		if end := strings.IndexAny(wants, " (:|"); end >= 0 {
			name = wants[:end]
		}
		if id, ok := x.packageIDs[name]; ok {
			d[4] = id
		}
	}
}

// load creates the tables and fills them in one transaction.
func (x *index) load(ctx context.Context, s server) (tableRows, error) {
	var n tableRows
	conn, err := s.connect(ctx)
	if err != nil {
		return n, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, schema); err != nil {
			return err
		}
		for _, t := range []struct {
			name    string
			columns []string
			rows    [][]any
			count   *int64
		}{
			{"maintainers", []string{"id", "name"}, x.maintainers, &n.maintainers},
			{"packages", []string{"id", "name", "version", "section", "installed_kib", "maintainer", "description"}, x.packages, &n.packages},
			{"dependencies", []string{"id", "package", "kind", "wants", "target"}, x.dependencies, &n.dependencies},
		} {
			if *t.count, err = tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromRows(t.rows)); err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
		}
		return nil
	})
	return n, err
}
