// Package keylock provides shared and exclusive locks named by strings, so that
// operations on different objects never wait for each other.
//
// All keys of one operation are taken in one call, which sorts them: two
// operations can therefore not hold them in opposite orders. A lock that is
// nobody's takes no memory. Waiters are served in the order in which they came,
// and waiting ends with the context.
package keylock

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Locker is a set of named locks. It is safe for concurrent use.
type Locker struct {
	mu    sync.Mutex
	locks map[string]*lock
}

// lock is one key's state, guarded by the Locker's mutex.
type lock struct {
	holders   int // shared holders, or -1 for one exclusive holder
	since     time.Time
	waiting   []*waiter
	operation string
}

type waiter struct {
	exclusive bool
	since     time.Time
	operation string
	granted   chan struct{} // closed under the Locker's mutex
}

// Info is what one key's lock looked like at one moment.
type Info struct {
	Key       string        `json:"key"`
	Exclusive bool          `json:"exclusive"`
	Holders   int           `json:"holders"`
	Operation string        `json:"operation,omitempty"`
	Held      time.Duration `json:"held_ns"`
	Waiting   []string      `json:"waiting,omitempty"`
}

// New returns an empty set of locks.
func New() *Locker {
	return &Locker{locks: map[string]*lock{}}
}

type operationKey struct{}

// WithOperation names the operation that takes locks with this context, for
// [Locker.Snapshot].
func WithOperation(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, operationKey{}, name)
}

func operationOf(ctx context.Context) string {
	name, _ := ctx.Value(operationKey{}).(string)
	return name
}

// Lock takes all keys exclusively. It returns the cause of ctx's end if that
// comes first; then nothing is held. The returned function releases them and
// may be called more than once.
func (l *Locker) Lock(ctx context.Context, keys ...string) (unlock func(), err error) {
	return l.acquire(ctx, true, keys)
}

// RLock takes all keys shared with other holders of RLock. It behaves like
// [Locker.Lock] otherwise.
func (l *Locker) RLock(ctx context.Context, keys ...string) (unlock func(), err error) {
	return l.acquire(ctx, false, keys)
}

// TryLock takes all keys exclusively if none is held or waited for, and reports
// whether it did.
func (l *Locker) TryLock(keys ...string) (unlock func(), ok bool) {
	keys = normalise(keys)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		if l.locks[key] != nil {
			return nil, false
		}
	}
	for _, key := range keys {
		l.locks[key] = &lock{holders: -1, since: time.Now(), operation: "try"}
	}
	return l.releaser(true, keys), true
}

// Snapshot lists the locks that are held, in the order of their keys.
func (l *Locker) Snapshot() []Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	infos := make([]Info, 0, len(l.locks))
	for key, k := range l.locks {
		info := Info{Key: key, Exclusive: k.holders < 0, Holders: max(k.holders, 1), Operation: k.operation, Held: now.Sub(k.since)}
		for _, w := range k.waiting {
			info.Waiting = append(info.Waiting, fmt.Sprintf("%s (%s)", w.operation, now.Sub(w.since).Round(time.Millisecond)))
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b Info) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return infos
}

func normalise(keys []string) []string {
	keys = slices.Clone(keys)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (l *Locker) acquire(ctx context.Context, exclusive bool, keys []string) (func(), error) {
	keys = normalise(keys)
	for i, key := range keys {
		if err := l.acquireOne(ctx, exclusive, key); err != nil {
			l.releaser(exclusive, keys[:i])()
			return nil, fmt.Errorf("waiting for %s: %w", key, err)
		}
	}
	return l.releaser(exclusive, keys), nil
}

func (l *Locker) acquireOne(ctx context.Context, exclusive bool, key string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.mu.Lock()
	k := l.locks[key]
	if k == nil {
		k = &lock{}
		l.locks[key] = k
	}
	w := &waiter{exclusive: exclusive, since: time.Now(), operation: operationOf(ctx), granted: make(chan struct{})}
	k.waiting = append(k.waiting, w)
	k.grant()
	l.mu.Unlock()

	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	select {
	case <-w.granted: // it came at the same moment: give it back
		l.mu.Unlock()
		l.release(exclusive, key)
	default:
		k.waiting = slices.DeleteFunc(k.waiting, func(o *waiter) bool { return o == w })
		k.grant() // shared waiters may have stood behind this one
		l.mu.Unlock()
	}
	return context.Cause(ctx)
}

// grant hands the lock to as many waiters from the front as may hold it together.
func (k *lock) grant() {
	for len(k.waiting) > 0 {
		w := k.waiting[0]
		if k.holders < 0 || (w.exclusive && k.holders > 0) {
			return
		}
		if w.exclusive {
			k.holders = -1
		} else {
			k.holders++
		}
		k.since, k.operation = time.Now(), w.operation
		k.waiting = k.waiting[1:]
		close(w.granted)
	}
}

func (l *Locker) releaser(exclusive bool, keys []string) func() {
	return sync.OnceFunc(func() {
		for _, key := range slices.Backward(keys) {
			l.release(exclusive, key)
		}
	})
}

func (l *Locker) release(exclusive bool, key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.locks[key]
	if exclusive {
		k.holders = 0
	} else {
		k.holders--
	}
	k.grant()
	if k.holders == 0 && len(k.waiting) == 0 {
		delete(l.locks, key)
	}
}
