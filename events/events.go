// Package events carries what happens in the engine to those who want to know:
// `docker events`, the restart policy, health, metrics.
//
// A [Bus] keeps the newest messages for subscribers that ask for the past, as
// Docker does, and never waits for a subscriber: one that does not read is cut
// off when its buffer is full, and sees that by its channel being closed.
package events

import (
	"maps"
	"sync"
	"time"

	mobyevents "github.com/moby/moby/api/types/events"
)

const (
	history = 256  // messages kept for `--since`, the number Docker Engine keeps
	backlog = 4096 // messages a subscriber may lag behind before it is cut off
)

// Bus is a publish/subscribe hub. It is safe for concurrent use.
type Bus struct {
	mu          sync.Mutex
	past        []mobyevents.Message
	subscribers map[*subscriber]struct{}
	last        int64
}

type subscriber struct {
	match func(mobyevents.Message) bool
	ch    chan mobyevents.Message
}

// New returns a Bus without history.
func New() *Bus {
	return &Bus{subscribers: map[*subscriber]struct{}{}}
}

// Publish sends a message about the actor to every subscriber whose match
// accepts it. It never blocks. The times of successive messages rise strictly,
// also when the clock is set back, so that a subscriber can resume by time.
func (b *Bus) Publish(typ mobyevents.Type, action mobyevents.Action, actorID string, attributes map[string]string) {
	attributes = maps.Clone(attributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = max(b.last+1, time.Now().UnixNano())
	m := mobyevents.Message{
		Type:     typ,
		Action:   action,
		Actor:    mobyevents.Actor{ID: actorID, Attributes: attributes},
		Scope:    "local",
		Time:     b.last / int64(time.Second),
		TimeNano: b.last,
	}
	if len(b.past) == history {
		b.past = append(b.past[:0], b.past[1:]...)
	}
	b.past = append(b.past, m)
	for s := range b.subscribers {
		if s.match != nil && !s.match(m) {
			continue
		}
		select {
		case s.ch <- m:
		default:
			b.drop(s)
		}
	}
}

// Subscribe returns the messages that are kept from since up to until and match,
// and a channel of those that follow. A zero since asks for none of the past; a
// nil match accepts all. The channel is closed by cancel, or when the subscriber
// lags too far behind; ending at until is the caller's part.
func (b *Bus) Subscribe(since, until time.Time, match func(mobyevents.Message) bool) (past []mobyevents.Message, ch <-chan mobyevents.Message, cancel func()) {
	s := &subscriber{match: match, ch: make(chan mobyevents.Message, backlog)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !since.IsZero() {
		for _, m := range b.past {
			at := time.Unix(0, m.TimeNano)
			if at.Before(since) || (!until.IsZero() && at.After(until)) || (match != nil && !match(m)) {
				continue
			}
			past = append(past, m)
		}
	}
	b.subscribers[s] = struct{}{}
	return past, s.ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.drop(s)
	}
}

// drop ends a subscription once. The Bus's mutex is held.
func (b *Bus) drop(s *subscriber) {
	if _, ok := b.subscribers[s]; ok {
		delete(b.subscribers, s)
		close(s.ch)
	}
}
