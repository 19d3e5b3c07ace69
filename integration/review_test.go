//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"

	bolt "go.etcd.io/bbolt"
)

// TestStopBetweenRuns: a container that is stopped or removed while a run of it
// is being settled is not started again by its restart policy.
func TestStopBetweenRuns(t *testing.T) {
	t.Parallel()
	for i := range 6 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			name := background(t, "--restart=always", "busybox", "true")
			time.Sleep(time.Duration(20*i) * time.Millisecond)
			docker(t, "stop", name)
			testutil.Never(t, time.Second, "it is started again", func() bool { return inspect(t, name, ".State.Status") != "exited" })
			docker(t, "start", name)
			docker(t, "rm", "-f", name)
		})
	}
}

// restarting is a container that waits for its policy to start it again, for
// more than a second.
func restarting(t *testing.T) string {
	t.Helper()
	name := background(t, "--restart=always", "busybox", "sh", "-c", "exit 3")
	testutil.Eventually(t, "it waits for long", func() bool {
		var count int
		var status string
		_, err := fmt.Sscan(inspect(t, name, ".RestartCount}} {{.State.Status"), &count, &status)
		return err == nil && count >= 5 && status == "restarting"
	})
	return name
}

// TestEndOfBackoff: those who wait for a container learn that it is not started
// again.
func TestEndOfBackoff(t *testing.T) {
	t.Parallel()
	for how, args := range map[string][]string{"stop": {"stop"}, "kill": {"kill"}} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			name := restarting(t)
			ctx, cancel := context.WithTimeoutCause(t.Context(), testutil.Patience, errors.New("it does not end"))
			defer cancel()
			waits, follows := make(chan testutil.Result, 1), make(chan testutil.Result, 1)
			go func() { waits <- testutil.Finish(engine(t).DockerCommand(ctx, "wait", name)) }()
			go func() { follows <- testutil.Finish(engine(t).DockerCommand(ctx, "logs", "-f", name)) }()
			time.Sleep(300 * time.Millisecond)
			docker(t, append(args, name)...)
			if r := <-waits; r.Code != 0 || strings.TrimSpace(r.Stdout) != "3" {
				t.Errorf("wait: %+v", r)
			}
			if r := <-follows; r.Code != 0 {
				t.Errorf("logs: %+v", r)
			}
			if got := inspect(t, name, ".State.Status"); got != "exited" {
				t.Errorf("status %s", got)
			}
		})
	}
}

// dieAt starts the daemon again so that it dies at the failpoint, has do reach
// it, and starts another one.
func dieAt(t *testing.T, d *testutil.Daemon, failpoint string, do func()) {
	t.Helper()
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := d.Start("SLIPWAY_FAILPOINT=" + failpoint); err != nil {
		t.Fatal(err)
	}
	do()
	if !d.WaitExit(testutil.Patience) {
		t.Fatalf("%s was not reached", failpoint)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
}

// TestFaultRemovalKeepsVolumes: the daemon that finishes a removal removes the
// anonymous volumes only if that was asked for.
func TestFaultRemovalKeepsVolumes(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	for flag, kept := range map[string]bool{"-f": true, "-fv": false} {
		name := backgroundOn(t, d, "-v", "/held", "busybox", "true")
		volume := d.MustDocker(t, "inspect", "-f", "{{(index .Mounts 0).Name}}", name)
		dieAt(t, d, "container.remove.marked", func() { d.Docker("rm", flag, name) })
		d.DockerFails(t, []string{"o such"}, "inspect", name)
		if got := d.Docker("volume", "inspect", volume).Code == 0; got != kept {
			t.Errorf("rm %s: the volume is there: %v", flag, got)
		}
	}
}

// TestFaultLeftovers: what a start and an exec have made outside of the container
// goes with it when the daemon was killed.
func TestFaultLeftovers(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := unique(t)
	d.MustDocker(t, "create", "--name", name, "--ipc", "shareable", "busybox", "sleep", "600")
	dieAt(t, d, "container.start.created", func() { d.Docker("start", name) })
	d.MustDocker(t, "start", name)
	go d.Docker("exec", name, "sleep", "600")
	streams := filepath.Join(d.ExecRoot, "io", "exec")
	testutil.Eventually(t, "the exec has begun", func() bool { entries, err := os.ReadDir(streams); return err == nil && len(entries) > 0 })
	d.Kill()
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(streams); err == nil && len(entries) > 0 {
		t.Errorf("streams of an exec: %v", entries)
	}
	d.MustDocker(t, "stop", "-t", "0", name)
	dieAt(t, d, "container.start.created", func() { d.Docker("start", name) })
	d.MustDocker(t, "rm", "-f", name)
	mounts, err := d.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if strings.Contains(m, "/shm/") {
			t.Errorf("left: %s", m)
		}
	}
}

