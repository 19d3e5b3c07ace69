package logs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/container/logs"
)

func TestOutputReachesLogAndClientCompletely(t *testing.T) {
	r := newRig(t)
	c := r.register(t, "c1", nil)
	a, err := r.Attach(t.Context(), "c1", logs.AttachOptions{Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	s := startShim(t, c.fifos)
	s.print(0, "one\ntwo\n")
	s.print(1, "err")
	s.print(1, "or\n")
	long := strings.Repeat("x", 40<<10) + "\nend without newline"
	s.print(0, long)
	s.exit()
	r.finish(t, "c1")
	var out, errOut bytes.Buffer
	if err := a.Copy(t.Context(), &out, &errOut); err != nil {
		t.Fatal(err)
	}
	want := "one\ntwo\n" + long
	if out.String() != want || errOut.String() != "error\n" {
		t.Errorf("attached: %d bytes of %d, stderr %q", out.Len(), len(want), &errOut)
	}
	gotOut, gotErr := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil)
	if gotOut != want || gotErr != "error\n" {
		t.Errorf("logged: %d bytes of %d, stderr %q", len(gotOut), len(want), gotErr)
	}
	b, err := os.ReadFile(c.Log.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(`{"log":"one\n","stream":"stdout","time":"`)) {
		t.Errorf("records: %.200s", b)
	}
	if n := bytes.Count(b, []byte{'\n'}); n != 2+1+3+1 {
		t.Errorf("%d records", n)
	}
}

func TestEndWaitsForTheFirstWriter(t *testing.T) {
	r := newRig(t)
	c := r.register(t, "c1", nil)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, context.DeadlineExceeded)
	defer cancel()
	if err := r.Wait(ctx, "c1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Wait before any writer: %v", err)
	}
	s := startShim(t, c.fifos)
	s.print(0, "x\n")
	s.exit()
	if err := r.Wait(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	// A task that was never made: Finish alone ends it.
	r.register(t, "c2", nil)
	r.finish(t, "c2")
}

func TestFinishNowEndsHeldOutput(t *testing.T) {
	r := newRig(t)
	c := r.register(t, "c1", nil)
	s := startShim(t, c.fifos)
	s.print(0, "kept\n")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, context.DeadlineExceeded)
	defer cancel()
	if err := r.Finish(ctx, "c1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Finish with a writer: %v", err)
	}
	if err := r.FinishNow(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if out, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil); out != "kept\n" {
		t.Errorf("log %q", out)
	}
}

func TestRegisterAgain(t *testing.T) {
	r := newRig(t)
	c := r.register(t, "c1", nil)
	s := startShim(t, c.fifos)
	s.print(0, "run 1\n")
	if err := r.Register(t.Context(), c.Registration); err != nil {
		t.Fatal(err)
	}
	s.exit()
	r.finish(t, "c1")
	if err := r.Register(t.Context(), c.Registration); err != nil {
		t.Fatal(err)
	}
	if st, err := r.Status(t.Context(), "c1"); err != nil || !st.Ended {
		t.Fatalf("same run again: %+v, %v", st, err)
	}
	c = r.register(t, "c1", func(reg *logs.Registration) { reg.Run = "2" })
	s = startShim(t, c.fifos)
	s.print(0, "run 2\n")
	s.exit()
	r.finish(t, "c1")
	if out, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil); out != "run 1\nrun 2\n" {
		t.Errorf("log %q", out)
	}
	for range 2 {
		if err := r.Unregister(t.Context(), "c1"); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := r.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("list %v, %v", list, err)
	}
}

