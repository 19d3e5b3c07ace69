package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

const (
	label     = "slipway.demo"
	committed = "demo:committed"
	clones    = 3

	bytesPerScale = 15 << 20 // of pgbench's tables
	benchSeconds  = 12
	commitAfter   = 5 * time.Second
)

// tidy removes the containers and the image of an earlier run.
func (d *demo) tidy(ctx context.Context) error {
	ids, _, err := d.quiet(ctx, "ps", "-aq", "--filter", "label="+label)
	if err != nil {
		return err
	}
	if list := strings.Fields(ids); len(list) > 0 {
		if _, _, err := d.quiet(ctx, append([]string{"rm", "-fv"}, list...)...); err != nil {
			return err
		}
	}
	if ids, _, err = d.quiet(ctx, "images", "-q", committed); err != nil || ids == "" {
		return err
	}
	_, _, err = d.quiet(ctx, "rmi", "-f", committed)
	return err
}

func (d *demo) image(ctx context.Context) (err error) {
	d.version, err = d.fromHost(ctx)
	return err
}

// start runs a container with a published port of the loopback address and returns how long the client took.
func (d *demo) start(ctx context.Context, name string, options ...string) (server, time.Duration, error) {
	port, err := freePort()
	if err != nil {
		return server{}, 0, err
	}
	args := append([]string{
		"run", "-d", "--name", name, "--label", label, "-p", fmt.Sprintf("127.0.0.1:%d:5432", port),
	}, options...)
	_, took, err := d.run(ctx, args...)
	return server{name: name, port: port}, took, err
}

func (d *demo) container(ctx context.Context) (err error) {
	d.original, _, err = d.start(ctx, "demo", "-e", "POSTGRES_PASSWORD="+password, "-e", "POSTGRES_DB=demo",
		"--shm-size", "256m", d.version, "-c", "max_wal_size=2GB")
	if err != nil {
		return err
	}
	return d.original.await(ctx, "SELECT 1")
}

func (d *demo) packages(ctx context.Context) error {
	x, err := readIndex(ctx)
	if err != nil {
		return err
	}
	if d.tables, err = x.load(ctx, d.original); err != nil {
		return err
	}
	fmt.Printf("%d packages, %d maintainers, %d dependencies\n", d.tables.packages, d.tables.maintainers, d.tables.dependencies)
	return d.original.exec(ctx, "ANALYZE")
}

const databaseSize = "SELECT pg_database_size('demo')"

func (d *demo) bench(ctx context.Context) error {
	have, err := d.original.number(ctx, databaseSize)
	if err != nil {
		return err
	}
	scale := max((d.size-have)/bytesPerScale, 1)
	if _, _, err := d.run(ctx, "exec", "demo", "pgbench", "-U", "postgres", "-i", "-q", "-I", "dtGvp", "-s", strconv.FormatInt(scale, 10), "demo"); err != nil {
		return err
	}
	d.actual, err = d.original.number(ctx, databaseSize)
	fmt.Println("the database has", units.HumanSize(float64(d.actual)))
	return err
}

var tpsLine = regexp.MustCompile(`tps = ([0-9.]+)`)

// commit commits the container in the middle of a run of pgbench.
func (d *demo) commit(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type result struct {
		out string
		err error
	}
	ended := make(chan result, 1)
	go func() {
		out, _, err := d.run(ctx, "exec", "demo", "pgbench", "-U", "postgres", "-c", "4", "-j", "2", "-T", strconv.Itoa(benchSeconds), "demo")
		ended <- result{out, err}
	}()
	var bench result
	early := false
	select {
	case bench = <-ended:
		early = true
	case <-time.After(commitAfter):
	}
	since := time.Now()
	_, took, err := d.run(ctx, "commit", "demo", committed)
	if err != nil {
		cancel(err)
	}
	if !early {
		bench = <-ended
	}
	if err = errors.Join(err, bench.err); err != nil {
		return err
	}
	if early {
		return errors.New("pgbench ended before the commit")
	}
	if m := tpsLine.FindStringSubmatch(bench.out); m != nil {
		d.tps = strings.SplitN(m[1], ".", 2)[0]
	}
	d.commitTime = took
	return d.freezeTime(ctx, since)
}

// freezeTime reads from the commit's event how long the container stood still.
func (d *demo) freezeTime(ctx context.Context, since time.Time) error {
	out, _, err := d.quiet(ctx, "events", "--since", fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		"--until", strconv.FormatInt(time.Now().Unix()+1, 10), "--filter", "container=demo", "--filter", "event=commit", "--format", "{{json .Actor.Attributes}}")
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(out, "\n")
	var attributes map[string]string
	if err := json.Unmarshal([]byte(line), &attributes); err != nil {
		return fmt.Errorf("the commit's event: %w", err)
	}
	d.frozen = attributes["freeze_ms"]
	return nil
}

func (d *demo) clones(ctx context.Context) error {
	for i := range clones {
		before, err := d.poolUsed(ctx)
		if err != nil {
			return err
		}
		begin := time.Now()
		s, reply, err := d.start(ctx, fmt.Sprintf("demo-%d", i+1), committed)
		if err != nil {
			return err
		}
		if err := s.await(ctx, "SELECT count(*) FROM packages"); err != nil {
			return err
		}
		query := time.Since(begin)
		after, err := d.poolUsed(ctx)
		if err != nil {
			return err
		}
		d.copies = append(d.copies, copied{s, reply, query, after - before})
	}
	return d.checkBalances(ctx)
}

// checkBalances proves that the commit caught one moment: in each clone pgbench's four sums are the same.
func (d *demo) checkBalances(ctx context.Context) error {
	const wrong = `SELECT count(DISTINCT s) - 1 FROM (
		SELECT sum(abalance) AS s FROM pgbench_accounts UNION ALL SELECT sum(bbalance) FROM pgbench_branches UNION ALL
		SELECT sum(tbalance) FROM pgbench_tellers UNION ALL SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS t`
	for _, c := range d.copies {
		if n, err := c.number(ctx, wrong); err != nil || n != 0 {
			return errors.Join(fmt.Errorf("%s: pgbench's sums differ", c.name), err)
		}
	}
	fmt.Println("in every clone the sums of pgbench's four tables are the same")
	return nil
}

// change changes one clone and shows that nobody else sees it.
func (d *demo) change(ctx context.Context) error {
	for _, sql := range []string{
		"DELETE FROM dependencies WHERE kind = 'Suggests'",
		"UPDATE packages SET version = version || '+mine' WHERE name LIKE 'postgresql%'",
	} {
		fmt.Printf("demo-1=# %s\n", sql)
		if err := d.copies[0].exec(ctx, sql); err != nil {
			return err
		}
	}
	const (
		suggestions = "SELECT count(*) FROM dependencies WHERE kind = 'Suggests'"
		changed     = "SELECT count(*) FROM packages WHERE version LIKE '%+mine'"
	)
	fmt.Printf("\n%-10s %20s %20s\n", "", "suggestions", "changed versions")
	for i, s := range append([]server{d.original}, d.copies[0].server, d.copies[1].server, d.copies[2].server) {
		a, err := s.number(ctx, suggestions)
		if err != nil {
			return err
		}
		b, err := s.number(ctx, changed)
		if err != nil {
			return err
		}
		fmt.Printf("%-10s %20d %20d\n", s.name, a, b)
		if mine := i == 1; (a == 0) != mine || (b > 0) != mine {
			return fmt.Errorf("%s sees what it should not", s.name)
		}
	}
	return nil
}
