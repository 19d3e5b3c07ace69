//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
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

// TestFaultRandomKill kills the daemon at moments that nobody chose, under a load
// of everything. What was acknowledged is there; nothing else is left.
func TestFaultRandomKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for round := range 10 {
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		var done []*script
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					s := newScript(w.d)
					err := mixedLoad(s) //nolint:contextcheck // a request that is cut off is the point
					mu.Lock()
					done = append(done, s)
					mu.Unlock()
					if err != nil && ctx.Err() == nil && w.d.Running() {
						t.Errorf("round %d: %v", round, err)
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(200+rand.IntN(1500)) * time.Millisecond)
		cancel(errors.New("the daemon is being killed"))
		w.d.Kill()
		wg.Wait()
		if err := w.d.Start(); err != nil {
			t.Fatal(err)
		}
		w.verify(t)
		for _, s := range done {
			s.verify(t)
		}
		w.clean(t)
		checkFindsNothing(t, w.d)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

// mixedLoad is a bit of everything with objects of the script's own.
func mixedLoad(s *script) error {
	return steps(
		func() error { return s.creates(networkKind, s.tag, "/networks/create", spec{"Name": s.tag}) },
		func() error { return s.creates(volumeKind, s.tag, "/volumes/create", spec{"Name": s.tag}) },
		func() error {
			return s.container(dataImage, spec{"HostConfig": spec{"NetworkMode": s.tag, "Binds": []string{s.tag + ":/stuff"}}})
		},
		func() error { return s.post("/containers/"+s.tag+"/start", nil) },
		func() error {
			return s.creates(imageKind, s.tag+":1", "/commit?container="+s.tag+"&repo="+s.tag+"&tag=1", spec{})
		},
		func() error { return s.post("/containers/"+s.tag+"/stop?t=0", nil) },
		func() error { return s.removes(containerKind, s.tag, "?force=1&v=1") },
		func() error { return s.removes(imageKind, s.tag+":1", "") },
		func() error { return s.removes(networkKind, s.tag, "") },
		func() error { return s.removes(volumeKind, s.tag, "") },
	)
}

// TestFaultOutputAlone: a container that fills its pipe while there is no daemon
// goes on writing, and nothing of it is lost.
func TestFaultOutputAlone(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	const count = 200_000 // lines, more than a megabyte: twenty pipes full
	name := backgroundOn(t, d, "busybox", "sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; seq "+strconv.Itoa(count)+"; exit 5")
	process := d.ContainerProcess(t, name)
	d.Kill()
	if err := os.WriteFile(process.RootPath("go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "it ends, though it has no daemon", func() bool { return !process.Alive() })
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if got := d.MustDocker(t, "wait", name); got != "5" {
		t.Errorf("exit code %s, want 5", got)
	}
	output := d.MustDocker(t, "logs", name)
	assertCounts(t, output)
	if got := len(lines(output)); got != count {
		t.Errorf("%d lines, want %d", got, count)
	}
}

// TestFaultShimKilledPolicy: a container whose shim is killed counts as killed,
// nothing of it stays, and its restart policy is kept.
func TestFaultShimKilledPolicy(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	plain := backgroundOn(t, d, "-p", "127.0.0.1::80", "busybox", "sleep", "600")
	again := backgroundOn(t, d, "--restart=on-failure", "busybox", "sleep", "600")
	before := d.ContainerProcess(t, again)
	for _, name := range []string{plain, again} {
		if err := d.ContainerProcess(t, name).Parent(t).Kill(); err != nil {
			t.Fatal(err)
		}
	}
	state := func(name string) string {
		return d.MustDocker(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)
	}
	testutil.Eventually(t, "the plain one has ended with 137", func() bool { return state(plain) == "exited 137" })
	testutil.Eventually(t, "the other is started again", func() bool {
		now := d.MustDocker(t, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", again)
		return strings.HasPrefix(now, "running ") && now != fmt.Sprintf("running %d", before)
	})
	checkFindsNothing(t, d)
}

// TestFaultRuncHangs: a runtime that does not answer delays nothing of other
// containers, its clients get an error in bounded time, and the container can be
// removed when it answers again.
func TestFaultRuncHangs(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	victim := backgroundOn(t, d, "busybox", "sleep", "600")
	other := backgroundOn(t, d, "busybox", "sleep", "600")
	id := d.MustDocker(t, "inspect", "-f", "{{.Id}}", victim)
	release := hangRuntime(t, d, id)
	defer release()
	began := time.Now()
	hung := make(chan error, 1)
	go func() {
		status, data, err := d.Request(http.MethodPost, "/containers/"+victim+"/pause", nil)
		if err == nil && status < http.StatusBadRequest {
			err = errors.New("pausing it succeeded")
		} else if err == nil {
			err = fmt.Errorf("status %d: %s", status, data)
		}
		hung <- err
	}()
	time.Sleep(200 * time.Millisecond) // runc hangs now
	for _, args := range [][]string{
		{"exec", other, "true"}, {"stop", "-t", "0", other}, {"start", other}, {"run", "--rm", "busybox", "true"}, {"ps"}, {"inspect", victim}, {"logs", victim},
	} {
		began := time.Now()
		d.MustDocker(t, args...)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("docker %s took %s while another container's runtime hung", strings.Join(args, " "), took)
		}
	}
	select {
	case err := <-hung:
		t.Logf("after %s: %v", time.Since(began).Round(time.Millisecond), err)
	case <-time.After(testutil.Patience):
		t.Errorf("the client of the hanging runtime has no answer after %s", testutil.Patience)
	}
	release()
	d.MustDocker(t, "kill", victim)
	d.MustDocker(t, "rm", victim)
	checkFindsNothing(t, d)
}

// hangRuntime has every runc for the container wait, by the file that it reads
// first: a FIFO that nobody writes, until release is called.
func hangRuntime(t *testing.T, d *testutil.Daemon, id string) (release func()) {
	t.Helper()
	file := filepath.Join(d.ExecRoot, "runc", "slipway", id, "state.json")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(file, file+".aside"), unix.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		fifo, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer fifo.Close()
		if err := os.Rename(file+".aside", file); err != nil {
			t.Fatal(err)
		}
		if _, err := fifo.Write(content); err != nil { // for the one that waits
			t.Fatal(err)
		}
	})
}
