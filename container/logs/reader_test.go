package logs_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/container/logs"
	"slipway/container/logs/jsonlog"
)

var noon = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

func record(text, stream string, at time.Duration) string {
	return string(jsonlog.Append(nil, []byte(text), stream, nil, noon.Add(at)))
}

func writeLog(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func collect(t *testing.T, path string, opts logs.ReadOptions, done <-chan struct{}) []string {
	t.Helper()
	r, err := logs.Open(path, opts, done)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []string
	for {
		m, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSuffix(string(m.Line), "\n"))
	}
}

func TestReadSelections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	// The clock is set back after the third line.
	writeLog(t, path, record("0\n", "stdout", 0)+record("e1\n", "stderr", time.Second)+record("2\n", "stdout", 2*time.Second)+
		record("e3\n", "stderr", -time.Hour)+record("4\n", "stdout", 1500*time.Millisecond))
	both := logs.ReadOptions{Stdout: true, Stderr: true, Tail: -1}
	for _, tc := range []struct {
		name   string
		change func(*logs.ReadOptions)
		want   string
	}{
		{"all", func(*logs.ReadOptions) {}, "0 e1 2 e3 4"},
		{"stdout", func(o *logs.ReadOptions) { o.Stderr = false }, "0 2 4"},
		{"tail", func(o *logs.ReadOptions) { o.Tail = 2 }, "e3 4"},
		{"tail, then stdout", func(o *logs.ReadOptions) { o.Tail, o.Stderr = 2, false }, "4"},
		{"tail of none", func(o *logs.ReadOptions) { o.Tail = 0 }, ""},
		{"tail of more than there is", func(o *logs.ReadOptions) { o.Tail = 99 }, "0 e1 2 e3 4"},
		{"since", func(o *logs.ReadOptions) { o.Since = noon.Add(time.Second) }, "e1 2 4"},
		{"until", func(o *logs.ReadOptions) { o.Until = noon.Add(time.Second) }, "0 e1 e3"},
		{"until has passed, following", func(o *logs.ReadOptions) { o.Until, o.Follow = noon.Add(time.Second), true }, "0 e1 e3"},
	} {
		opts := both
		tc.change(&opts)
		if got := strings.Join(collect(t, path, opts, nil), " "); got != tc.want {
			t.Errorf("%s: %q, not %q", tc.name, got, tc.want)
		}
	}
	if got := collect(t, path+"-none", both, nil); len(got) != 0 {
		t.Errorf("no log: %q", got)
	}
}

func TestReadDamagedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	good := func(i int) string { return record(fmt.Sprintf("%d\n", i), "stdout", 0) }
	var notices bytes.Buffer
	opts := logs.ReadOptions{Stdout: true, Tail: -1, Logger: slog.New(slog.NewTextHandler(&notices, nil))}
	writeLog(t, path, good(0)+strings.Repeat("\x00", 5000)+"\n"+good(1)+"{\"log\":\"torn\n"+good(2)+
		strings.Repeat("x", 2<<20)+"\n"+good(3)+good(4)[:20])
	if got := strings.Join(collect(t, path, opts, nil), " "); got != "0 1 2 3" {
		t.Errorf("got %q", got)
	}
	if !strings.Contains(notices.String(), "damaged") {
		t.Error("no notice")
	}
	// A rotated file whose end the power cut has taken.
	var gz bytes.Buffer
	zw := gzip.NewWriter(&gz)
	for i := range 10_000 {
		fmt.Fprint(zw, good(i*7919))
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	writeLog(t, path+".1.gz", gz.String()[:gz.Len()/2])
	writeLog(t, path+".2.gz", "")
	writeLog(t, path, good(9))
	got := collect(t, path, opts, nil)
	if len(got) < 100 || got[0] != "0" || got[len(got)-1] != "9" {
		t.Errorf("%d lines", len(got))
	}
}

func TestReadAcrossAGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log") // a rotation was killed after it had made room for .3 and .1
	for i, name := range []string{".4", ".2", ""} {
		writeLog(t, path+name, record(fmt.Sprintf("%d\n", i), "stdout", 0))
	}
	for tail, want := range map[int]string{-1: "0 1 2", 2: "1 2", 1: "2"} {
		if got := strings.Join(collect(t, path, logs.ReadOptions{Stdout: true, Tail: tail}, nil), " "); got != want {
			t.Errorf("tail %d: %q", tail, got)
		}
	}
}

func TestTailReadsTheEndOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	// A terabyte of nothing before the end: reading it would not come back.
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	var end strings.Builder
	for i := range 5000 {
		end.WriteString(record(fmt.Sprintf("%d\n", i), "stdout", 0))
	}
	if _, err := f.WriteAt([]byte("\n"+end.String()), 1<<40); err != nil {
		t.Skip("no sparse files of a terabyte here: ", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got := collect(t, path, logs.ReadOptions{Stdout: true, Tail: 4000}, nil)
	if len(got) != 4000 || got[0] != "1000" || got[3999] != "4999" {
		t.Errorf("%d lines from %.10q", len(got), got)
	}
}

func TestFollowWaitsAndEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	done := make(chan struct{})
	r, err := logs.Open(path, logs.ReadOptions{Stdout: true, Tail: -1, Follow: true}, done)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := record("in two halves\n", "stdout", 0)
	if _, err := f.WriteString(line[:20]); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, context.DeadlineExceeded)
	defer cancel()
	if m, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := f.WriteString(line[20:]); err != nil {
		t.Fatal(err)
	}
	if m, err := r.Next(t.Context()); err != nil || string(m.Line) != "in two halves\n" {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := f.WriteString(record("last\n", "stdout", 0)); err != nil {
		t.Fatal(err)
	}
	close(done)
	if m, err := r.Next(t.Context()); err != nil || string(m.Line) != "last\n" {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := r.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}
