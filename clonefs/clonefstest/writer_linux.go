package clonefstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/clonefs"

	"golang.org/x/sys/unix"
)

// envWriter makes the test binary the writer: "write:<dir>" or "map:<dir>".
const envWriter = "SLIPWAY_CLONEFSTEST_WRITER"

const (
	slotSize = 4096
	slots    = 1024
)

// Main must be called first in the TestMain of a package that runs the suite:
// the suite starts the test binary again as a process that can be frozen.
func Main() {
	mode, dir, ok := strings.Cut(os.Getenv(envWriter), ":")
	if !ok {
		return
	}
	fmt.Fprintln(os.Stderr, "writer:", writeInOrder(mode, dir))
	os.Exit(1)
}

// writeInOrder writes the numbers 1, 2, 3, … to random slots of file a and then
// to the same slots of file b, for ever.
func writeInOrder(mode, dir string) error {
	var files [2]*os.File
	var maps [2][]byte
	for i, name := range []string{"a", "b"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0) //nolint:gosec // the path is the test's own
		if err != nil {
			return err
		}
		files[i] = f
		if mode == "map" {
			if maps[i], err = unix.Mmap(int(f.Fd()), 0, slots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
				return err
			}
		}
	}
	// A small set of slots at a time, so that pages are stored to again while
	// they are dirty.
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // test data
	var slot [8]byte
	for n := uint64(1); ; n++ {
		at := (int(n/4096)*37 + random.IntN(32)) % slots * slotSize
		binary.LittleEndian.PutUint64(slot[:], n)
		for i := range files {
			if mode == "map" {
				copy(maps[i][at:], slot[:])
			} else if _, err := files[i].WriteAt(slot[:], int64(at)); err != nil {
				return err
			}
		}
	}
}

// startWriter starts the writer process and returns how to freeze and thaw it.
func startWriter(t *testing.T, mode, dir string) (freeze, thaw func()) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		must(t, os.WriteFile(filepath.Join(dir, name), make([]byte, slots*slotSize), 0o600))
	}
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), envWriter+"="+mode+":"+dir)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	stat := fmt.Sprintf("/proc/%d/task", cmd.Process.Pid)
	for started := false; !started; time.Sleep(time.Millisecond) {
		content, err := os.ReadFile(filepath.Join(dir, "b"))
		must(t, err)
		started = slices.ContainsFunc(content, func(b byte) bool { return b != 0 })
	}
	freeze = func() {
		must(t, cmd.Process.Signal(unix.SIGSTOP))
		for range 1000 {
			if allStopped(stat) {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatal("writer does not stop")
	}
	return freeze, func() { must(t, cmd.Process.Signal(unix.SIGCONT)) }
}

func allStopped(dir string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*/stat"))
	if err != nil || len(files) == 0 {
		return false
	}
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(line), ") T ") {
			return false
		}
	}
	return true
}

// checkOrder fails the test if the clone holds a write to b without all those
// to a and b before it. It returns the number of the last write.
func checkOrder(t *testing.T, dir string) uint64 {
	t.Helper()
	var values [2][slots]uint64
	var last [2]uint64
	for i, name := range []string{"a", "b"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		if len(content) != slots*slotSize {
			t.Fatalf("%s has %d bytes", name, len(content))
		}
		for s := range slots {
			values[i][s] = binary.LittleEndian.Uint64(content[s*slotSize:])
			last[i] = max(last[i], values[i][s])
		}
	}
	if last[0] != last[1] && last[0] != last[1]+1 {
		t.Errorf("the last write to a is %d, to b %d", last[0], last[1])
	}
	for s := range slots {
		if a, b := values[0][s], values[1][s]; a != b && (a <= last[1] || a != last[0]) {
			t.Errorf("slot %d: a has write %d, b has %d; the last write to b is %d", s, a, b, last[1])
		}
	}
	return last[1]
}

// awaitWrite returns when the writer, which on a busy machine may not run for
// a while, has got beyond a write.
func awaitWrite(t *testing.T, dir string, before uint64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		content, err := os.ReadFile(filepath.Join(dir, "b"))
		must(t, err)
		for s := range len(content) / slotSize {
			if binary.LittleEndian.Uint64(content[s*slotSize:]) > before {
				return
			}
		}
	}
	t.Fatal("the writer does not write")
}

