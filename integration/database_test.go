//go:build linux

package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/testutil"

	"golang.org/x/sys/unix"
)

const (
	goldPassword = "of gold"
	goldImage    = "gold:1"
	goldRows     = "200000"
	pgData       = "/var/lib/postgresql/data"
	mb           = 1 << 20
)

// databases is an engine with the image of a filled database.
type databases struct {
	*testutil.Daemon
	digest string // of the rows in goldImage
}

// sharedDatabases is what the tests of databases share, made by the first of them.
var sharedDatabases struct {
	once sync.Once
	databases
	ready bool
}

// databaseEngine is the engine that all tests of databases share. Those that are
// not parallel measure what all of it does.
func databaseEngine(t *testing.T) *databases {
	t.Helper()
	testutil.RequireRoot(t)
	if found, err := filepath.Glob("/usr/lib/postgresql/15/bin/postgres"); err != nil || len(found) == 0 {
		testutil.Skip(t, testutil.NeedsPostgres)
	}
	s := &sharedDatabases
	s.once.Do(func() {
		var err error
		if s.Daemon, err = newEngine(); err != nil {
			t.Fatal(err)
		}
		if r := s.Slipway("image", "from-host", "postgresql"); r.Code != 0 {
			t.Fatalf("image from-host: %s%s", r.Stdout, r.Stderr)
		}
		s.fill(t)
		s.ready = true
	})
	if !s.ready {
		t.Fatal("the golden database could not be made; the first test says why")
	}
	return &s.databases
}

// fill makes the golden image.
func (d *databases) fill(t *testing.T) {
	t.Helper()
	origin := backgroundOn(t, d.Daemon, "-e", "POSTGRES_PASSWORD="+goldPassword, postgresImage)
	d.healthy(t, origin)
	d.sql(t, origin, "CREATE TABLE gold AS SELECT n AS id, repeat(md5(n::text), 8) AS filling FROM generate_series(1, "+goldRows+") n")
	d.sql(t, origin, "VACUUM gold") // otherwise the first to read it writes all of it
	d.MustDocker(t, "commit", origin, goldImage)
	d.digest = d.rows(t, origin)
	if want := goldRows + "|"; !strings.HasPrefix(d.digest, want) {
		t.Fatalf("the origin has %s", d.digest)
	}
	d.MustDocker(t, "rm", "-fv", origin)
}

// clone runs a container and waits until its database answers.
func (d *databases) clone(t *testing.T, args ...string) string {
	t.Helper()
	name := backgroundOn(t, d.Daemon, args...)
	d.healthy(t, name)
	return name
}

func (d *databases) healthy(t *testing.T, container string) {
	t.Helper()
	d.becomes(t, container, "healthy")
}

// becomes waits for a state of health.
func (d *databases) becomes(t *testing.T, container, health string) {
	t.Helper()
	now := ""
	for deadline := time.Now().Add(3 * testutil.Patience); now != health; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is %s, not %s: %s\n%s", container, now, health, d.show(t, container, "json .State"), d.Docker("logs", "-n", "20", container).Stderr)
		}
		now = d.show(t, container, ".State.Health.Status")
	}
}

// show is one field of `docker inspect` of whatever has the name.
func (d *databases) show(t *testing.T, what, field string) string {
	t.Helper()
	return d.MustDocker(t, "inspect", "-f", "{{"+field+"}}", what)
}

// sql runs statements in the container, and gives what they print.
func (d *databases) sql(t *testing.T, container string, statements ...string) string {
	t.Helper()
	args := []string{"exec", container, "psql", "-XAtqU", "postgres", "-v", "ON_ERROR_STOP=1"}
	for _, s := range statements {
		args = append(args, "-c", s)
	}
	return d.MustDocker(t, args...)
}

// rows is the number of rows in the golden table, and a checksum.
func (d *databases) rows(t *testing.T, container string) string {
	t.Helper()
	return d.sql(t, container, "SELECT count(*), sum(hashtext(g::text)::bigint) FROM gold g")
}

func (d *databases) wantGold(t *testing.T, container string) {
	t.Helper()
	if got := d.rows(t, container); got != d.digest {
		t.Errorf("%s has the rows %s, want %s", container, got, d.digest)
	}
}

// commit makes an image that is removed at the end, unless a test did that.
func (d *databases) commit(t *testing.T, container, image string, options ...string) string {
	t.Helper()
	id := d.MustDocker(t, append(append([]string{"commit"}, options...), container, image)...)
	t.Cleanup(func() {
		if d.Running() {
			d.Docker("rmi", "-f", image)
		}
	})
	return id
}

