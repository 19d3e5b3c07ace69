//go:build linux

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"slipway/integration/vm/agent"
)

// TestPowerCut cuts the power of a machine again and again, each time at another
// moment, while money is transferred in a database. After each cut, all that was
// acknowledged before has to be there: transfers, images with every transfer
// that was acknowledged before the commit was asked for, containers made or
// removed, images loaded.
func TestPowerCut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &world{file: newBankDisk(t), rng: rand.New(rand.NewPCG(seed, 1)), images: map[string]int64{}, exists: map[string]bool{}}
	w.boot(t)
	t.Cleanup(func() { w.m.cutPower(t) })
	w.furnish(t)
	for _, moment := range []struct {
		name string
		cut  func(*world, *testing.T)
	}{
		{"DuringCommit", (*world).cutDuringCommit},
		{"AfterCommit", (*world).cutAfterCommit},
		{"DuringCreateAndRemove", (*world).cutDuringCreateAndRemove},
		{"DuringLoad", (*world).cutDuringLoad},
		{"DuringStartOfDaemon", (*world).cutDuringStart},
	} {
		ok := t.Run(moment.name, func(t *testing.T) {
			moment.cut(w, t)
			w.m.cutPower(t)
			w.boot(t)
			w.verify(t)
		})
		if !ok {
			t.FailNow() // the rest would fail for the same reason
		}
	}
}

// madePrefix begins the names of containers that were made to be removed.
const madePrefix = "made"

// world is what was acknowledged before the power was cut.
type world struct {
	file string // of the disk
	rng  *rand.Rand
	m    *machine // of now
	bank bank

	images map[string]int64 // committed ones: transfers that must be in each
	newest string           // of them
	commit time.Duration    // that the last one took
	exists map[string]bool  // by what `docker inspect` takes; absent: not known
	number int              // for names
}

func (w *world) name(prefix string) string {
	w.number++
	return fmt.Sprintf("%s-%d", prefix, w.number)
}

// boot starts the machine, which outlives the part of the test that does it.
func (w *world) boot(t *testing.T) {
	t.Helper()
	w.m = boot(t, w.file, w.rng.Uint64())
	// What is written without a flush goes to the disk soon, and in part, where it
	// would else lie in memory and be lost together.
	w.m.sh(t, "echo 20 >/proc/sys/vm/dirty_writeback_centisecs; echo 20 >/proc/sys/vm/dirty_expire_centisecs")
}

// furnish starts the bank and containers of each restart policy.
func (w *world) furnish(t *testing.T) {
	t.Helper()
	w.m.startDaemon(t)
	w.m.docker(t, "run", "-d", "--name", bankName, bankImage)
	awaitDatabase(t, w.m, bankName)
	w.m.docker(t, "run", "-d", "--name", "no-policy", "busybox", "sleep", "100000")
	w.m.docker(t, "run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "100000")
	w.m.docker(t, "run", "-d", "--name", "unless-stopped", "--restart", "unless-stopped", "busybox", "sleep", "100000")
	w.m.docker(t, "run", "-d", "--name", "stopped", "--restart", "unless-stopped", "busybox", "sleep", "100000")
	w.m.docker(t, "stop", "-t", "0", "stopped")
}

// reply runs the docker client and returns when it prints something or has
// ended, whichever is first: printing is the acknowledgement. It fails if the
// machine goes away, or the command fails, before that.
func (w *world) reply(ctx context.Context, args ...string) error {
	var errs bytes.Buffer
	printed := make(chan struct{}, 1)
	p, err := w.m.Start(agent.Options{Stdout: notify(printed), Stderr: &errs}, append(dockerCommand, args...)...)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		code, err := p.Wait(ctx)
		if err == nil && code != 0 {
			err = fmt.Errorf("docker %s: exit code %d: %s", strings.Join(args, " "), code, &errs)
		}
		ended <- err
	}()
	select {
	case <-printed:
		return nil
	case err := <-ended:
		return err
	}
}

type notify chan<- struct{}

func (n notify) Write(p []byte) (int, error) {
	select {
	case n <- struct{}{}:
	default:
	}
	return len(p), nil
}

// commitBank makes an image of the bank. cut, if there is one, is called when
// the commit has been asked for.
func (w *world) commitBank(t *testing.T, cut func()) {
	t.Helper()
	image, before, begin := w.name("bank")+":1", w.bank.acknowledged.Load(), time.Now()
	if cut != nil {
		cut()
	}
	if err := w.reply(t.Context(), "commit", bankName, image); err != nil {
		if cut == nil || !errors.Is(err, agent.ErrGone) {
			t.Error(err)
		}
		return
	}
	w.commit = time.Since(begin)
	w.images[image], w.newest = before, image
	t.Logf("%s was committed in %.1f s with at least %d transfers", image, w.commit.Seconds(), before)
}

