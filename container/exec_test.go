package container

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestExecsAreForgotten: neither execs that have ended nor those that can not be
// started any more are kept for ever.
func TestExecsAreForgotten(t *testing.T) {
	present, before := &run{}, &run{}
	m := &Manager{execs: map[string]*execution{}}
	for id, e := range map[string]*execution{
		"old": {run: present, started: true}, "ended": {run: present, started: true},
		"waits": {run: present}, "came too late": {run: before}, "ends": {run: before, started: true},
	} {
		e.id = id
		m.execs[id] = e
	}
	m.endedExecs = []endedExec{{"old", time.Now().Add(-execKept - time.Second)}}
	m.forgetLater(m.execs["ended"])
	m.dropExecs(before)
	if diff := cmp.Diff([]string{"ended", "ends", "waits"}, slices.Sorted(maps.Keys(m.execs))); diff != "" {
		t.Error(diff)
	}
	if len(m.endedExecs) != 1 {
		t.Errorf("ended: %v", m.endedExecs)
	}
}
