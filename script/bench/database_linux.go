package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// scalePerGB is pgbench's scale factor that makes a gigabyte.
	scalePerGB = 67
	// factRows are the rows of the table that the first query counts. They are as many in a large database as in
	// a small one: what is measured is how long the copy takes, not how long a table is read.
	factRows = 100_000
	factsSQL = "SELECT count(*) FROM facts"

	// rate is the load under which the commit is made whose clones are measured: the same for every size, so that
	// they have as much to recover.
	rate = 300 // transactions a second

	commits = 5
	pause   = 5 * time.Second // before each
	wal     = "max_wal_size=4GB"

	withinOf      = 0.10 // of each other: first queries of 1 GB and 10 GB
	aboveBare     = 150  // ms
	maxCommit     = 1000 // ms
	maxFrozen     = 200  // ms
	maxFragmented = 300  // ms, frozen
	maxRead       = 50e6
	maxAdded      = 20e6
	manyExtents   = 150_000
)

// database is one database under measurement.
type database struct {
	*bench
	size     int // GB
	original server
	image    string
	tps      float64 // of the original before it was ever committed
	query    series  // first queries of its clones
}

// databases measures commits and clones of databases of all sizes.
func (b *bench) databases(ctx context.Context) error {
	var all []*database
	for i, size := range b.sizes {
		d := &database{bench: b, size: size, image: fmt.Sprintf("bench:%dgb", size)}
		all = append(all, d)
		steps := []func(context.Context) error{d.create, d.commitUnderLoad, d.clones, d.copies}
		if i == len(b.sizes)-1 {
			steps = append(steps, d.throughputs, d.fragmented)
		}
		var err error
		for _, step := range steps {
			if err = step(ctx); err != nil {
				break
			}
		}
		for _, e := range b.engines() {
			err = errors.Join(err, e.clear(context.WithoutCancel(ctx)))
		}
		if _, _, e := b.slipway.docker(ctx, "rmi", "-f", d.image); e != nil {
			err = errors.Join(err, e)
		}
		if _, _, e := b.slipway.docker(ctx, "image", "prune", "-f"); e != nil {
			err = errors.Join(err, e)
		}
		if err != nil {
			return fmt.Errorf("%d GB: %w", size, err)
		}
	}
	if len(all) > 1 {
		first, last := all[0], all[len(all)-1]
		ratio := last.query.median() / first.query.median()
		b.report.judge(fmt.Sprintf("clone to first query, %d GB against %d GB", last.size, first.size), fmt.Sprintf("%.2f ×", ratio), "",
			"≤ 1.10 ×", ratio <= 1+withinOf)
	}
	return nil
}

func (d *database) name(what string) string { return fmt.Sprintf("%s (%d GB)", what, d.size) }

// run runs a container with the database's port published and returns how long the client took.
func (d *database) run(ctx context.Context, e *engine, name string, options ...string) (server, time.Duration, error) {
	port, err := freePort()
	if err != nil {
		return server{}, 0, err
	}
	s := server{container: name, port: port, netns: e.netns}
	_, took, err := e.docker(ctx, append([]string{
		"run", "-d", "--name", name, "--shm-size", "256m", "-p", fmt.Sprintf("127.0.0.1:%d:5432", port),
	}, options...)...)
	return s, took, err
}

// create makes the original, and measures it while it shares nothing with a copy.
func (d *database) create(ctx context.Context) (err error) {
	d.original, _, err = d.run(ctx, d.slipway, "original", "-e", "POSTGRES_PASSWORD="+password, "-e", "POSTGRES_DB=bench", d.images.postgres, "-c", wal)
	if err != nil {
		return err
	}
	if err := d.original.await(ctx, "SELECT 1"); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "bench: filling %d GB\n", d.size)
	if _, err := d.pgbench(ctx, d.original, "-i", "-q", "-s", strconv.Itoa(d.size*scalePerGB)); err != nil {
		return err
	}
	for _, sql := range []string{
		fmt.Sprintf("CREATE TABLE facts AS SELECT i, md5(i::text) AS fact FROM generate_series(1, %d) AS i", factRows), "VACUUM facts", "CHECKPOINT",
	} {
		if err := d.original.exec(ctx, sql); err != nil {
			return err
		}
	}
	d.tps, err = d.throughput(ctx, d.original, d.window())
	return err
}

func (b *bench) window() int {
	if b.long {
		return longWindow
	}
	return shortWindow
}

