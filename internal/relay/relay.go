// Package relay carries one stream of bytes over connections that may break, so that the receiving end stores every
// byte once and in order, whenever the receiver is killed and replaced.
//
// A FIFO does that by itself where both its ends outlive the reader, as on Linux. A Windows named pipe is gone, with
// what is in it, when the process dies that listens on it. So the receiver says how far it has come, and the
// sender keeps what is beyond that.
//
// From the sender to the receiver go the bytes of the stream and nothing else: a plain writer that knows nothing of
// this package will do, at the price of what is on the way when the receiver dies. The end of the connection is the
// end of the stream. From the receiver to the sender go positions, the number of bytes stored since the stream's
// beginning, eight bytes each, big endian: one at once, from which on the sender sends, and more as it goes.
//
// [Sender] is the one end. The other reads the connection, stores what it reads, and tells [Receipts].
package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// window is the number of bytes that a sender keeps until the receiver has stored them: what a pipe holds.
	window = 64 << 10
	// chunk is the most that is sent at once.
	chunk = 32 << 10

	positionSize = 8

	// farewell is how long a sender that has nothing left tries to reach a receiver that is not there, to tell it the
	// end.
	farewell = time.Second
)

// redial is the pause between two attempts to reach a receiver. It grows up to the second.
var redial = [2]time.Duration{10 * time.Millisecond, 200 * time.Millisecond}

// errClosed is why writing to a closed sender fails.
var errClosed = errors.New("relay: the sender is closed")

// Dial connects to the receiver.
type Dial func(ctx context.Context) (net.Conn, error)

// Sender is the sending end of a stream. It is safe for concurrent use.
type Sender struct {
	stop context.CancelCauseFunc
	over chan struct{} // closed when nothing more is sent

	mu      sync.Mutex
	changed sync.Cond
	kept    []byte // sent or not, and not known to be stored
	base    int64  // the position of kept[0] as the receiver counts
	known   bool   // a receiver has told a position
	closing bool
	stopped bool
}

// NewSender returns a sender that connects by dial, and again whenever the connection breaks, until Close or the end
// of ctx.
func NewSender(ctx context.Context, dial Dial) *Sender {
	ctx, stop := context.WithCancelCause(ctx)
	s := &Sender{stop: stop, over: make(chan struct{})}
	s.changed.L = &s.mu
	go s.run(ctx, dial)
	return s
}

// Write adds p to the stream. It returns when all of it is kept, which waits for the receiver to store what is
// before it. It fails only once the sender is closed.
func (s *Sender) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for done := 0; ; {
		if s.closing || s.stopped {
			return done, errClosed
		}
		if n := min(len(p)-done, window-len(s.kept)); n > 0 {
			s.kept = append(s.kept, p[done:done+n]...)
			done += n
			s.changed.Broadcast()
		}
		if done == len(p) {
			return done, nil
		}
		s.changed.Wait()
	}
}

// Close ends the stream when all of it is stored. At the end of ctx it gives up, and says so. If there is no receiver,
// and nothing to receive, it returns soon.
func (s *Sender) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.changed.Broadcast()
	s.mu.Unlock()
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	for waiting := true; waiting; {
		select {
		case <-s.over:
			waiting = false
		case <-timer.C:
			waiting = s.left() > 0
		case <-ctx.Done():
			waiting = false
		}
	}
	s.stop(errClosed)
	<-s.over
	if s.left() > 0 {
		return errors.Join(errors.New("relay: the end of the stream was not received"), context.Cause(ctx))
	}
	return nil
}

