package logs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/container/logs"
)

// rig is an exec root with a keeper.
type rig struct {
	*logs.Keeper
	root string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return rigAt(t, t.TempDir())
}

func rigAt(t *testing.T, root string) *rig {
	t.Helper()
	k, err := logs.Connect(t.Context(), logs.Config{ExecRoot: root, BinDir: binDir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{k, root}
	t.Cleanup(func() {
		pid := r.pid()
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		endKeeper(pid)
		b, _ := os.ReadFile(filepath.Join(root, "logger.log"))
		for _, bad := range []string{"DATA RACE", "panic", "fatal error"} {
			if bytes.Contains(b, []byte(bad)) {
				t.Errorf("the keeper had a %s", bad)
			}
		}
		if t.Failed() {
			t.Logf("logger.log:\n%s", b)
		}
	})
	return r
}

func (r *rig) pid() int {
	b, _ := os.ReadFile(filepath.Join(r.root, "logger.pid"))
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 1 << 30
	}
	return pid
}

func (s *shim) print(stream int, text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.out[stream], text); err != nil {
		s.t.Fatal(err)
	}
}

// run is a registered container with its log.
type run struct {
	logs.Registration
	fifos logs.FIFOs
}

func (r *rig) register(t *testing.T, id string, change func(*logs.Registration)) *run {
	t.Helper()
	fifos, err := logs.MakeFIFOs(filepath.Join(r.root, "io", id), false, false)
	if err != nil {
		t.Fatal(err)
	}
	reg := logs.Registration{
		ID: id, Run: "1", Stdout: fifos.Stdout, Stderr: fifos.Stderr,
		Log: logs.LogConfig{Driver: logs.DriverJSONFile, Path: filepath.Join(r.root, id+"-json.log")},
	}
	if change != nil {
		change(&reg)
	}
	if err := r.Register(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	return &run{reg, fifos}
}

func readAll(t *testing.T, path string, opts logs.ReadOptions, done <-chan struct{}) (out, err string) {
	t.Helper()
	opts.Stdout, opts.Stderr = true, true
	r, openErr := logs.Open(path, opts, done)
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer r.Close()
	var b [2]strings.Builder
	for {
		m, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return b[0].String(), b[1].String()
		}
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		if m.Stream == "stderr" {
			i = 1
		}
		b[i].Write(m.Line)
	}
}

func (r *rig) finish(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("the output does not end"))
	defer cancel()
	if err := r.Finish(ctx, id); err != nil {
		t.Fatal(err)
	}
}

// number prints lines that tell losses, repetitions and changes of order.
func number(w io.Writer, from, to int) error {
	var b bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "line %d %s\n", i, strings.Repeat("=", i%100))
		if b.Len() > 8<<10 || i == to-1 {
			if _, err := w.Write(b.Bytes()); err != nil {
				return err
			}
			b.Reset()
		}
	}
	return nil
}

func checkNumbers(t *testing.T, what, text string, from, to int) {
	t.Helper()
	var b bytes.Buffer
	if err := number(&b, from, to); err != nil {
		t.Fatal(err)
	}
	if b.String() == text {
		return
	}
	lines, want := strings.Split(text, "\n"), strings.Split(b.String(), "\n")
	for i := range min(len(lines), len(want)) {
		if lines[i] != want[i] {
			t.Errorf("%s: line %d is %.40q, not %.40q", what, i, lines[i], want[i])
			return
		}
	}
	t.Errorf("%s: %d lines, not %d", what, len(lines), len(want))
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it does not come")
}