// testLiveWriter takes copies of two files that a process writes in strict
// order, by write and through mappings.
func (s *suite) testLiveWriter(t *testing.T, dir string) {
	t.Helper()
	for _, mode := range []string{"write", "map"} {
		t.Run(mode, func(t *testing.T) {
			src := filepath.Join(dir, mode)
			must(t, os.Mkdir(src, 0o750))
			freeze, thaw := startWriter(t, mode, src)
			var before uint64
			for i := range 20 {
				awaitWrite(t, src, before)
				dst := fmt.Sprintf("%s.%d", src, i)
				c := clonefs.NewCopy([]clonefs.Tree{{Src: src, Dst: dst}}, clonefs.Options{MaxPasses: 1 + i%3})
				if i%4 != 3 { // also without Prepare
					must(t, c.Prepare(t.Context()))
				}
				freeze()
				_, err := c.Finish(t.Context())
				thaw()
				must(t, err)
				last := checkOrder(t, dst)
				if last <= before {
					t.Errorf("copy %d holds write %d, the one before held %d", i, last, before)
				}
				before = last
			}
		})
	}
}

// testMapped stores through a mapping whose pages are dirty and mapped already
// when they are taken: such stores change no ctime on some file systems.
func (s *suite) testMapped(t *testing.T, dir string) {
	t.Helper()
	src, dst := pair(t, dir)
	file := filepath.Join(src, "mapped")
	must(t, os.WriteFile(file, make([]byte, 16<<20), 0o600))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, 16<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	for i := 0; i < len(mem); i += 4096 {
		mem[i] = 1
	}
	time.Sleep(300 * time.Millisecond) // the ctime grows old
	c := clonefs.NewCopy([]clonefs.Tree{{Src: src, Dst: dst}}, clonefs.Options{MaxPasses: 3})
	must(t, c.Prepare(t.Context()))
	for i := 0; i < len(mem); i += 8192 {
		mem[i] = 2
	}
	_, err = c.Finish(t.Context())
	must(t, err)
	s.sameTrees(t, src, dst)
	must(t, unix.Munmap(mem))
}

// testChurn changes a tree at random while it is prepared, and compares.
func (s *suite) testChurn(t *testing.T, dir string) {
	t.Helper()
	for seed := range uint64(6) {
		src := filepath.Join(dir, fmt.Sprint("src", seed))
		dst := filepath.Join(dir, fmt.Sprint("dst", seed))
		must(t, os.Mkdir(src, 0o750))
		ch := &churn{dir: src, random: rand.New(rand.NewPCG(seed, 7))} //nolint:gosec // test data
		for range 300 {
			ch.step()
		}
		c := clonefs.NewCopy([]clonefs.Tree{{Src: src, Dst: dst}}, clonefs.Options{})
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					ch.step()
				}
			}
		}()
		err := c.Prepare(t.Context())
		time.Sleep(5 * time.Millisecond)
		close(stop)
		<-stopped
		must(t, err)
		stats, err := c.Finish(t.Context())
		must(t, err)
		s.sameTrees(t, src, dst)
		if want := count(Scan(t, src)); stats.Files != want {
			t.Errorf("stats say %d files, there are %d", stats.Files, want)
		}
	}
}

// churn is a tree of up to four levels that is changed at random. Errors are
// part of it: many steps name what is not there.
type churn struct {
	dir    string
	random *rand.Rand
}

func (c *churn) path() string {
	p := c.dir
	for range 1 + c.random.IntN(3) {
		p = filepath.Join(p, fmt.Sprint("n", c.random.IntN(6)))
	}
	return p
}

func (c *churn) step() {
	a, b := c.path(), c.path()
	switch c.random.IntN(12) {
	case 0:
		_ = os.Mkdir(a, 0o750)
	case 1, 2:
		_ = os.WriteFile(a, Pattern(c.random.IntN(20000), c.random.Uint64()), 0o600)
	case 3:
		_ = os.Rename(a, b)
	case 4:
		_ = os.Link(a, b)
	case 5:
		_ = os.Remove(a)
	case 6:
		if c.random.IntN(4) == 0 {
			_ = os.RemoveAll(a)
		}
	case 7:
		_ = os.Symlink(b, a)
	case 8:
		_ = os.Truncate(a, int64(c.random.IntN(3<<20)))
	case 9:
		_ = unix.Lsetxattr(a, "trusted.churn", Pattern(1, c.random.Uint64()), 0)
	case 10:
		if f, err := os.OpenFile(a, os.O_RDWR, 0); err == nil {
			_, err = f.WriteAt(Pattern(1+c.random.IntN(9000), c.random.Uint64()), int64(c.random.IntN(2<<20)))
			_ = errors.Join(err, f.Close())
		}
	case 11:
		_ = os.Chmod(a, os.FileMode(0o400|c.random.IntN(0o400))) //nolint:gosec // small
	}
}
