package job

import "testing"

// TestProbeIsNotFooled holds that a limit which is taken and does nothing is not believed: Wine takes
// most, and shows them when asked.
func TestProbeIsNotFooled(t *testing.T) {
	got := Probe()
	want := Backends{Memory: Guard, Processes: Guard, CPU: None, Priority: None, Network: None, IO: None}
	if !underWine() {
		want = Backends{Memory: Kernel, Processes: Kernel, CPU: Kernel, Priority: Kernel, Network: got.Network, IO: got.IO}
	}
	if got != want {
		t.Errorf("%v, want %v", got, want)
	}
}
