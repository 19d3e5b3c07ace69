package main

import (
	"context"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"
)

// records passes a log's lines on.
type records chan slog.Record

func (records) Enabled(context.Context, slog.Level) bool { return true }

func (r records) Handle(_ context.Context, record slog.Record) error {
	r <- record
	return nil
}
func (r records) WithAttrs([]slog.Attr) slog.Handler { return r }
func (r records) WithGroup(string) slog.Handler      { return r }

// TestSignalsEndNothing: the test's own process survives them.
func TestSignalsEndNothing(t *testing.T) {
	log := make(records, 8)
	stop := handleSignals(t.Context(), slog.New(log))
	defer stop()
	for s, want := range map[syscall.Signal]string{syscall.SIGHUP: "not supported", syscall.SIGUSR1: "stacks"} {
		if err := syscall.Kill(syscall.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		select {
		case record := <-log:
			var attrs strings.Builder
			record.Attrs(func(a slog.Attr) bool { attrs.WriteString(a.String()); return true })
			if !strings.Contains(record.Message, want) || s == syscall.SIGUSR1 && !strings.Contains(attrs.String(), t.Name()) {
				t.Errorf("%s: %q %s", s, record.Message, attrs.String())
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: nothing in the log", s)
		}
	}
}
