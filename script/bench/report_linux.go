package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is the table that is printed in the end.
type report struct {
	rows   []row
	traces []string
}

type row struct{ what, ours, theirs, target, verdict string }

// add adds a figure that has no target.
func (r *report) add(what, ours, theirs string) { r.put(row{what, ours, theirs, "", ""}) }

// judge adds a figure with its target.
func (r *report) judge(what, ours, theirs, target string, pass bool) {
	verdict := "pass"
	if !pass {
		verdict = "**miss**"
	}
	r.put(row{what, ours, theirs, target, verdict})
}

func (r *report) failed(section string, err error) {
	r.put(row{section, "failed: " + strings.ReplaceAll(err.Error(), "\n", " "), "", "", "**miss**"})
}

func (r *report) put(line row) {
	r.rows = append(r.rows, line)
	fmt.Fprintf(os.Stderr, "bench: %s: %s | %s | %s %s\n", line.what, line.ours, line.theirs, line.target, line.verdict)
}

func (r *report) print(ctx context.Context, w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s\n\n| | Slipway | docker.io | target | |\n|---|---|---|---|---|\n", machine(ctx))
	for _, line := range r.rows {
		if _, err := fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", line.what, line.ours, line.theirs, line.target, line.verdict); err != nil {
			return err
		}
	}
	for _, trace := range r.traces {
		if _, err := io.WriteString(w, trace); err != nil {
			return err
		}
	}
	return err
}

// machine says on what the figures were taken.
func machine(ctx context.Context) string {
	kernel, _, _ := execute(exec.CommandContext(ctx, "uname", "-r"))
	load, _ := os.ReadFile("/proc/loadavg")
	memory, _ := os.ReadFile("/proc/meminfo")
	var kib int64
	_, _ = fmt.Sscanf(string(memory), "MemTotal: %d kB", &kib) // zero says that it is not known
	return fmt.Sprintf("%s, Linux %s, %d processors, %d GB of memory, load average at the end %s",
		time.Now().UTC().Format(time.DateOnly), kernel, runtime.NumCPU(), kib>>20, strings.Join(strings.Fields(string(load))[:3], " "))
}

// series are repeated measurements of one thing.
type series []float64

func (s *series) addTime(d time.Duration) { *s = append(*s, float64(d)/float64(time.Millisecond)) }

// percentile is the smallest value that p of all are not above.
func (s series) percentile(p float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

func (s series) median() float64 { return s.percentile(0.5) }

// String shows milliseconds.
func (s series) String() string {
	switch {
	case len(s) == 0:
		return "-"
	case len(s) < 3:
		return milliseconds(s.median())
	}
	return fmt.Sprintf("%s (p99 %.0f)", milliseconds(s.median()), s.percentile(0.99))
}

func milliseconds(ms float64) string {
	switch {
	case ms >= 10000:
		return fmt.Sprintf("%.1f s", ms/1000)
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

func megabytes(bytes float64) string { return fmt.Sprintf("%.1f MB", bytes/1e6) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