// look runs a program on an image's files, its database does not start.
func (d *databases) look(t *testing.T, image, script string) string {
	t.Helper()
	return d.MustDocker(t, "run", "--rm", "--entrypoint", "sh", image, "-c", script)
}

// volumeAt is the name of the container's volume at a path.
func (d *databases) volumeAt(t *testing.T, container, path string) string {
	t.Helper()
	name := d.show(t, container, `range .Mounts}}{{if eq .Destination "`+path+`"}}{{.Name}}{{end}}{{end`)
	if name == "" {
		t.Fatalf("no volume at %s: %s", path, d.show(t, container, "json .Mounts"))
	}
	return name
}

// method says how the volume was filled.
func (d *databases) method(t *testing.T, volume string) string {
	t.Helper()
	return d.MustDocker(t, "volume", "inspect", "-f", "{{.Status.method}}", volume)
}

// commits are the attributes of the container's events of commits.
func (d *databases) commits(t *testing.T, container string) []map[string]string {
	t.Helper()
	out := d.MustDocker(t, "events", "--since", "30m", "--until", strconv.FormatInt(time.Now().Unix()+1, 10),
		"--filter", "event=commit", "--filter", "container="+container, "--format", "{{json .Actor.Attributes}}")
	var all []map[string]string
	for _, line := range lines(out) {
		var attributes map[string]string
		if err := json.Unmarshal([]byte(line), &attributes); err != nil {
			t.Fatal(err)
		}
		all = append(all, attributes)
	}
	return all
}

// used is what the pool's files take, in bytes.
func (d *databases) used(t *testing.T) int64 {
	t.Helper()
	unix.Sync() // what is not written out yet is not counted right
	var stat unix.Statfs_t
	if err := unix.Statfs(filepath.Join(d.DataRoot, "pool"), &stat); err != nil {
		t.Fatal(err)
	}
	return int64(stat.Blocks-stat.Bfree) * stat.Bsize
}

// settled is used when that has not changed for a while.
func (d *databases) settled(t *testing.T) int64 {
	t.Helper()
	used := d.used(t)
	for same := 0; same < 4; same++ {
		time.Sleep(500 * time.Millisecond)
		if now := d.used(t); now/mb != used/mb {
			used, same = now, 0
		}
	}
	return used
}

// snapshots counts the directories of layers.
func (d *databases) snapshots(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(d.DataRoot, "pool/containerd/*overlayfs/snapshots/*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("snapshots: %v, %v", found, err)
	}
	return len(found)
}

// TestDatabaseSpace: a clone copies nothing, and adds little up to its first query.
func TestDatabaseSpace(t *testing.T) {
	d := databaseEngine(t)
	size, err := strconv.ParseInt(d.look(t, goldImage, "du -sk "+pgData+" | cut -f1"), 10, 64)
	if err != nil || size < 60*1024 {
		t.Fatalf("the database takes %d KiB (%v), too little to see a copy", size, err)
	}
	for name, args := range map[string][]string{
		"overlay": {goldImage},
		"reflink": {"-v", unique(t) + ":" + pgData, goldImage},
	} {
		d.MustDocker(t, "rm", "-fv", d.clone(t, goldImage)) // so that the garbage of earlier work is collected
		before := d.settled(t)
		clone := d.clone(t, args...)
		d.wantGold(t, clone)
		if added := d.used(t) - before; added > 20*mb || added < -mb {
			t.Errorf("%s: a clone of %d MiB added %d MiB up to its first query", name, size>>10, added/mb)
		} else {
			t.Logf("%s: a clone of %d MiB added %.1f MiB", name, size>>10, float64(added)/mb)
		}
		volume := d.volumeAt(t, clone, pgData)
		if got := d.method(t, volume); got != name {
			t.Errorf("method %s, want %s", got, name)
		}
		d.MustDocker(t, "rm", "-fv", clone)
		d.Docker("volume", "rm", volume) // the named one
	}
}

