package keeper

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/container/logs/jsonlog"
	"slipway/container/logs/wire"
)

// fixture is a container whose keeper can be "killed" at a chosen place: its files are put into the state
// that a kill there leaves.
type fixture struct {
	t   *testing.T
	dir string
	reg *wire.Register
	out output
}

func newFixture(t *testing.T, maxSize int64) *fixture {
	t.Helper()
	root := t.TempDir()
	f := &fixture{t: t, dir: filepath.Join(root, "state"), reg: &wire.Register{
		Run: "1", Log: wire.LogConfig{Driver: "json-file", Path: filepath.Join(root, "log"), MaxSize: maxSize, MaxFile: 3},
	}}
	f.reg.Stdout = f.out.make(t, root)
	return f
}

func (f *fixture) open() *container {
	f.t.Helper()
	c, err := newContainer(f.dir, "c", f.reg, slog.New(slog.DiscardHandler))
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// feed prints text and has it read and recorded.
func (f *fixture) feed(c *container, text string) {
	f.t.Helper()
	f.out.print(f.t, c, text)
	for want := c.streams[0].spool.size + int64(len(text)); c.streams[0].spool.size < want; {
		if err := c.receive(c.streams[0]); err != nil {
			f.t.Fatal(err)
		}
	}
}

// log returns the log's text, oldest file first.
func (f *fixture) log() string {
	f.t.Helper()
	var b strings.Builder
	for _, suffix := range []string{".2", ".1", ""} {
		data, err := os.ReadFile(f.reg.Log.Path + suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			var r jsonlog.Record
			if err := r.Decode([]byte(line)); err != nil {
				f.t.Errorf("record %q: %v", line, err)
			}
			b.Write(r.Log)
		}
	}
	return b.String()
}

// reopen opens the container again as the next keeper does and records what was read before.
func (f *fixture) reopen() {
	f.t.Helper()
	c := f.open()
	c.mu.Lock()
	c.record(c.streams[0], true)
	c.mu.Unlock()
	if err := c.closeFiles(); err != nil {
		f.t.Fatal(err)
	}
}

const repeated = "same\nsame\nsame\nsame\nunfinished"

func TestKilledBetweenWriteAndMark(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string, before int64){
		"all written": func(*testing.T, string, int64) {},
		"none written": func(t *testing.T, path string, before int64) {
			t.Helper()
			if err := os.Truncate(path, before); err != nil {
				t.Fatal(err)
			}
		},
		"one record and a half": func(t *testing.T, path string, before int64) {
			t.Helper()
			one := int64(len(jsonlog.Append(nil, []byte("same\n"), "stdout", nil, time.Unix(1, 1))))
			if err := os.Truncate(path, before+one+one/2); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 0)
			c := f.open()
			f.feed(c, "same\nbefore\n")
			was := c.progress.load()
			f.feed(c, repeated)
			c.progress.store(was) // the mark that the kill has prevented
			if err := c.closeFiles(); err != nil {
				t.Fatal(err)
			}
			damage(t, f.reg.Log.Path, was.size)
			f.reopen()
			if got := f.log(); got != "same\nbefore\n"+repeated {
				t.Errorf("log %q", got)
			}
		})
	}
}

func TestKilledDuringRotation(t *testing.T) {
	for _, step := range []string{"before", "next made", "shifted", "renamed"} {
		t.Run(step, func(t *testing.T) {
			f := newFixture(t, 1000)
			c := f.open()
			var want strings.Builder
			for i := range 25 {
				line := fmt.Sprintf("line %d\n", i)
				f.feed(c, line)
				want.WriteString(line)
			}
			if err := c.closeFiles(); err != nil {
				t.Fatal(err)
			}
			path := f.reg.Log.Path
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			if step != "before" {
				must(os.WriteFile(path+nextSuffix, nil, 0o600))
			}
			if step == "shifted" || step == "renamed" {
				must(shift(path, 3))
			}
			if step == "renamed" {
				must(os.Rename(path+nextSuffix, path))
			}
			f.reopen()
			if got := f.log(); got != want.String() {
				t.Errorf("log %q", got)
			}
			if _, err := os.Stat(path + nextSuffix); err == nil {
				t.Error("the next file was left behind")
			}
		})
	}
}

func TestShift(t *testing.T) {
	for _, tc := range []struct {
		before, after string
		files         int
	}{
		{"log", "log.1", 3},
		{"log log.1", "log.1 log.2", 3},
		{"log log.1 log.2", "log.1 log.2", 3},
		{"log log.1.gz log.2.gz", "log.1 log.2.gz", 3},
		{"log log.2 log.3", "log.1 log.2 log.3", 9}, // a gap is closed
		{"log log.1 log.3", "log.1 log.2 log.3", 9},
		{"log", "log", 1},
		{"log.1", "log.2", 3},
	} {
		dir := t.TempDir()
		for name := range strings.FieldsSeq(tc.before) {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := shift(filepath.Join(dir, "log"), tc.files); err != nil {
			t.Error(err)
		}
		var after []string
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			after = append(after, e.Name())
		}
		if got := strings.Join(after, " "); got != tc.after {
			t.Errorf("%s becomes %s", tc.before, got)
		}
	}
}

func TestKilledAfterLostLines(t *testing.T) {
	f := newFixture(t, 0)
	c := f.open()
	c.sink.lost = 7
	was := c.progress.load()
	f.feed(c, "a\nb\n")
	c.progress.store(was)
	if err := c.closeFiles(); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	if got := f.log(); got != "slipway: 7 lines dropped: the log could not be written\na\nb\n" {
		t.Errorf("log %q", got)
	}
}

func TestOrderOfTwoStreams(t *testing.T) {
	cl := &client{wants: [2]bool{true, true}}
	for i := range int64(10) {
		cl.enqueue(0, 10*(i+1))
		cl.enqueue(0, 10*(i+1)+5)
		cl.enqueue(1, 7*(i+1))
	}
	if len(cl.queue) != 20 || cl.queue[0] != (segment{0, 15}) || cl.queue[1] != (segment{1, 7}) {
		t.Errorf("%d segments: %v", len(cl.queue), cl.queue[:3])
	}
	for i := range int64(2 * maxSegments) {
		cl.enqueue(0, 1000+i)
		cl.enqueue(1, 1000+i)
	}
	if n := len(cl.queue); n > maxSegments+1 {
		t.Errorf("%d segments", n)
	}
	var ends [2]int64
	for _, seg := range cl.queue {
		ends[seg.stream] = max(ends[seg.stream], seg.end)
	}
	if ends != [2]int64{999 + 2*maxSegments, 999 + 2*maxSegments} {
		t.Errorf("ends %v", ends)
	}
}
