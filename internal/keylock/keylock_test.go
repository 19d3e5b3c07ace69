package keylock

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestExclusion(t *testing.T) {
	l := New()
	var inside [3]atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 200 {
				i, j := rand.IntN(3), rand.IntN(3)
				unlock, err := l.Lock(t.Context(), strconv.Itoa(i), strconv.Itoa(j))
				if err != nil {
					t.Error(err)
					return
				}
				if inside[i].Add(1) != 1 {
					t.Error("two exclusive holders")
				}
				inside[i].Add(-1)
				unlock()
				unlock() // a second call does no harm
			}
		})
	}
	wg.Wait()
	if got := l.Snapshot(); len(got) != 0 {
		t.Errorf("locks left behind: %v", got)
	}
}

func TestSharedThenExclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		first, _ := l.RLock(t.Context(), "k")
		second, err := l.RLock(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		var exclusive, late atomic.Bool
		go func() {
			unlock, _ := l.Lock(t.Context(), "k")
			exclusive.Store(true)
			time.Sleep(time.Second)
			unlock()
		}()
		synctest.Wait()
		go func() {
			unlock, _ := l.RLock(t.Context(), "k")
			late.Store(true)
			unlock()
		}()
		synctest.Wait()
		if exclusive.Load() || late.Load() {
			t.Error("a waiter overtook the holders, or a late reader the writer")
		}
		first()
		second()
		synctest.Wait()
		if !exclusive.Load() || late.Load() {
			t.Error("the writer was not first after the readers")
		}
		time.Sleep(2 * time.Second)
		if !late.Load() {
			t.Error("the late reader never came")
		}
	})
}

func TestCancelledWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		reader, _ := l.RLock(t.Context(), "k")
		gone := errors.New("client went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := l.Lock(WithOperation(ctx, "stop"), "a", "k")
			result <- err
		}()
		synctest.Wait()
		var behind atomic.Bool
		go func() {
			unlock, _ := l.RLock(t.Context(), "k")
			behind.Store(true)
			unlock()
		}()
		synctest.Wait()
		cancel(gone)
		if err := <-result; !errors.Is(err, gone) {
			t.Errorf("err = %v, want %v", err, gone)
		}
		synctest.Wait()
		if !behind.Load() {
			t.Error("the reader behind the cancelled writer still waits")
		}
		if _, ok := l.TryLock("k"); ok {
			t.Error("TryLock took a held key")
		}
		reader()
		unlock, ok := l.TryLock("a", "k")
		if !ok {
			t.Fatal("a cancelled operation left a key locked")
		}
		unlock()
	})
}