// TestDatabaseAnonymousVolume: a path that the image declares is a volume like any other.
func TestDatabaseAnonymousVolume(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	name := d.clone(t, goldImage)
	if got := d.show(t, name, "range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}{{end"); got != "volume "+pgData+" true" {
		t.Errorf("mounts: %s", got)
	}
	volume := d.volumeAt(t, name, pgData)
	if got := d.MustDocker(t, "volume", "inspect", "-f", "{{.Status.method}} {{.Status.parent}}", volume); got != "overlay "+d.show(t, goldImage, ".Id") {
		t.Errorf("volume: %s", got)
	}
	if d.MustDocker(t, "volume", "ls", "-q", "--filter", "name="+volume) != volume {
		t.Error("volume ls does not list it")
	}
	// What is written lives through a restart, in this container only.
	d.sql(t, name, "CREATE TABLE mine AS SELECT 1")
	d.MustDocker(t, "restart", name)
	d.healthy(t, name)
	if got := d.sql(t, name, "SELECT count(*) FROM mine"); got != "1" {
		t.Errorf("after a restart: %s", got)
	}
	if other := d.clone(t, goldImage); d.sql(t, other, "SELECT to_regclass('mine') IS NULL") != "t" {
		t.Error("another clone has the table")
	}
	d.MustDocker(t, "rm", "-fv", name)
	if left := d.MustDocker(t, "volume", "ls", "-q", "--filter", "name="+volume); left != "" {
		t.Error("rm -v left the volume")
	}
}

// TestDatabaseNamedVolume: it wins over the anonymous one, and is filled once.
func TestDatabaseNamedVolume(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	volume := unique(t)
	t.Cleanup(func() { d.Docker("volume", "rm", "-f", volume) })
	name := d.clone(t, "-v", volume+":"+pgData, goldImage)
	if got := d.show(t, name, "range .Mounts}}{{.Name}} {{end"); got != volume+" " {
		t.Errorf("mounts: %s", got)
	}
	if got := d.method(t, volume); got != "reflink" {
		t.Errorf("method %s", got)
	}
	d.sql(t, name, "DELETE FROM gold WHERE id > 10")
	image := unique(t) + ":1"
	d.commit(t, name, image)
	d.MustDocker(t, "rm", "-fv", name)
	// The next container with the volume is no clone: it goes on.
	again := d.clone(t, "-v", volume+":"+pgData, goldImage)
	for _, container := range []string{again, d.clone(t, image)} {
		if got := d.sql(t, container, "SELECT count(*) FROM gold"); got != "10" {
			t.Errorf("%s rows, want 10", got)
		}
	}
}

// TestDatabaseVolumesFrom: another container sees the database's files, and its commit has
// them, whatever image it is of.
func TestDatabaseVolumesFrom(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	owner := d.clone(t, goldImage)
	d.sql(t, owner, "CREATE TABLE shared AS SELECT 1", "CHECKPOINT")
	if got := d.MustDocker(t, "run", "--rm", "--volumes-from", owner, "busybox", "cat", pgData+"/PG_VERSION"); got != "15" {
		t.Errorf("in a backup tool: %q", got)
	}
	d.MustDocker(t, "stop", owner)
	// An image with the database hidden by a whole layer of its own, below and above.
	whole, volume := unique(t)+":1", unique(t)
	t.Cleanup(func() { d.Docker("volume", "rm", "-f", volume) })
	third := d.clone(t, "-v", volume+":"+pgData, goldImage)
	d.MustDocker(t, "exec", third, "sh", "-c", "echo kept > "+pgData+"/third; rm "+pgData+"/pg_ident.conf")
	d.MustDocker(t, "stop", third)
	d.commit(t, third, whole)
	for _, image := range []string{postgresImage, goldImage, whole} {
		user, taken := d.clone(t, "--volumes-from", owner, image), unique(t)+":1"
		d.MustDocker(t, "stop", user)
		d.commit(t, user, taken)
		clone := d.clone(t, taken)
		d.wantGold(t, clone)
		if d.sql(t, clone, "SELECT to_regclass('shared') IS NOT NULL") != "t" {
			t.Errorf("of %s: the volume's changes are missing", image)
		}
	}
	// The volume of such an image, in a container of another.
	heir := d.clone(t, whole)
	d.MustDocker(t, "stop", heir)
	user, taken := d.clone(t, "--volumes-from", heir, goldImage), unique(t)+":1"
	d.MustDocker(t, "stop", user)
	d.commit(t, user, taken)
	if got := d.look(t, taken, "cd "+pgData+"; cat third; ls pg_ident.conf 2>/dev/null || echo gone"); got != "kept\ngone" {
		t.Errorf("the commit has %q", got)
	}
}