// TestFaultUnreadableRecord: a container whose record cannot be read keeps its
// files and its name, until somebody can read it.
func TestFaultUnreadableRecord(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := backgroundOn(t, d, "busybox", "sh", "-c", "echo data > /file")
	d.MustDocker(t, "wait", name)
	id := d.MustDocker(t, "inspect", "-f", "{{.Id}}", name)
	var record []byte
	changeRecords(t, d, "containers", func(b *bolt.Bucket) error {
		record = append(record, b.Get([]byte(id))...)
		return b.Put([]byte(id), []byte(`{"ID": 7`))
	})
	d.DockerFails(t, []string{"o such"}, "inspect", name)
	d.DockerFails(t, []string{"already in use"}, "create", "--name", name, "busybox")
	changeRecords(t, d, "containers", func(b *bolt.Bucket) error { return b.Put([]byte(id), record) })
	target := filepath.Join(t.TempDir(), "file")
	d.MustDocker(t, "cp", name+":/file", target)
	if data, err := os.ReadFile(target); err != nil || string(data) != "data\n" {
		t.Errorf("%q %v", data, err)
	}
}

// changeRecords changes what a daemon has stored, and starts it again.
func changeRecords(t *testing.T, d *testutil.Daemon, kind string, change func(*bolt.Bucket) error) {
	t.Helper()
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(d.DataRoot, "slipway.db"), 0o600, &bolt.Options{Timeout: testutil.Patience})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return change(tx.Bucket([]byte("records")).Bucket([]byte(kind))) })
	if err := errors.Join(err, db.Close(), d.Start()); err != nil {
		t.Fatal(err)
	}
}

// TestFaultUnreadableVolume: a clone's volume is made known again by its snapshot,
// under the container that runs with it, and goes with the container.
func TestFaultUnreadableVolume(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	busybox, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image := d.MustLoad(t, busybox.With(unique(t)+":1", []testutil.File{{Path: "data/rows", Content: "of the image"}}, func(c *testutil.ImageConfig) {
		c.Labels = map[string]string{"io.slipway.database": "postgres"}
		c.Volumes = map[string]struct{}{"/data": {}}
	}))
	name := backgroundOn(t, d, image, "sleep", "600")
	volume := d.MustDocker(t, "inspect", "-f", "{{(index .Mounts 0).Name}}", name)
	d.MustDocker(t, "exec", name, "sh", "-c", "echo -n changed > /data/more")
	for range 2 {
		before := d.MustDocker(t, "volume", "inspect", "-f", "{{.Labels}} {{.Status}}", volume)
		changeRecords(t, d, "volumes", func(b *bolt.Bucket) error { return b.Put([]byte(volume), []byte(`{"name": 7`)) })
		if after := d.MustDocker(t, "volume", "inspect", "-f", "{{.Labels}} {{.Status}}", volume); after != before {
			t.Errorf("the volume was %s and is %s", before, after)
		}
		d.MustDocker(t, "exec", name, "sh", "-c", "echo -n ' again' >> /data/more")
		checkFindsNothing(t, d)
	}
	if got := d.MustDocker(t, "run", "--rm", "--volumes-from", name, "busybox", "cat", "/data/rows", "/data/more"); got != "of the imagechanged again again" {
		t.Errorf("the volume has %q", got)
	}
	d.MustDocker(t, "rm", "-fv", name)
	checkFindsNothing(t, d)
}

// TestRestartKeeps: `docker restart` does not remove a container that is removed
// at its end.
func TestRestartKeeps(t *testing.T) {
	t.Parallel()
	name := idle(t, "--rm")
	docker(t, "restart", name)
	if got := inspect(t, name, ".State.Status"); got != "running" {
		t.Errorf("status %s", got)
	}
	docker(t, "stop", name)
	testutil.Eventually(t, "it is removed at its end", func() bool { return engine(t).Docker("inspect", name).Code != 0 })
}

// TestFaultAutomaticRemoval: a container that is removed at its end is removed
// also when the daemon dies in between.
func TestFaultAutomaticRemoval(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := unique(t)
	dieAt(t, d, "container.exit.recorded", func() { d.Docker("run", "--rm", "--name", name, "busybox", "true") })
	testutil.Eventually(t, "it is removed", func() bool { return d.Docker("inspect", name).Code != 0 })
}

// TestStartBeginsAnew: the tries of the restart policy are counted from the last
// start that a user asked for.
func TestStartBeginsAnew(t *testing.T) {
	t.Parallel()
	name := background(t, "--restart=on-failure:1", "-v", "/runs", "busybox", "sh", "-c", "echo run >> /runs/log; exit 5")
	for _, runs := range []int{2, 4} {
		testutil.Eventually(t, "it has run as often as it may", func() bool {
			return inspect(t, name, ".State.Status}} {{.RestartCount") == "exited 1" && strings.Count(copied(t, name, "/runs/log"), "run") == runs
		})
		docker(t, "start", name)
	}
}

