package testutil

import (
	"testing"
	"time"
)

// Patience is how long tests wait for something that should happen soon. It is
// long, for a loaded machine and the race detector: only failing tests wait.
const Patience = time.Minute

// Eventually waits until what holds, or fails the test.
func Eventually(t *testing.T, description string, what func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for pause := 5 * time.Millisecond; !what(); pause = min(2*pause, 250*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain for: %s", Patience, description)
		}
		time.Sleep(pause)
	}
}

// Never fails the test if what holds at some time within d.
func Never(t *testing.T, d time.Duration, description string, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if what() {
			t.Fatalf("must not happen: %s", description)
		}
	}
}