// TestDatabaseBind: a bind is the host's, it is used, and no commit has it.
func TestDatabaseBind(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	image := unique(t) + ":1"
	name := d.clone(t, "-v", dir+":"+pgData, "-e", "POSTGRES_PASSWORD=x", goldImage)
	if d.sql(t, name, "SELECT to_regclass('gold') IS NULL") != "t" {
		t.Error("the host's empty directory has the image's database")
	}
	d.sql(t, name, "CREATE TABLE bound AS SELECT 1")
	d.commit(t, name, image)
	if got := d.MustDocker(t, "history", "--no-trunc", "--format", "{{.Comment}}", image); !strings.Contains(got, "without the bind at "+pgData) {
		t.Errorf("history: %s", got)
	}
	if all := d.commits(t, name); len(all) != 1 || all[0]["volumes"] != "" {
		t.Errorf("events: %v", all)
	}
	clone := d.clone(t, image)
	d.wantGold(t, clone)
	if d.sql(t, clone, "SELECT to_regclass('bound') IS NULL") != "t" {
		t.Error("the commit has the bind's files")
	}
}

// TestDatabaseNestedVolume: the log in a volume of its own.
func TestDatabaseNestedVolume(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	const logPath = pgData + "/pg_wal"
	image := unique(t) + ":1"
	name := d.clone(t, "-v", logPath, goldImage)
	d.sql(t, name, "CREATE TABLE logged AS SELECT 1")
	d.commit(t, name, image)
	clone := d.clone(t, image)
	d.wantGold(t, clone)
	if got := d.sql(t, clone, "SELECT count(*) FROM logged"); got != "1" {
		t.Errorf("logged: %s", got)
	}
	// A new place in the volume, which the image does not have.
	const place = pgData + "/more/deep"
	holder := unique(t)
	removeLater(t, d.Daemon, holder)
	d.MustDocker(t, "run", "--name", holder, "-v", place, "--entrypoint", "sh", goldImage, "-c", "echo deep > "+place+"/file")
	d.commit(t, holder, image)
	if got := d.look(t, image, "cat "+place+"/file"); got != "deep" {
		t.Errorf("the commit has %q", got)
	}
}

// TestDatabaseLeftVolume: a container that never started leaves its copy to the next one,
// whose first start it is.
func TestDatabaseLeftVolume(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	volume := unique(t)
	t.Cleanup(func() { d.Docker("volume", "rm", "-f", volume) })
	d.MustDocker(t, "rm", d.MustDocker(t, "create", "-v", volume+":"+pgData, goldImage))
	name := d.clone(t, "-v", volume+":"+pgData, "-e", "POSTGRES_PASSWORD=new", "-p", "127.0.0.1::5432", goldImage)
	connect(t, d.Daemon, name, "new")
	d.MustDocker(t, "rm", "-f", name)
	// That was the first start.
	next := d.clone(t, "-v", volume+":"+pgData, "-e", "POSTGRES_PASSWORD=other", "-p", "127.0.0.1::5432", goldImage)
	connect(t, d.Daemon, next, "new")
}

// TestDatabaseWithoutLabel: everything is as in Docker.
func TestDatabaseWithoutLabel(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	image := unique(t) + ":1"
	name := backgroundOn(t, d.Daemon, "-l", "io.slipway.database=", goldImage)
	testutil.Eventually(t, "the database answers", func() bool {
		return d.Docker("exec", name, "psql", "-U", "postgres", "-c", "CREATE TABLE plain AS SELECT 1").Code == 0
	})
	if got := d.show(t, name, "json .State.Health"); got != "null" {
		t.Errorf("health: %s", got)
	}
	if got := d.show(t, name, "json .Config.StopTimeout"); got != "null" {
		t.Errorf("time-out: %s", got)
	}
	if got := d.MustDocker(t, "volume", "inspect", "-f", "{{json .Status}}", d.volumeAt(t, name, pgData)); got != "null" {
		t.Errorf("volume: %s", got)
	}
	d.MustDocker(t, "exec", name, "touch", "/home/own")
	d.commit(t, name, image)
	if got := d.look(t, image, "ls /home; stat -c %s "+pgData+"/global/pg_control"); got != "own\n8192" {
		t.Errorf("the commit has %q", got)
	}
	clone := d.clone(t, "-l", "io.slipway.database=postgres", image)
	if d.sql(t, clone, "SELECT to_regclass('plain') IS NULL") != "t" {
		t.Error("the commit has the volume's content")
	}
	d.wantGold(t, clone)
}