// TestStartWithoutNetwork: what is missing is named with its own status.
func TestStartWithoutNetwork(t *testing.T) {
	t.Parallel()
	name, network := unique(t), unique(t)
	docker(t, "network", "create", network)
	docker(t, "create", "--name", name, "--network", network, "busybox", "true")
	removeLater(t, engine(t), name)
	docker(t, "network", "rm", network)
	status, data, err := engine(t).Request(http.MethodPost, "/containers/"+name+"/start", nil)
	if err != nil || status != http.StatusNotFound || strings.Contains(string(data), "create task") {
		t.Errorf("status %d, %s, %v", status, data, err)
	}
	if got := inspect(t, name, ".State.Status}} {{.State.ExitCode"); got != "created 128" {
		t.Errorf("state %s", got)
	}
}

func TestEmptyEntrypoint(t *testing.T) {
	t.Parallel()
	image := unique(t)
	busybox, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	engine(t).MustLoad(t, busybox.With(image+":latest", nil, func(c *testutil.ImageConfig) { c.Entrypoint = []string{"false"} }))
	if got := run(t, "--entrypoint", "", image, "echo", "hello"); got != "hello" {
		t.Errorf("got %q", got)
	}
	dockerFails(t, "no command specified", "create", "--entrypoint", "", image)
}

// TestFaultSecondStart: a start that is cut when the process runs already leaves
// a run like any other: with all of its output, and its restart policy.
func TestFaultSecondStart(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	const count = 60_000
	name := backgroundOn(t, d, "--restart=on-failure", "busybox", "sh", "-c", "[ -e /again ] || { touch /again; exit 0; }; seq "+strconv.Itoa(count)+"; exec sleep 600")
	d.MustDocker(t, "wait", name)
	d.MustDocker(t, "stop", name)
	dieAt(t, d, "container.start.started", func() { d.Docker("start", name) })
	testutil.Eventually(t, "all of its output is there", func() bool {
		return len(lines(d.MustDocker(t, "logs", name))) == count
	})
	assertCounts(t, d.MustDocker(t, "logs", name))
	process := d.ContainerProcess(t, name)
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "its policy starts it again", func() bool {
		return d.MustDocker(t, "inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name) == "running 1"
	})
}

// TestKillPaused: a signal that may end a paused container resumes it, and if the
// process lives on, the container can be used again.
func TestKillPaused(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "trap 'echo caught' TERM; while :; do sleep 0.1; done")
	docker(t, "pause", name)
	docker(t, "kill", "-s", "TERM", name)
	testutil.Eventually(t, "it goes on", func() bool { return docker(t, "logs", name) == "caught" })
	if got := inspect(t, name, ".State.Status"); got != "running" {
		t.Errorf("status %s", got)
	}
	docker(t, "exec", name, "true")
}

// TestExecWithoutClient: an exec goes on when its client goes away, however much
// it prints.
func TestExecWithoutClient(t *testing.T) {
	t.Parallel()
	name := idle(t)
	ctx, leave := context.WithCancelCause(t.Context())
	cmd := engine(t).DockerCommand(ctx, "exec", name, "sh", "-c", "touch /begun; sleep 1; yes | head -c 1000000; touch /done; sleep 600")
	ended := make(chan testutil.Result, 1)
	go func() { ended <- testutil.Finish(cmd) }()
	has := func(path string) func() bool {
		return func() bool { return engine(t).Docker("exec", name, "test", "-e", path).Code == 0 }
	}
	testutil.Eventually(t, "it has begun", has("/begun"))
	leave(errors.New("the client leaves"))
	<-ended
	testutil.Eventually(t, "it has printed everything", has("/done"))
}

// TestFaultTakeOverIncomplete: a container whose output is lost with the daemon
// can still be used, stopped and removed.
func TestFaultTakeOverIncomplete(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := backgroundOn(t, d, "busybox", "sleep", "600")
	process, id := d.ContainerProcess(t, name), d.MustDocker(t, "inspect", "-f", "{{.Id}}", name)
	d.Kill()
	if err := os.RemoveAll(filepath.Join(d.ExecRoot, "io", id)); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if got := d.MustDocker(t, "exec", name, "echo", "here"); got != "here" {
		t.Errorf("exec: %q", got)
	}
	d.MustDocker(t, "stop", "-t", "1", name)
	if process.Alive() {
		t.Error("the stopped container's process is there")
	}
	if got := d.MustDocker(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name); got != "exited 137" {
		t.Errorf("it is %s", got)
	}
	d.MustDocker(t, "start", name)
	d.MustDocker(t, "rm", "-f", name)
	checkFindsNothing(t, d)
}
