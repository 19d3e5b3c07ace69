package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
)

// report prints the table.
func (d *demo) report() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	row := func(what, value string) { fmt.Fprintf(w, "  %s\t%s\n", what, value) }
	row("database", fmt.Sprintf("%s: %d packages, %d dependencies, pgbench",
		units.HumanSize(float64(d.actual)), d.tables.packages, d.tables.dependencies))
	row("docker commit, under load", milliseconds(d.commitTime))
	row("  of that the database stood still", d.frozen+" ms")
	row("pgbench meanwhile", d.tps+" transactions a second")
	for _, c := range d.copies {
		row(fmt.Sprintf("clone %s (127.0.0.1:%d)", c.name, c.port), fmt.Sprintf("docker run %s, first answered query %s, %s added to the pool",
			milliseconds(c.reply), milliseconds(c.query), units.HumanSize(float64(c.bytes))))
	}
	return w.Flush()
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
