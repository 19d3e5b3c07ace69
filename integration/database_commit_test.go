//go:build linux

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestDatabaseCommitRunning: all files of one moment, and the way is told.
func TestDatabaseCommitRunning(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	name, image := d.clone(t, goldImage), unique(t)+":1"
	d.MustDocker(t, "exec", name, "sh", "-c", "echo own > /home/own; rm /etc/group-; mkdir -p /home/a/b; ln -s own /home/link")
	d.sql(t, name, "CREATE TABLE done AS SELECT 1", "DELETE FROM gold WHERE id <= 1000")
	d.DockerFails(t, []string{"running postgres database", "--pause=false"}, "commit", "--no-pause", name, image)
	id := d.commit(t, name, image, "-m", "why not", "-a", "me")
	// What comes later is not in the image.
	d.sql(t, name, "DROP TABLE done", "DELETE FROM gold", "VACUUM FULL gold", "CHECKPOINT")
	d.MustDocker(t, "exec", name, "sh", "-c", "echo changed > /home/own; rm -r /home/a")

	if got := d.show(t, image, ".Id"); got != id {
		t.Errorf("id %s, want %s", got, id)
	}
	all := d.commits(t, name)
	if len(all) != 1 {
		t.Fatalf("%d events of commits", len(all))
	}
	event := all[0]
	frozen, err := strconv.ParseFloat(event["freeze_ms"], 64)
	if event["mode"] != "frozen" || event["volumes"] != pgData || event["comment"] != "why not" ||
		event["imageRef"] != image || event["imageID"] != id || err != nil || frozen <= 0 {
		t.Errorf("event: %v", event)
	}
	history := d.MustDocker(t, "history", "--no-trunc", "--format", "{{.Comment}}", image)
	if first, _, _ := strings.Cut(history, "\n"); first != "why not (postgres files of one frozen moment, with "+pgData+")" {
		t.Errorf("history: %s", first)
	}
	if d.show(t, image, ".Author") != "me" {
		t.Error("the author is missing")
	}
	clone := d.clone(t, image)
	if got := d.sql(t, clone, "SELECT count(*) FROM gold", "SELECT count(*) FROM done"); got != "199000\n1" {
		t.Errorf("in the clone: %q", got)
	}
	if got := d.MustDocker(t, "exec", clone, "sh", "-c", "cat /home/link; ls -d /home/a/b; ls /etc/group- 2>/dev/null || echo gone"); got != "own\n/home/a/b\ngone" {
		t.Errorf("the container's own files: %q", got)
	}
}

func TestDatabaseCommitPaused(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	name, image := d.clone(t, goldImage), unique(t)+":1"
	d.sql(t, name, "CREATE TABLE paused AS SELECT 1")
	d.MustDocker(t, "pause", name)
	d.commit(t, name, image)
	if got := d.show(t, name, ".State.Status"); got != "paused" {
		t.Errorf("the container is %s", got)
	}
	d.commit(t, name, image, "--no-pause") // it stands still already
	d.MustDocker(t, "unpause", name)
	if all := d.commits(t, name); len(all) != 2 || all[0]["mode"] != "paused" || all[1]["mode"] != "paused" {
		t.Errorf("events: %v", all)
	}
	if got := d.MustDocker(t, "history", "--no-trunc", "--format", "{{.Comment}}", image); !strings.Contains(got, "files of a paused container, with "+pgData) {
		t.Errorf("history: %s", got)
	}
	clone := d.clone(t, image)
	d.wantGold(t, clone)
	if got := d.sql(t, clone, "SELECT count(*) FROM paused"); got != "1" {
		t.Error("the table is missing")
	}
	d.healthy(t, name)
}