// commitUnderLoad commits the running original while pgbench writes to it, and again and again. The clones are of the
// first commit: after it the original shares its files with an image, and every write splits them.
func (d *database) commitUnderLoad(ctx context.Context) error {
	quiet, err := d.commits(ctx, d.original, 1, idle)
	if err != nil {
		return err
	}
	d.judgeCommits("docker commit of the running database, nobody writing", quiet)
	if _, _, err := d.slipway.docker(ctx, "rmi", d.image); err != nil { // the original shares nothing again
		return err
	}
	since := time.Now()
	c, err := d.commits(ctx, d.original, 1, "-R", strconv.Itoa(rate))
	if err != nil {
		return err
	}
	d.judgeCommits(fmt.Sprintf("docker commit of the running database, pgbench writing at %d tps", rate), c)
	if err := d.trace(ctx, d.name("The first docker commit of the running database"), since, "POST /commit"); err != nil {
		return err
	}
	if _, _, err := d.slipway.docker(ctx, "tag", d.image, d.image+"-first"); err != nil {
		return err
	}
	if c, err = d.commits(ctx, d.original, commits); err != nil {
		return err
	}
	d.report.add(d.name(fmt.Sprintf("%d more commits of it, every %v, pgbench writing all it can", commits, pause)), c.took.String(), "")
	d.report.add(d.name("… of that frozen"), c.frozen.String(), "")
	d.report.add(d.name("… transactions a second meanwhile"), fmt.Sprintf("%.0f; %.0f before the first commit", c.tps, d.tps), "")
	_, _, err = d.slipway.docker(ctx, "rm", "-fv", d.original.container)
	if err == nil {
		_, _, err = d.slipway.docker(ctx, "rmi", d.image)
	}
	d.image += "-first"
	return err
}

func (d *database) judgeCommits(what string, c *commit) {
	d.report.judge(d.name(what), c.took.String(), "takes no volumes", "< 1 s", c.took.median() < maxCommit)
	d.report.judge(d.name("… of that frozen"), c.frozen.String(), "", "< 200 ms", c.frozen.percentile(1) < maxFrozen)
	d.report.judge(d.name("… bytes read by the daemon"), megabytes(c.read.percentile(1)), "", "< 50 MB", c.read.percentile(1) < maxRead)
}

// commit is what several commits of one container took.
type commit struct {
	took, frozen, read series
	tps                float64
}

// idle in place of options for pgbench means that it does not run.
const idle = "idle"

// commits makes several commits of a container, under as much load as there can be, unless options for pgbench say
// otherwise.
func (d *database) commits(ctx context.Context, s server, times int, options ...string) (*commit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type load struct {
		tps float64
		err error
	}
	done := make(chan load, 1)
	if slices.Contains(options, idle) {
		done <- load{}
	} else {
		go func() {
			tps, err := d.throughput(ctx, s, (times+2)*int(pause/time.Second), options...)
			done <- load{tps, err}
		}()
	}
	c := &commit{}
	for range times {
		time.Sleep(pause)
		since := time.Now()
		before, err := d.slipway.bytesRead()
		if err != nil {
			return nil, err
		}
		_, took, err := d.slipway.docker(ctx, "commit", s.container, d.image)
		if err != nil {
			return nil, err
		}
		after, err := d.slipway.bytesRead()
		if err != nil {
			return nil, err
		}
		frozen, err := d.frozen(ctx, since)
		if err != nil {
			return nil, err
		}
		c.took.addTime(took)
		c.read = append(c.read, float64(after-before))
		c.frozen = append(c.frozen, frozen)
	}
	result := <-done
	c.tps = result.tps
	return c, result.err
}

// frozen asks the daemon how long the last commit kept the processes frozen, in milliseconds.
func (d *database) frozen(ctx context.Context, since time.Time) (float64, error) {
	stamp := func(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
	out, _, err := d.slipway.docker(ctx, "events", "--since", stamp(since), "--until", stamp(time.Now()),
		"--filter", "event=commit", "--format", `{{index .Actor.Attributes "freeze_ms"}}`)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(out, 64)
}

// bytesRead is what the daemon has had read from disks.
func (e *engine) bytesRead() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", e.daemon.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "read_bytes: "); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, errors.New("/proc/<pid>/io has no read_bytes")
}

// throughputs compares pgbench in a clone with the original.
func (d *database) throughputs(ctx context.Context) error {
	wait := shortWait
	if d.long {
		wait = longWait
	}
	s, _, err := d.run(ctx, d.slipway, "clone", d.image)
	if err != nil {
		return err
	}
	if err := s.await(ctx, factsSQL); err != nil {
		return err
	}
	first, err := d.throughput(ctx, s, d.window())
	if err != nil {
		return err
	}
	if _, err := d.throughput(ctx, s, wait-d.window()); err != nil {
		return err
	}
	later, err := d.throughput(ctx, s, d.window())
	if err != nil {
		return err
	}
	show := func(tps float64) string { return fmt.Sprintf("%.0f tps, %.2f × the original", tps, tps/d.tps) }
	d.report.add(d.name("pgbench in the original before any commit"), fmt.Sprintf("%.0f tps", d.tps), "")
	d.report.add(d.name(fmt.Sprintf("pgbench in a clone, its first %d s", d.window())), show(first), "")
	d.report.add(d.name(fmt.Sprintf("pgbench in a clone after %d s of load", wait)), show(later), "")
	_, _, err = d.slipway.docker(ctx, "rm", "-fv", s.container)
	return err
}
