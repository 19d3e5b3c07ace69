// Bench measures Slipway against Debian's Docker Engine on this machine and prints a table with the targets. Both
// engines run at the same time, each with a socket, a data root, a bridge and a containerd of its own, and take
// turns, so that whatever else the machine does meets both. Clocks run from the start of the docker client's process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options say what is measured and how long it may take.
type options struct {
	bin, root  string
	sections   string
	sizes      []int // of the databases, in GB
	runs       int
	containers int // idle ones, for the memory
	long       bool
}

// The windows of pgbench's throughput, in seconds: one at the beginning of a clone's life, and one after a while.
const (
	shortWindow, shortWait = 20, 60
	longWindow, longWait   = 60, 600
)

func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "bin", "directory of the built programs")
	flags.StringVar(&o.root, "root", env("BENCH_ROOT", "/var/lib/slipway-bench"), "directory for the engines' data (BENCH_ROOT)")
	flags.StringVar(&o.sections, "sections", env("BENCH_SECTIONS", "start,memory,database"), "what to measure (BENCH_SECTIONS)")
	sizes := flags.String("sizes", env("BENCH_SIZE", "1"), "sizes of the databases in GB (BENCH_SIZE); 10 is measured together with 1")
	runs := flags.String("runs", env("BENCH_RUNS", "20"), "how often each figure is taken (BENCH_RUNS)")
	containers := flags.String("containers", env("BENCH_CONTAINERS", "100"), "idle containers for the memory (BENCH_CONTAINERS)")
	flags.BoolVar(&o.long, "long", os.Getenv("BENCH_LONG") != "", "throughput of the first minute and after ten (BENCH_LONG)")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var err error
	for value, into := range map[*string]*int{runs: &o.runs, containers: &o.containers} {
		if *into, err = strconv.Atoi(*value); err != nil || *into < 1 {
			return nil, fmt.Errorf("%q is not a number of at least 1", *value)
		}
	}
	for field := range strings.SplitSeq(*sizes, ",") {
		size, err := strconv.Atoi(field)
		if err != nil || size < 1 {
			return nil, fmt.Errorf("%q is not a size in GB", field)
		}
		o.sizes = append(o.sizes, size)
	}
	if len(o.sizes) == 1 && o.sizes[0] > 1 {
		o.sizes = []int{1, o.sizes[0]} // the two are compared
	}
	return o, nil
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func (o *options) wants(section string) bool {
	return strings.Contains(","+o.sections+",", ","+section+",")
}

func run(ctx context.Context, args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("run as root: the engines need it")
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	for _, section := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"start", b.starts},
		{"memory", b.memory},
		{"database", b.databases},
	} {
		if !o.wants(section.name) {
			continue
		}
		// What was measured is worth printing even if the rest cannot be.
		if err := section.do(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", section.name, err)
			b.report.failed(section.name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return b.report.print(ctx, os.Stdout)
}