// work transfers money for a while and commits the bank once.
func (w *world) work(t *testing.T) *teller {
	t.Helper()
	teller := w.bank.open(t, w.m)
	begin, enough := time.Now(), w.bank.acknowledged.Load()+20
	for w.bank.acknowledged.Load() < enough {
		if time.Since(begin) > patience {
			t.Fatalf("only %d transfers", w.bank.acknowledged.Load())
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.commitBank(t, nil)
	return teller
}

// killAfter kills the machine at a moment up to limit from now.
func (w *world) killAfter(t *testing.T, limit time.Duration) {
	t.Helper()
	m, after := w.m, time.Duration(w.rng.Int64N(int64(limit)))
	t.Logf("the machine is to be killed after %v", after)
	time.AfterFunc(after, m.kill)
}

func (w *world) cutDuringCommit(t *testing.T) {
	t.Helper()
	teller := w.work(t)
	w.commitBank(t, func() { w.killAfter(t, w.commit) })
	w.m.kill()
	teller.wait()
}

func (w *world) cutAfterCommit(t *testing.T) {
	t.Helper()
	teller := w.work(t)
	w.commitBank(t, nil)
	w.m.kill()
	teller.wait()
}

func (w *world) cutDuringCreateAndRemove(t *testing.T) {
	t.Helper()
	teller := w.work(t)
	w.killAfter(t, 15*time.Second)
	// Some are left for the look afterwards.
	for ok := true; ok; {
		name := w.name(madePrefix)
		ok = w.step(t, name, true, "create", "--name", name, "-v", "/anonymous", w.newest)
		if ok && w.rng.IntN(2) == 0 {
			ok = w.step(t, name, false, "rm", "-v", name)
		}
		name = w.name(madePrefix)
		ok = ok && w.step(t, name, true, "run", "-d", "--name", name, "busybox", "sleep", "100000") &&
			w.step(t, name, false, "rm", "-f", name)
	}
	teller.wait()
}

func (w *world) cutDuringLoad(t *testing.T) {
	t.Helper()
	teller := w.work(t)
	w.killAfter(t, 30*time.Second)
	for n := 0; ; n = (n + 1) % loadImages {
		image := loadImage(n)
		if !w.step(t, image, false, "rmi", "-f", image) || !w.step(t, image, true, "load", "-q", "-i", loadFile(n)) {
			break
		}
	}
	teller.wait()
}

// cutDuringStart cuts the power twice: the second time, the daemon settles what
// the first has left.
func (w *world) cutDuringStart(t *testing.T) {
	t.Helper()
	w.cutDuringCommit(t)
	w.m.cutPower(t)
	w.boot(t)
	w.killAfter(t, 8*time.Second)
	if _, err := w.m.Start(agent.Options{}, "sh", "-c", "exec slipwayd >>"+daemonLog+" 2>&1"); err == nil {
		<-w.m.Gone()
	}
}

// step makes or removes what has the name. It tells whether that was
// acknowledged before the machine went away.
func (w *world) step(t *testing.T, name string, makes bool, args ...string) bool {
	t.Helper()
	delete(w.exists, name)
	if err := w.reply(t.Context(), args...); err != nil {
		if !errors.Is(err, agent.ErrGone) {
			t.Error(err)
			w.m.kill()
		}
		return false
	}
	w.exists[name] = makes
	return true
}

// verify starts the daemon and looks for what was acknowledged.
func (w *world) verify(t *testing.T) {
	t.Helper()
	m := w.m
	begin := time.Now()
	m.startDaemon(t)
	t.Logf("the daemon answered after %.1f s", time.Since(begin).Seconds())
	w.verifyObjects(t)
	w.verifyCheck(t)

	m.docker(t, "start", bankName)
	rows := w.bank.audit(t, m, bankName, w.bank.acknowledged.Load())
	t.Logf("the bank has %d transfers, %d were acknowledged, %d asked for", rows, w.bank.acknowledged.Load(), w.bank.asked.Load())
	for image, atLeast := range w.images {
		clone := w.name("clone")
		m.docker(t, "run", "-d", "--name", clone, image)
		rows := w.bank.audit(t, m, clone, atLeast)
		t.Logf("%s has %d transfers, wanted at least %d", image, rows, atLeast)
		m.docker(t, "rm", "-fv", clone)
		if image != w.newest {
			m.docker(t, "rmi", image)
			delete(w.images, image)
			w.exists[image] = false
		}
	}
	w.bank.recovered(rows)
	w.verifyCheck(t)
	if t.Failed() {
		t.Logf("the end of the daemon's log:\n%s", m.daemonLog(t))
	}
}

func (w *world) verifyObjects(t *testing.T) {
	t.Helper()
	for image := range w.images {
		w.exists[image] = true
	}
	for name, want := range w.exists {
		if code, _, stderr := w.m.run(t, append(dockerCommand, "inspect", name)...); (code == 0) != want {
			t.Errorf("%s: there: %t, want %t as was acknowledged: %s", name, code == 0, want, stderr)
		}
		if want && strings.HasPrefix(name, madePrefix) {
			w.m.docker(t, "start", name) // its layer and its volumes are there too
			w.m.docker(t, "rm", "-fv", name)
			w.exists[name] = false
		}
	}
	for container, want := range map[string]string{
		bankName: "exited", "no-policy": "exited", "stopped": "exited", "always": "running", "unless-stopped": "running",
	} {
		var got string
		for range 60 {
			// Those with a policy are started after the daemon answers.
			if got = w.m.docker(t, "inspect", "-f", "{{.State.Status}}", container); got != "restarting" {
				break
			}
			time.Sleep(time.Second)
		}
		if got != want {
			t.Errorf("%s is %s, want %s", container, got, want)
		}
	}
}

// verifyCheck runs the engine's checker, which is made for quiet moments: what
// the daemon still does after its start is waited for.
func (w *world) verifyCheck(t *testing.T) {
	t.Helper()
	var stdout, stderr string
	for range 20 {
		var code int
		if code, stdout, stderr = w.m.run(t, "slipway", "debug", "check"); code == 0 {
			return
		}
		time.Sleep(time.Second)
	}
	t.Errorf("slipway debug check:\n%s%s", stdout, stderr)
}