func TestKilledKeeperLosesAndRepeatsNothing(t *testing.T) {
	r := newRig(t)
	lines := 300_000
	if raceDetector || runtime.GOOS == "windows" { // Wine takes long to start another keeper
		lines /= 10
	}
	c := r.register(t, "c1", func(reg *logs.Registration) { reg.Log.MaxSize, reg.Log.MaxFile = 4<<20, 50 })
	a, err := r.Attach(t.Context(), "c1", logs.AttachOptions{Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	copied := make(chan error, 1)
	go func() { copied <- a.Copy(t.Context(), &out, &errOut) }()
	s := startShim(t, c.fifos)
	var printing sync.WaitGroup
	for i := range 2 {
		printing.Go(func() {
			if err := number(s.out[i], 0, lines); err != nil {
				t.Error(err)
			}
		})
	}
	printed := make(chan struct{})
	go func() { printing.Wait(); close(printed) }()
	kills := 0
	for alive := true; alive; {
		select {
		case <-printed:
			alive = false
		case <-time.After(20 * time.Millisecond):
			if _, err := r.Status(t.Context(), "c1"); err != nil {
				t.Error(err)
			}
			if r.kill() {
				kills++
			}
		}
	}
	// The last is killed when the shim is gone and nobody but the daemon holds the FIFOs.
	r.kill()
	s.exit()
	r.finish(t, "c1")
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills", kills)
	if kills < 5 {
		t.Errorf("only %d kills", kills)
	}
	gotOut, gotErr := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil)
	checkNumbers(t, "logged stdout", gotOut, 0, lines)
	checkNumbers(t, "logged stderr", gotErr, 0, lines)
	checkNumbers(t, "attached stdout", out.String(), 0, lines)
	checkNumbers(t, "attached stderr", errOut.String(), 0, lines)
}

func TestKilledKeeperKeepsUnfinishedLine(t *testing.T) {
	r := newRig(t)
	c := r.register(t, "c1", nil)
	s := startShim(t, c.fifos)
	s.print(0, "begun, ")
	waitFor(t, func() bool {
		st, err := r.Status(t.Context(), "c1")
		return err == nil && st.Position[0] == 7
	})
	r.kill()
	s.print(0, "ended\n")
	s.exit()
	r.finish(t, "c1")
	if out, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil); out != "begun, ended\n" {
		t.Errorf("log %q", out)
	}
}

func TestDaemonGoesAndComesBack(t *testing.T) {
	r := newRig(t)
	c := r.register(t, "c1", nil)
	s := startShim(t, c.fifos)
	s.print(0, "before\n")
	pid := r.pid()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	s.print(0, "meanwhile\n")
	waitFor(t, func() bool {
		out, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil)
		return out == "before\nmeanwhile\n"
	})
	again := rigAt(t, r.root)
	if again.pid() != pid {
		t.Errorf("another keeper was started")
	}
	if err := again.Register(t.Context(), c.Registration); err != nil {
		t.Fatal(err)
	}
	s.print(0, "after\n")
	s.exit()
	again.finish(t, "c1")
	if out, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil); out != "before\nmeanwhile\nafter\n" {
		t.Errorf("log %q", out)
	}
}

