// Package span records where the time of the engine's operations goes: of each,
// when it began, how long it took, and its named parts. The newest are kept in
// memory and shown at GET /debug/spans.
//
// An operation is begun by a [Log] and travels in the context; code below adds
// parts to it with [Start], which costs next to nothing and does nothing where
// there is no operation. Parts may run at the same time and contain each other.
package span

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Operation is something that the engine did as a whole.
type Operation struct {
	Name   string    `json:"name"`
	Object string    `json:"object,omitempty"` // what it was done to
	Begin  time.Time `json:"begin"`
	// Duration is in nanoseconds.
	Duration time.Duration `json:"duration_ns"`
	Parts    []Part        `json:"parts,omitempty"`
}

// Part is a part of an operation. Times are in nanoseconds.
type Part struct {
	Name string `json:"name"`
	// Begin counts from the operation's.
	Begin    time.Duration `json:"begin_ns"`
	Duration time.Duration `json:"duration_ns"`
}

// Log keeps the operations that ended last. It is safe for concurrent use; a
// nil Log records nothing.
type Log struct {
	mu    sync.Mutex
	ended []Operation // a ring once it is full
	next  int         // where the next one goes then
}

// NewLog returns a log of as many operations as keep, at least 1.
func NewLog(keep int) *Log {
	return &Log{ended: make([]Operation, 0, max(keep, 1))}
}

// Begin begins an operation that ends with the call of end.
func (l *Log) Begin(ctx context.Context, name, object string) (_ context.Context, end func()) {
	if l == nil {
		return ctx, func() {}
	}
	r := &recorder{begin: time.Now()}
	return context.WithValue(ctx, key{}, r), func() {
		l.add(Operation{Name: name, Object: object, Begin: r.begin, Duration: time.Since(r.begin), Parts: r.finish()})
	}
}

func (l *Log) add(o Operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ended) < cap(l.ended) {
		l.ended = append(l.ended, o)
		return
	}
	l.ended[l.next] = o
	l.next = (l.next + 1) % len(l.ended)
}

// Operations returns those that are kept, in the order in which they ended.
func (l *Log) Operations() []Operation {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.ended[l.next:], l.ended[:l.next])
}

type key struct{}

// recorder collects the parts of one operation.
type recorder struct {
	begin time.Time

	mu    sync.Mutex
	parts []Part
	done  bool
}

// Start begins a part of the context's operation that ends with the call of end.
// A part that outlives its operation is left out.
func Start(ctx context.Context, name string) (end func()) {
	r, ok := ctx.Value(key{}).(*recorder)
	if !ok {
		return func() {}
	}
	begin := time.Since(r.begin)
	return func() { r.add(Part{Name: name, Begin: begin, Duration: time.Since(r.begin) - begin}) }
}

func (r *recorder) add(p Part) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.done {
		r.parts = append(r.parts, p)
	}
}

// finish returns the parts in the order in which they began.
func (r *recorder) finish() []Part {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = true
	slices.SortStableFunc(r.parts, func(a, b Part) int { return int(a.Begin - b.Begin) })
	return r.parts
}
