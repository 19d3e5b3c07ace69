package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(kind string, id uint32, text string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf("%s %d %s", kind, id, text))
	return nil
}

func (e *events) Info(id uint32, text string) error    { return e.add("info", id, text) }
func (e *events) Warning(id uint32, text string) error { return e.add("warning", id, text) }
func (e *events) Error(id uint32, text string) error   { return e.add("error", id, text) }

func TestEventHandler(t *testing.T) {
	got := &events{}
	logger := slog.New(newEventHandler(got, slog.LevelInfo))
	logger.Debug("not shown")
	logger.Info("started", slog.Int("pid", 7))
	logger.With(slog.String("container", "web")).WithGroup("g").Warn("slow", slog.String("level", "kept"))
	logger.Error("failed", slog.Any("error", errors.New("two\nlines\x00")))
	logger.Info("long", slog.String("text", strings.Repeat("x", 2*maxEvent)))
	want := []string{
		`info 1 msg=started pid=7`,
		`warning 2 msg=slow container=web g.level=kept`,
		`error 3 msg=failed error="two\nlines\x00"`,
		"info 1 msg=long text=" + strings.Repeat("x", maxEvent-len("msg=long text=")),
	}
	if diff := cmp.Diff(want, got.list); diff != "" {
		t.Error(diff)
	}
}

// TestEventHandlerAtOnce: records of several goroutines do not mix.
func TestEventHandlerAtOnce(t *testing.T) {
	got := &events{}
	logger := slog.New(newEventHandler(got, slog.LevelInfo))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				logger.With(slog.Int("n", i)).Info("m", slog.Int("again", i))
			}
		})
	}
	wg.Wait()
	if len(got.list) != 400 {
		t.Errorf("%d events, want 400", len(got.list))
	}
	for _, line := range got.list {
		var a, b int
		if _, err := fmt.Sscanf(line, "info 1 msg=m n=%d again=%d", &a, &b); err != nil || a != b {
			t.Errorf("mixed: %q", line)
		}
	}
}