// TestDatabaseCommitSharedVolume: files that another container writes to do not
// stand still, so they are not taken.
func TestDatabaseCommitSharedVolume(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	volume, image := unique(t), unique(t)+":1"
	t.Cleanup(func() { d.Docker("volume", "rm", "-f", volume) })
	server := d.clone(t, "-v", volume+":"+pgData, goldImage)
	idle := unique(t)
	d.MustDocker(t, "create", "--name", idle, "-v", volume+":"+pgData, goldImage)
	removeLater(t, d.Daemon, idle)
	d.DockerFails(t, []string{"volume " + volume, "written to by container " + server}, "commit", idle, image)
	d.DockerFails(t, []string{"No such"}, "image", "inspect", image)
	// One that runs and only reads is no obstacle; one that may write is.
	reader := backgroundOn(t, d.Daemon, "-v", volume+":/backup:ro", "busybox", "sleep", "600")
	d.commit(t, server, image)
	d.wantGold(t, d.clone(t, image))
	writer := backgroundOn(t, d.Daemon, "-v", volume+":/backup", "busybox", "sleep", "600")
	d.DockerFails(t, []string{"written to by container " + writer}, "commit", server, image)
	d.MustDocker(t, "rm", "-f", writer, reader)
	d.commit(t, server, image)
}

func TestDatabaseCommitStopped(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	name, image := d.clone(t, goldImage), unique(t)+":1"
	d.sql(t, name, "CREATE TABLE stopped AS SELECT 1")
	d.MustDocker(t, "stop", name)
	d.commit(t, name, image)
	if all := d.commits(t, name); len(all) != 1 || all[0]["mode"] != "stopped" || all[0]["volumes"] != pgData {
		t.Errorf("events: %v", all)
	}
	clone := d.clone(t, image)
	d.wantGold(t, clone)
	if got := d.sql(t, clone, "SELECT count(*) FROM stopped"); got != "1" {
		t.Error("the table is missing")
	}
	if log := d.Docker("logs", clone).Stderr; strings.Contains(log, "not properly shut down") {
		t.Errorf("it had to recover:\n%s", log)
	}
}

// TestDatabaseCommitChanges: --change says what the image's containers are like.
func TestDatabaseCommitChanges(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	name, image := d.clone(t, goldImage), unique(t)+":1"
	d.commit(t, name, image, "-c", `CMD ["postgres", "-c", "work_mem=7MB"]`, "-c", "LABEL team=blue", "-c", "ENV COLOUR=blue", "-c", "EXPOSE 7000")
	clone := d.clone(t, image)
	d.wantGold(t, clone)
	if got := d.MustDocker(t, "exec", clone, "sh", "-c", "echo $COLOUR"); got != "blue" {
		t.Errorf("environment: %q", got)
	}
	if got := d.sql(t, clone, "SHOW work_mem"); got != "7MB" {
		t.Errorf("command: %q", got)
	}
	if got := d.show(t, clone, `index .Config.Labels "team"}} {{index .Config.Labels "io.slipway.database"`); got != "blue postgres" {
		t.Errorf("labels: %s", got)
	}
}

