package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/moby/term"
	"github.com/spf13/cobra"
)

// errProblems says that a check has found problems, which it has shown.
var errProblems = errors.New("problems were found")

// streams are where a command writes: its result, and what it has to say about it.
type streams struct{ out, err io.Writer }

// terminal tells whether progress can be shown.
func (s streams) terminal() bool {
	f, ok := s.err.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// table is a table of text whose columns line up.
type table struct{ w *tabwriter.Writer }

func (t *table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

// formatValue is the value of --format.
type formatValue string

const (
	formatTable formatValue = "table"
	formatJSON  formatValue = "json"
)

func (f *formatValue) String() string { return string(*f) }

func (f *formatValue) Type() string { return "format" }

func (f *formatValue) Set(s string) error {
	switch v := formatValue(s); v {
	case formatTable, formatJSON:
		*f = v
		return nil
	}
	return errors.New("it is table or json")
}

func formatFlag(cmd *cobra.Command, format *formatValue) {
	*format = formatTable
	cmd.Flags().Var(format, "format", "table or json")
}

// show writes a result as JSON or as the table that fill makes.
func (s streams) show(format formatValue, v any, fill func(*table)) error {
	if format == formatJSON {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
	fill(&table{w})
	return w.Flush()
}
