//go:build linux

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/internal/testutil"
)

// slammer is one of many clients that do what comes to their minds with the same
// few containers.
type slammer struct {
	d    *testutil.Daemon
	rand *rand.Rand
	tar  []byte
	log  *slamLog
}

// slamLog collects what went wrong, once for each kind, and how long calls took.
type slamLog struct {
	mu      sync.Mutex
	calls   int
	slowest map[string]time.Duration // by operation
	wrong   map[string]string        // an example of each
}

// slowCall is longer than any call may take: above the longest time-out of a
// single step in the engine, and a deadlock is longer than that.
const slowCall = 45 * time.Second

func (s *slammer) name() string { return "slam" + strconv.Itoa(s.rand.IntN(8)) }

// slamOperations are chosen from with equal chances.
var slamOperations = []func(s *slammer){
	func(s *slammer) { s.create() }, func(s *slammer) { s.create() }, func(s *slammer) { s.create() },
	func(s *slammer) { s.call("start", http.MethodPost, "/containers/"+s.name()+"/start", nil) },
	func(s *slammer) { s.call("start", http.MethodPost, "/containers/"+s.name()+"/start", nil) },
	func(s *slammer) { s.call("start", http.MethodPost, "/containers/"+s.name()+"/start", nil) },
	func(s *slammer) { s.call("stop", http.MethodPost, "/containers/"+s.name()+"/stop?t=1", nil) },
	func(s *slammer) { s.call("restart", http.MethodPost, "/containers/"+s.name()+"/restart?t=0", nil) },
	func(s *slammer) { s.call("kill", http.MethodPost, "/containers/"+s.name()+"/kill", nil) },
	func(s *slammer) { s.call("rm -f", http.MethodDelete, "/containers/"+s.name()+"?force=1&v=1", nil) },
	func(s *slammer) { s.call("rm", http.MethodDelete, "/containers/"+s.name(), nil) },
	func(s *slammer) { s.call("pause", http.MethodPost, "/containers/"+s.name()+"/pause", nil) },
	func(s *slammer) { s.call("unpause", http.MethodPost, "/containers/"+s.name()+"/unpause", nil) },
	func(s *slammer) { s.call("unpause", http.MethodPost, "/containers/"+s.name()+"/unpause", nil) },
	func(s *slammer) {
		s.call("rename", http.MethodPost, "/containers/"+s.name()+"/rename?name="+s.name(), nil)
	},
	func(s *slammer) { s.call("inspect", http.MethodGet, "/containers/"+s.name()+"/json", nil) },
	func(s *slammer) { s.call("ps", http.MethodGet, "/containers/json?all=1&size=1", nil) },
	func(s *slammer) { s.call("diff", http.MethodGet, "/containers/"+s.name()+"/changes", nil) },
	func(s *slammer) { s.call("logs", http.MethodGet, "/containers/"+s.name()+"/logs?stdout=1", nil) },
	func(s *slammer) {
		s.call("cp to", http.MethodPut, "/containers/"+s.name()+"/archive?path=/tmp", bytes.NewReader(s.tar))
	},
	func(s *slammer) { s.call("cp from", http.MethodGet, "/containers/"+s.name()+"/archive?path=/etc", nil) },
	func(s *slammer) { s.commit() },
	func(s *slammer) { s.call("rmi", http.MethodDelete, "/images/slam:"+strconv.Itoa(s.rand.IntN(3)), nil) },
	func(s *slammer) { s.exec() }, func(s *slammer) { s.exec() },
	func(s *slammer) { s.network("connect") }, func(s *slammer) { s.network("disconnect") },
}

func (s *slammer) network(operation string) {
	s.call(operation, http.MethodPost, "/networks/"+s.networkName()+"/"+operation, spec{"Container": s.name()})
}

// networkName is that of a network which is there all the time.
func (s *slammer) networkName() string { return "slam-" + strconv.Itoa(s.rand.IntN(2)) }

func (s *slammer) create() {
	image := "busybox"
	if n := s.rand.IntN(6); n < 3 {
		image = "slam:" + strconv.Itoa(n) // may not be there
	}
	s.call("create", http.MethodPost, "/containers/create?name="+s.name(), spec{
		"Image": image, "Cmd": []string{"sh", "-c", "trap 'exit 0' TERM; echo started; while :; do sleep 0.2; done"},
		"ExposedPorts": spec{"80/tcp": spec{}}, "Volumes": spec{"/vol": spec{}},
		"HostConfig": spec{
			"PublishAllPorts": s.rand.IntN(2) == 0, "AutoRemove": s.rand.IntN(4) == 0, "NetworkMode": []string{"", s.networkName()}[s.rand.IntN(2)],
		},
	})
}