// TestDatabaseCopyInto: what cp brings is in the commit, in the volume and outside of it.
func TestDatabaseCopyInto(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	name, image := d.clone(t, goldImage), unique(t)+":1"
	file := filepath.Join(t.TempDir(), "list.csv")
	if err := os.WriteFile(file, []byte("1\n2\n3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.MustDocker(t, "cp", file, name+":"+pgData+"/list.csv")
	d.MustDocker(t, "cp", file, name+":/home/")
	d.sql(t, name, "CREATE TABLE list (n int)", "COPY list FROM '"+pgData+"/list.csv'")
	d.commit(t, name, image)
	clone := d.clone(t, image)
	if got := d.sql(t, clone, "SELECT sum(n) FROM list"); got != "6" {
		t.Errorf("sum %s", got)
	}
	if got := d.MustDocker(t, "exec", clone, "cat", pgData+"/list.csv", "/home/list.csv"); got != "1\n2\n3\n1\n2\n3" {
		t.Errorf("files: %q", got)
	}
}

// TestDatabaseGenerations: commits of commits, more of them than layers can lie on each
// other, and each one's parent is removed.
func TestDatabaseGenerations(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	const many = 30
	repo, file := unique(t), filepath.Join(t.TempDir(), "file")
	parent := goldImage
	for n := range many {
		if err := os.WriteFile(file, []byte(strconv.Itoa(n)), 0o600); err != nil {
			t.Fatal(err)
		}
		container, image := unique(t), fmt.Sprintf("%s:%d", repo, n)
		removeLater(t, d.Daemon, container)
		d.MustDocker(t, "create", "--name", container, parent)
		d.MustDocker(t, "cp", file, fmt.Sprintf("%s:%s/generation%d", container, pgData, n))
		d.MustDocker(t, "cp", file, container+":/home/latest")
		d.commit(t, container, image)
		d.MustDocker(t, "rm", "-v", container)
		if parent != goldImage {
			d.MustDocker(t, "rmi", parent)
		}
		parent = image
	}
	if got, err := strconv.Atoi(d.show(t, parent, "len .RootFS.Layers")); err != nil || got >= many {
		t.Errorf("%d layers (%v): the chain was not shortened", got, err)
	}
	if got := len(lines(d.MustDocker(t, "history", "-q", parent))); got < many {
		t.Errorf("the history has %d entries", got)
	}
	last := d.clone(t, parent)
	d.wantGold(t, last)
	if got := d.MustDocker(t, "exec", last, "sh", "-c", "cat /home/latest; ls -d "+pgData+"/generation* | wc -l"); got != fmt.Sprintf("%d%d", many-1, many) {
		t.Errorf("files: %q", got)
	}
}

// TestDatabaseGenerationsRunning: each clone's database is written to and committed.
func TestDatabaseGenerationsRunning(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	const many = 10
	repo, parent := unique(t), goldImage
	for n := range many {
		container, image := d.clone(t, parent), fmt.Sprintf("%s:%d", repo, n)
		d.sql(t, container, fmt.Sprintf("CREATE TABLE generation%d AS SELECT * FROM gold WHERE id %% 10 = %d", n, n),
			fmt.Sprintf("DELETE FROM gold WHERE id %% 10 = %d", n))
		d.commit(t, container, image)
		d.MustDocker(t, "rm", "-fv", container)
		if parent != goldImage {
			d.MustDocker(t, "rmi", parent)
		}
		parent = image
	}
	last := d.clone(t, parent)
	if got := d.sql(t, last, "SELECT count(*) FROM gold"); got != "0" {
		t.Errorf("%s rows are left", got)
	}
	var union []string
	for n := range many {
		union = append(union, fmt.Sprintf("SELECT * FROM generation%d", n))
	}
	got := d.sql(t, last, "SELECT count(*), sum(hashtext(g::text)::bigint) FROM ("+strings.Join(union, " UNION ALL ")+") g")
	if got != d.digest {
		t.Errorf("the generations have %s, want %s", got, d.digest)
	}
}

// TestDatabaseNames: a tag is a name, and an image goes without its clones.
func TestDatabaseNames(t *testing.T) {
	t.Parallel()
	d := databaseEngine(t)
	source := d.clone(t, goldImage)
	image, second := unique(t)+":1", unique(t)+":2"
	id := d.commit(t, source, image)
	d.MustDocker(t, "rm", "-fv", source)
	d.MustDocker(t, "tag", image, second)
	if got := d.show(t, second, ".Id"); got != id {
		t.Errorf("id %s, want %s", got, id)
	}
	clone := d.clone(t, image)
	if out := d.MustDocker(t, "rmi", image); !strings.Contains(out, "Untagged: "+image) || strings.Contains(out, "Deleted") {
		t.Errorf("rmi of one of two names: %s", out)
	}
	d.DockerFails(t, []string{"container"}, "rmi", second)
	d.MustDocker(t, "rmi", "-f", second)
	if r := d.Docker("run", "--rm", second); r.Code == 0 {
		t.Error("a removed image runs")
	}
	d.sql(t, clone, "CREATE TABLE alive AS SELECT 1")
	d.MustDocker(t, "restart", clone)
	d.healthy(t, clone)
	d.wantGold(t, clone)
}