// left is the number of bytes that are not known to be stored.
func (s *Sender) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// run sends until the stream has ended or ctx does.
func (s *Sender) run(ctx context.Context, dial Dial) {
	defer close(s.over)
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stopped = true
		s.changed.Broadcast()
	})()
	for delay := redial[0]; ctx.Err() == nil; delay = min(2*delay, redial[1]) {
		conn, err := dial(ctx)
		if err == nil {
			delay = redial[0]
			ended := s.session(ctx, conn)
			_ = conn.Close()
			if ended {
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// session sends over one connection and reports whether all was stored, and nothing follows.
func (s *Sender) session(ctx context.Context, conn net.Conn) (ended bool) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	at, err := readPosition(conn)
	if err != nil {
		return false
	}
	l := &link{sender: s, sent: s.resume(at)}
	var reading sync.WaitGroup
	reading.Go(func() { l.receive(conn) })
	defer reading.Wait()
	defer func() { _ = conn.Close() }()
	var buf [chunk]byte
	for {
		n, ended := l.next(buf[:])
		if n == 0 {
			return ended
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return false
		}
	}
}

// resume takes the position that a receiver begins at, and returns it. One that is not within what is kept is of a
// receiver that has forgotten the stream's beginning: it gets what there is.
func (s *Sender) resume(at int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known && at >= s.base && at <= s.base+int64(len(s.kept)) {
		s.drop(at)
	}
	s.base, s.known = at, true
	return at
}

// drop lets go of what is stored; the lock is held.
func (s *Sender) drop(upto int64) {
	n := upto - s.base
	if n <= 0 || n > int64(len(s.kept)) {
		return
	}
	s.kept = append(s.kept[:0], s.kept[n:]...)
	s.base = upto
	s.changed.Broadcast()
}

// link is the state of one connection; the sender's lock guards it.
type link struct {
	sender *Sender
	sent   int64
	broken bool
}

// next waits for something to send and copies it to buf. It returns 0 when the connection is of no more use.
func (l *link) next(buf []byte) (n int, ended bool) {
	s := l.sender
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case l.broken, s.stopped:
			return 0, false
		case s.closing && len(s.kept) == 0:
			return 0, true
		}
		if n := copy(buf, s.kept[l.sent-s.base:]); n > 0 {
			l.sent += int64(n)
			return n, false
		}
		s.changed.Wait()
	}
}

// receive takes the receiver's positions until the connection ends.
func (l *link) receive(conn net.Conn) {
	for {
		at, err := readPosition(conn)
		s := l.sender
		s.mu.Lock()
		if err != nil || at > l.sent {
			l.broken = true
			s.changed.Broadcast()
			s.mu.Unlock()
			return
		}
		s.drop(at)
		s.mu.Unlock()
	}
}

func readPosition(r io.Reader) (int64, error) {
	var b [positionSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil //nolint:gosec // written by Receipts
}

// Receipts tells a sender how far its stream is stored. It is safe for concurrent use.
type Receipts struct {
	mu      sync.Mutex
	changed sync.Cond
	stored  int64
	closed  bool
	done    chan struct{}
}

// NewReceipts tells the sender at the other end of conn to go on at a position, and then what [Receipts.Stored]
// says, until Close. The sender need not read it.
func NewReceipts(conn net.Conn, position int64) *Receipts {
	r := &Receipts{stored: position, done: make(chan struct{})}
	r.changed.L = &r.mu
	go r.run(conn)
	return r
}

// Stored says that everything before position is stored. It does not wait for the sender.
func (r *Receipts) Stored(position int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored = position
	r.changed.Broadcast()
}

// Close ends the telling. The connection has to be closed before.
func (r *Receipts) Close() {
	r.mu.Lock()
	r.closed = true
	r.changed.Broadcast()
	r.mu.Unlock()
	<-r.done
}

func (r *Receipts) run(conn net.Conn) {
	defer close(r.done)
	for told := int64(-1); ; {
		r.mu.Lock()
		for r.stored == told && !r.closed {
			r.changed.Wait()
		}
		at, closed := r.stored, r.closed
		r.mu.Unlock()
		if closed {
			return
		}
		var b [positionSize]byte
		binary.BigEndian.PutUint64(b[:], uint64(at)) //nolint:gosec // a position is not negative
		if _, err := conn.Write(b[:]); err != nil {
			return // the reading side of the connection tells the same
		}
		told = at
	}
}
