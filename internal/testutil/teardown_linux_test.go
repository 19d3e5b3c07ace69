package testutil

import (
	"runtime"
	"sync"
	"testing"
)

// TestClaimNumber: no number is given twice, however many tests begin at once.
func TestClaimNumber(t *testing.T) {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		seen = map[int]bool{}
	)
	for range 5 {
		for range 4 {
			wg.Go(func() {
				n := claimNumber()
				mu.Lock()
				defer mu.Unlock()
				if seen[n] {
					t.Errorf("%d twice", n)
				}
				seen[n] = true
			})
		}
		wg.Wait()
		runtime.GC() // closes files that nobody holds, and so frees their locks
		runtime.GC()
	}
}