func (s *slammer) commit() {
	s.call("commit", http.MethodPost, "/commit?container="+s.name()+"&repo=slam&tag="+strconv.Itoa(s.rand.IntN(3)), spec{})
}

func (s *slammer) exec() {
	data := s.call("exec create", http.MethodPost, "/containers/"+s.name()+"/exec", spec{"Cmd": []string{"sh", "-c", "echo x >> /file; sleep 0.1"}})
	_, id, ok := strings.Cut(string(data), `"Id":"`)
	if !ok {
		return
	}
	id, _, _ = strings.Cut(id, `"`)
	s.call("exec start", http.MethodPost, "/exec/"+id+"/start", spec{"Detach": true})
}

// call makes a request. That the object is gone or in another state is part of
// the game; an internal error is not.
func (s *slammer) call(operation, method, path string, body any) []byte {
	began := time.Now()
	status, data, err := s.d.Request(method, path, body)
	took := time.Since(began)
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.slowest[operation] = max(l.slowest[operation], took)
	switch {
	case operation == "cp from" && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		// The container was stopped, and with it the archive.
	case operation == "cp to" && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)):
		// Refused before the archive was read.
	case strings.Contains(string(data), "is not connected to"), strings.Contains(string(data), "is marked for removal and cannot be connected"):
		// Docker's status for these is 500.
	case err != nil:
		l.wrong[operation+" gets no answer"] = err.Error()
	case status >= http.StatusInternalServerError:
		l.wrong[operation+" fails"] = fmt.Sprintf("%s: %d: %s", path, status, data)
	case took > slowCall:
		l.wrong[operation+" hangs"] = took.String()
	}
	return data
}

// TestFaultSlam: thirty clients at once on the same containers. Every call comes
// back in time and without an internal error, the race detector (see Destroy) is
// silent, and nothing is left.
func TestFaultSlam(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	tar, err := testutil.Layer([]testutil.File{{Path: "copied", Content: strings.Repeat("x", 10_000)}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		d.MustDocker(t, "network", "create", "slam-"+strconv.Itoa(i))
	}
	log := &slamLog{slowest: map[string]time.Duration{}, wrong: map[string]string{}}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("enough"))
	defer cancel()
	seed := rand.Uint64()
	var wg sync.WaitGroup
	for n := range 30 {
		s := &slammer{d: d, rand: rand.New(rand.NewPCG(seed, uint64(n))), tar: tar, log: log}
		wg.Go(func() {
			for ctx.Err() == nil {
				slamOperations[s.rand.IntN(len(slamOperations))](s)
			}
		})
	}
	wg.Wait()
	t.Logf("seed %d: %d calls, the slowest of each: %v", seed, log.calls, log.slowest)
	for what, example := range log.wrong {
		t.Errorf("%s: %s", what, example)
	}
	if ids := strings.Fields(d.MustDocker(t, "ps", "-aq")); len(ids) > 0 {
		r := d.Docker(append([]string{"rm", "-fv"}, ids...)...)
		if r.Code != 0 && !strings.Contains(r.Stderr, "No such container") && !strings.Contains(r.Stderr, "already in progress") {
			t.Errorf("removing all: %s", r.Stderr)
		}
	}
	checkFindsNothing(t, d)
	if races := d.Races(); races != "" {
		t.Errorf("the race detector found:\n%s", races)
	}
	var held []any
	d.API(t, http.MethodGet, "/debug/locks", nil, http.StatusOK, &struct{ Locks *[]any }{&held})
	if len(held) > 0 {
		t.Errorf("locks are held for ever: %v", held)
	}
}

// TestFaultCommitOntoOwnImage: a container's image gives its name to a commit of
// the container, as when a tag is a branch.
func TestFaultCommitOntoOwnImage(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	image := "branch:latest"
	d.MustDocker(t, "tag", "busybox", image)
	for round := range 3 {
		name := backgroundOn(t, d, image, "sh", "-c", "echo x >> /rounds; sleep 600")
		testutil.Eventually(t, "the file is written", func() bool {
			return strings.Count(d.Docker("exec", name, "cat", "/rounds").Stdout, "x") == round+1
		})
		began := time.Now()
		d.MustDocker(t, "commit", name, image)
		if took := time.Since(began); took > slowCall {
			t.Fatalf("the commit took %s", took)
		}
	}
	if got := d.MustDocker(t, "run", "--rm", image, "cat", "/rounds"); got != "x\nx\nx" {
		t.Errorf("got %q", got)
	}
}

