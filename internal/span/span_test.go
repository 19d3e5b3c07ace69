package span_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"slipway/internal/span"
)

func TestParts(t *testing.T) {
	t.Parallel()
	l := span.NewLog(10)
	ctx, end := l.Begin(t.Context(), "start", "c1")
	whole := span.Start(ctx, "whole")
	time.Sleep(2 * time.Millisecond) // longer than any system's clock stands still
	part := span.Start(ctx, "part")
	time.Sleep(2 * time.Millisecond)
	part()
	late := span.Start(ctx, "late")
	whole()
	end()
	late()

	ops := l.Operations()
	if len(ops) != 1 {
		t.Fatalf("%d operations, want 1", len(ops))
	}
	o := ops[0]
	if o.Name != "start" || o.Object != "c1" || len(o.Parts) != 2 {
		t.Fatalf("operation: %+v", o)
	}
	outer, inner := o.Parts[0], o.Parts[1]
	if outer.Name != "whole" || inner.Name != "part" {
		t.Errorf("parts are not in the order of their beginnings: %+v", o.Parts)
	}
	if inner.Duration < 2*time.Millisecond || outer.Duration < inner.Duration || o.Duration < outer.Duration {
		t.Errorf("durations: %v in %v in %v", inner.Duration, outer.Duration, o.Duration)
	}
}

func TestKeepsTheNewest(t *testing.T) {
	t.Parallel()
	l := span.NewLog(3)
	for i := range 5 {
		_, end := l.Begin(t.Context(), strconv.Itoa(i), "")
		end()
		want := []string{}
		for j := max(0, i-2); j <= i; j++ {
			want = append(want, strconv.Itoa(j))
		}
		got := []string{}
		for _, o := range l.Operations() {
			got = append(got, o.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("after %d: %v, want %v", i, got, want)
		}
	}
}

func TestWithoutLog(t *testing.T) {
	t.Parallel()
	var l *span.Log
	ctx, end := l.Begin(t.Context(), "x", "")
	span.Start(ctx, "y")()
	end()
	span.Start(context.Background(), "z")()
	if len(l.Operations()) != 0 {
		t.Error("a nil log has operations")
	}
}

func TestPartsAtTheSameTime(t *testing.T) {
	t.Parallel()
	l := span.NewLog(1)
	ctx, end := l.Begin(t.Context(), "x", "")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(span.Start(ctx, "part"))
	}
	wg.Wait()
	end()
	if n := len(l.Operations()[0].Parts); n != 50 {
		t.Errorf("%d parts, want 50", n)
	}
}