func TestSecondKeeperIsRefused(t *testing.T) {
	r := newRig(t)
	err := exec.Command(filepath.Join(binDir, loggerName), "--exec-root", r.root).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("second keeper: %v", err)
	}
	if _, err := r.List(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSlowClientHoldsItsContainerOnly(t *testing.T) {
	r := newRig(t)
	slow, quick := r.register(t, "slow", nil), r.register(t, "quick", nil)
	a, err := r.Attach(t.Context(), "slow", logs.AttachOptions{Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	const lines = 100_000
	s := startShim(t, slow.fifos)
	done := make(chan error, 1)
	go func() { done <- number(s.out[0], 0, lines) }()
	q := startShim(t, quick.fifos)
	if err := number(q.out[0], 0, lines); err != nil {
		t.Fatal(err)
	}
	q.exit()
	r.finish(t, "quick")
	select {
	case err := <-done:
		t.Fatal("the container did not wait for its client: ", err)
	case <-time.After(300 * time.Millisecond):
	}
	st, err := r.Status(t.Context(), "slow")
	if err != nil {
		t.Fatal(err)
	}
	if st.Position[0] < 900<<10 || st.Position[0] > 2<<20 {
		t.Errorf("%d bytes were read", st.Position[0])
	}
	if err := a.Close(); err != nil { // it goes: the container goes on at once
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.exit()
	r.finish(t, "slow")
	out, _ := readAll(t, slow.Log.Path, logs.ReadOptions{Tail: -1}, nil)
	checkNumbers(t, "slow", out, 0, lines)
	out, _ = readAll(t, quick.Log.Path, logs.ReadOptions{Tail: -1}, nil)
	checkNumbers(t, "quick", out, 0, lines)
}

func TestUnregisterLeavesClientsTheRest(t *testing.T) {
	r := newRig(t)
	c := r.register(t, "c1", func(reg *logs.Registration) { reg.Log = logs.LogConfig{Driver: logs.DriverNone} })
	a, err := r.Attach(t.Context(), "c1", logs.AttachOptions{Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	s := startShim(t, c.fifos)
	const lines = 12_000 // about 700 KB: more than the socket holds
	if err := number(s.out[0], 0, lines); err != nil {
		t.Fatal(err)
	}
	s.exit()
	r.finish(t, "c1")
	if err := r.Unregister(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := a.Copy(t.Context(), &out, nil); err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, "attached", out.String(), 0, lines)
	if entries, _ := os.ReadDir(filepath.Join(r.root, "logger")); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestManyContainersAtOnce(t *testing.T) {
	r := newRig(t)
	before := r.descriptors()
	const containers, lines = 100, 500
	var all sync.WaitGroup
	for i := range containers {
		all.Go(func() {
			id := fmt.Sprintf("c%d", i)
			c := r.register(t, id, nil)
			a, err := r.Attach(t.Context(), id, logs.AttachOptions{Stdout: true, Stderr: true})
			if err != nil {
				t.Error(err)
				return
			}
			s := startShim(t, c.fifos)
			var out bytes.Buffer
			copied := make(chan error, 1)
			go func() { copied <- a.Copy(t.Context(), &out, nil) }()
			if err := number(s.out[0], i, i+lines); err != nil {
				t.Error(err)
			}
			s.exit()
			if err := errors.Join(r.Finish(t.Context(), id), <-copied); err != nil {
				t.Error(err)
			}
			checkNumbers(t, id+" attached", out.String(), i, i+lines)
			got, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1}, nil)
			checkNumbers(t, id+" logged", got, i, i+lines)
		})
	}
	all.Wait()
	list, err := r.List(t.Context())
	if err != nil || len(list) != containers {
		t.Errorf("%d registered, %v", len(list), err)
	}
	for _, st := range list {
		if err := r.Unregister(t.Context(), st.ID); err != nil {
			t.Error(err)
		}
	}
	waitFor(t, func() bool { return r.descriptors() <= before })
	if left, _ := os.ReadDir(filepath.Join(r.root, "logger")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Log(r.memory())
}

func TestFollowAcrossRotations(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compress=%v", compress), func(t *testing.T) {
			r := newRig(t)
			c := r.register(t, "c1", func(reg *logs.Registration) {
				reg.Log.MaxSize, reg.Log.MaxFile, reg.Log.Compress = 200<<10, 4, compress
			})
			lines, pause := 60_000, 2*time.Millisecond
			if runtime.GOOS == "windows" { // under Wine a file takes long to open: the followers would be left behind
				lines, pause = 20_000, 40*time.Millisecond
			}
			s := startShim(t, c.fifos)
			done := make(chan struct{})
			var followers sync.WaitGroup
			for i := range 3 {
				followers.Go(func() {
					out, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: -1, Follow: true}, done)
					checkNumbers(t, fmt.Sprintf("follower %d", i), out, 0, lines)
				})
			}
			for i := 0; i < lines; i += 500 {
				if err := number(s.out[0], i, i+500); err != nil {
					t.Fatal(err)
				}
				time.Sleep(pause)
			}
			s.exit()
			r.finish(t, "c1")
			close(done)
			followers.Wait()
			var files []string
			waitFor(t, func() bool { // compression comes after
				files, _ = filepath.Glob(c.Log.Path + "*")
				return len(files) == 4 && compress == strings.HasSuffix(files[1], ".gz")
			})
			// The last lines span several files.
			out, _ := readAll(t, c.Log.Path, logs.ReadOptions{Tail: 3000}, nil)
			checkNumbers(t, "tail", out, lines-3000, lines)
		})
	}
}
