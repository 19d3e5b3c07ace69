package events

import (
	"strconv"
	"testing"
	"time"

	mobyevents "github.com/moby/moby/api/types/events"
)

func isContainer(m mobyevents.Message) bool { return m.Type == mobyevents.ContainerEventType }

func TestSubscribe(t *testing.T) {
	b := New()
	b.Publish(mobyevents.ContainerEventType, mobyevents.ActionCreate, "a", map[string]string{"name": "x"})
	b.Publish(mobyevents.ImageEventType, mobyevents.ActionPull, "i", nil)

	past, ch, cancel := b.Subscribe(time.Unix(1, 0), time.Time{}, isContainer)
	defer cancel()
	if len(past) != 1 || past[0].Actor.ID != "a" || past[0].Actor.Attributes["name"] != "x" {
		t.Fatalf("past = %v", past)
	}
	if past, _, cancel := b.Subscribe(time.Time{}, time.Time{}, nil); past != nil {
		t.Errorf("past without since = %v", past)
	} else {
		cancel()
	}
	if past, _, cancel := b.Subscribe(time.Unix(1, 0), time.Unix(2, 0), nil); past != nil {
		t.Errorf("past after until = %v", past)
	} else {
		cancel()
	}
	b.Publish(mobyevents.ImageEventType, mobyevents.ActionPull, "i", nil)
	b.Publish(mobyevents.ContainerEventType, mobyevents.ActionStart, "a", nil)
	if m := <-ch; m.Action != mobyevents.ActionStart {
		t.Errorf("got %v, want start", m.Action)
	}
	cancel()
	if _, open := <-ch; open {
		t.Error("channel is open after cancel")
	}
	cancel() // a second call does no harm
}

func TestPublishNeverBlocks(t *testing.T) {
	b := New()
	_, slow, cancel := b.Subscribe(time.Time{}, time.Time{}, nil)
	defer cancel()
	for i := range backlog + 2 {
		b.Publish(mobyevents.ContainerEventType, mobyevents.ActionStart, strconv.Itoa(i), nil)
	}
	n, last := 0, int64(0)
	for m := range slow { // ends, because the subscriber was cut off
		n++
		if m.TimeNano <= last {
			t.Fatalf("time %d after %d", m.TimeNano, last)
		}
		last = m.TimeNano
	}
	if n != backlog {
		t.Errorf("%d messages before the cut, want %d", n, backlog)
	}
	past, _, cancelLate := b.Subscribe(time.Unix(1, 0), time.Time{}, nil)
	defer cancelLate()
	if len(past) != history {
		t.Errorf("%d messages kept, want %d", len(past), history)
	}
}
