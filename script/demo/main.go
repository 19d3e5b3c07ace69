// Demo shows what Slipway is for: a database that is committed while it is written to, and three private writable
// copies of it, made and compared before one's eyes. It drives the docker client as a user would; every time that
// it prints was taken from the start of a client's process to its end, or to the first answered query.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/docker/go-units"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var e engine
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&e.host, "host", "unix:///run/slipway/slipway.sock", "the daemon's address")
	flags.StringVar(&e.docker, "docker", "bin/clients/docker", "the docker client")
	flags.StringVar(&e.slipway, "slipway", "bin/slipway", "Slipway's own client")
	size := flags.String("size", "1GB", "size of the database")
	if err := flags.Parse(args); err != nil {
		return err
	}
	bytes, err := units.FromHumanSize(*size)
	if err != nil || bytes <= 0 {
		return fmt.Errorf("%q is not a size", *size)
	}
	d := &demo{engine: e, size: bytes}
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Tidying up after an earlier demo", d.tidy},
		{"An image of this machine's own PostgreSQL", d.image},
		{"A container with a published port", d.container},
		{"This machine's package index, as tables", d.packages},
		{"pgbench's tables beside it", d.bench},
		{"A commit while pgbench runs", d.commit},
		{"Three clones of the commit", d.clones},
		{"One of them is changed", d.change},
	} {
		fmt.Printf("\n== %s\n", step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	fmt.Print("\n== In figures\n\n")
	return d.report()
}

// demo is what the steps find out.
type demo struct {
	engine
	size     int64 // asked for
	original server

	version    string // of the image: "postgres:15"
	tables     tableRows
	actual     int64 // bytes of the database
	commitTime time.Duration
	frozen     string // milliseconds, as the daemon says
	tps        string
	copies     []copied
}

// copied is one clone and what it cost.
type copied struct {
	server
	reply, query time.Duration
	bytes        int64
}
