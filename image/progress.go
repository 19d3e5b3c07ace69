package image

import (
	"fmt"
	"sync"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
)

// Progress receives the messages of a long operation, in order and one at a
// time. It may block, which slows the operation down; nil discards them.
type Progress func(jsonstream.Message)

// progressInterval is the least time between two progress bars of one layer.
const progressInterval = 100 * time.Millisecond

// reporter turns what happens to layers into Docker's messages. A goroutine of
// its own sends them, so that a client that does not read holds up nobody who
// waits for a layer; of the bars of one layer that wait, only the last is sent.
type reporter struct {
	send Progress
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	wake    *sync.Cond
	waiting []jsonstream.Message
	last    map[string]lastBar
	closed  bool
}

// lastBar is the last progress message of one layer.
type lastBar struct {
	status string
	at     time.Time
}

// newReporter returns a reporter; close must be called.
func newReporter(send Progress) *reporter {
	r := &reporter{send: send, last: map[string]lastBar{}, done: make(chan struct{})}
	r.wake = sync.NewCond(&r.mu)
	if send == nil {
		close(r.done)
		return r
	}
	go r.run()
	return r
}

func (r *reporter) run() {
	defer close(r.done)
	for {
		r.mu.Lock()
		for len(r.waiting) == 0 && !r.closed {
			r.wake.Wait()
		}
		batch := r.waiting
		r.waiting = nil
		r.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, message := range batch {
			r.send(message)
		}
	}
}

// close waits until everything is sent.
func (r *reporter) close() {
	r.mu.Lock()
	r.closed = true
	r.wake.Signal()
	r.mu.Unlock()
	<-r.done
}

// message queues one message.
func (r *reporter) message(message jsonstream.Message) {
	if r.send == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if message.ID != "" {
		r.last[message.ID] = lastBar{status: message.Status}
	}
	r.waiting = append(r.waiting, message)
	r.wake.Signal()
}

// status sends a message about the layer (or other thing) called id.
func (r *reporter) status(id, format string, args ...any) {
	r.message(jsonstream.Message{ID: id, Status: fmt.Sprintf(format, args...)})
}

// stream sends a line of plain output.
func (r *reporter) stream(format string, args ...any) {
	r.message(jsonstream.Message{Stream: fmt.Sprintf(format, args...) + "\n"})
}

// layer sends a status of a layer, with the empty progress detail that makes
// the client erase the bar.
func (r *reporter) layer(id, status string) {
	r.message(jsonstream.Message{ID: id, Status: status, Progress: &jsonstream.Progress{}})
}

// bar sends how far a layer is, unless that was done a moment ago.
func (r *reporter) bar(id, status string, current, total int64) {
	if r.send == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if last := r.last[id]; last.status == status && now.Sub(last.at) < progressInterval && current != total {
		return
	}
	r.last[id] = lastBar{status: status, at: now}
	message := jsonstream.Message{ID: id, Status: status, Progress: &jsonstream.Progress{Current: current, Total: total}}
	for i, waiting := range r.waiting {
		if waiting.ID == id && waiting.Status == status {
			r.waiting[i] = message
			return
		}
	}
	r.waiting = append(r.waiting, message)
	r.wake.Signal()
}