// TestFaultManyFiles: a commit of 100,000 files delays no create of others.
func TestFaultManyFiles(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	d.MustDocker(t, "run", "--name", "many", "busybox", "sh", "-c",
		"for d in $(seq 100); do mkdir -p /files/$d && cd /files/$d && seq 1000 | xargs touch; done")
	create := func() time.Duration {
		s, began := newScript(d), time.Now()
		if err := s.container("busybox", nil); err != nil {
			t.Error(err)
		}
		took := time.Since(began)
		if err := s.removes(containerKind, s.tag, ""); err != nil {
			t.Error(err)
		}
		return took
	}
	var idle, busy []time.Duration
	for range 10 {
		idle = append(idle, create())
	}
	committed := make(chan time.Duration)
	go func() {
		began := time.Now()
		status, data, err := d.Request(http.MethodPost, "/commit?container=many&repo=many", spec{})
		if err != nil || status != http.StatusCreated {
			t.Errorf("the commit: status %d: %s %v", status, data, err)
		}
		committed <- time.Since(began)
	}()
	var took time.Duration
	for took == 0 {
		busy = append(busy, create())
		select {
		case took = <-committed:
		default:
		}
	}
	t.Logf("the commit took %s; the slowest create %s during it, %s before", took, slices.Max(busy), slices.Max(idle))
	if limit := 10*slices.Max(idle) + 500*time.Millisecond; slices.Max(busy) > limit {
		t.Errorf("a create took %s during a commit of %s, want below %s", slices.Max(busy), took, limit)
	}
}

// TestFaultStalledClients: stop, commit and rm -f do not wait for clients that
// hold an exec, copy and do not go on, or for a probe that hangs.
func TestFaultStalledClients(t *testing.T) { //nolint:tparallel // each is to be quick
	t.Parallel()
	d := ownEngine(t)
	for operation, args := range map[string][]string{
		"stop": {"stop"}, "rm": {"rm", "-f"}, "commit": {"commit"}, "kill": {"kill"}, "restart": {"restart"},
	} {
		t.Run(operation, func(t *testing.T) {
			name := backgroundOn(t, d, "--health-cmd", "sleep 1000", "--health-interval", "100ms", "--health-timeout", "1h",
				"busybox", "sh", "-c", "trap 'exit 0' TERM; dd if=/dev/zero of=/big bs=1M count=20 2>/dev/null; while :; do sleep 0.05; done")
			testutil.Eventually(t, "the probe hangs and the file is there", func() bool {
				return strings.Contains(d.Docker("exec", name, "ps").Stdout, "sleep 1000") && d.Docker("exec", name, "test", "-s", "/big").Code == 0
			})
			stalled := []*stalledClient{
				stall(t, d, "exec", "-i", name, "cat"),
				stall(t, d, "cp", name+":/big", "-"),
				stall(t, d, "cp", "-", name+":/tmp"),
			}
			time.Sleep(300 * time.Millisecond) // they have begun
			began := time.Now()
			d.MustDocker(t, append(args, name)...)
			// Under a second on an idle machine. This one has others on it, and the race
			// detector; what is not to be waited for would take for ever.
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("docker %s took %s", operation, took)
			}
			for _, s := range stalled {
				s.end(t)
			}
		})
	}
}

// stalledClient is a docker client whose input gives nothing and whose output
// nobody reads.
type stalledClient struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
}

func stall(t *testing.T, d *testutil.Daemon, args ...string) *stalledClient {
	t.Helper()
	s := &stalledClient{cmd: d.DockerCommand(t.Context(), args...)}
	var err1, err2 error
	s.stdin, err1 = s.cmd.StdinPipe()
	s.stdout, err2 = s.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, s.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	return s
}

// end lets the client go.
func (s *stalledClient) end(t *testing.T) {
	t.Helper()
	_ = s.cmd.Process.Kill() // it may have ended with the container
	_ = s.stdin.Close()
	_ = s.stdout.Close()
	_ = s.cmd.Wait()
}
