package keeper

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"slipway/container/logs/wire"
	"slipway/internal/relay"
)

const (
	// senderPatience is how long the end of output waits for a shim that had been connected to an earlier keeper and
	// has not yet found this one.
	senderPatience = 3 * time.Second
	// emptyTime is how long no output comes until a pipe that somebody holds open counts as empty.
	emptyTime = 50 * time.Millisecond
)

// source is the listening end of a container's output pipe. It has one connection at a time, the shim's.
type source struct {
	listener  net.Listener
	incoming  chan net.Conn
	closing   chan struct{} // closed by close
	accepting sync.WaitGroup
	wakeup    chan struct{}
	// awaited is until when a sender may come although the task has exited: not at all if none has been there before.
	awaited time.Time
	buf     []byte // of the stream's goroutine

	mu       sync.Mutex
	conn     net.Conn        // changed by the stream's goroutine and close
	receipts *relay.Receipts // of conn
}

// openSource makes the pipe. If an earlier keeper had made it, its sender is expected to come again.
func openSource(path string, resumed bool) (*source, error) {
	listener, err := wire.ListenPipe(path)
	if err != nil {
		return nil, err
	}
	s := &source{
		listener: listener, incoming: make(chan net.Conn), closing: make(chan struct{}),
		wakeup: make(chan struct{}, 1), buf: make([]byte, takeSize),
	}
	if resumed {
		s.awaited = time.Now().Add(senderPatience)
	}
	s.accepting.Go(s.accept)
	return s, nil
}

func (s *source) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil && passing(err) {
			time.Sleep(retryDelay)
			continue
		}
		if err != nil {
			return
		}
		select {
		case s.incoming <- conn:
		case <-s.closing:
			_ = conn.Close()
			return
		}
	}
}

// close may be called again.
func (s *source) close() error {
	select {
	case <-s.closing:
		return nil
	default:
	}
	close(s.closing)
	err := s.listener.Close()
	s.accepting.Wait()
	s.hangUp()
	return err
}

// begin makes conn the connection that is read, from a position of the stream on.
func (s *source) begin(conn net.Conn, position int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.receipts = conn, relay.NewReceipts(conn, position)
}

// hangUp ends the connection, if there is one.
func (s *source) hangUp() {
	s.mu.Lock()
	conn, receipts := s.conn, s.receipts
	s.conn, s.receipts = nil, nil
	s.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // what was not received, the sender still has
		receipts.Close()
	}
}

// wake makes a read that waits for output look around, until rest.
func (s *source) wake() {
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
	s.deadline(time.Unix(1, 0))
}

func (s *source) rest() { s.deadline(time.Time{}) }

func (s *source) deadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.SetReadDeadline(t) // it fails only for a pipe that was closed
	}
}

// receive waits for output and records it, or finds the stream's end.
func (c *container) receive(s *stream) error {
	if s.source.conn == nil {
		c.awaitSender(s)
		return nil
	}
	c.mu.Lock()
	force, stopped := c.force, c.stopped
	c.mu.Unlock()
	if stopped {
		return nil
	}
	if force {
		s.source.deadline(time.Now().Add(emptyTime))
	}
	n, err := s.source.conn.Read(s.source.buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	if n > 0 {
		if err := s.spool.append(s.source.buf[:n]); err != nil {
			s.source.hangUp() // the sender sends it again
			return err
		}
		s.source.receipts.Stored(s.spool.size)
		c.recovered(s)
		c.record(s, false)
	}
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF), c.force && isNet && timeout.Timeout() && n == 0:
		c.end(s)
	case isNet && timeout.Timeout():
		return os.ErrDeadlineExceeded
	default:
		s.source.hangUp()
	}
	return nil
}

// awaitSender waits for the shim to connect, or finds that none will.
func (c *container) awaitSender(s *stream) {
	src := s.source
	select {
	case conn := <-src.incoming:
		src.begin(conn, s.spool.size)
		return
	default:
	}
	c.mu.Lock()
	over := c.force || c.finish && time.Now().After(src.awaited)
	if over && !c.stopped {
		c.end(s)
		c.changed.Broadcast()
	}
	finish, stopped := c.finish, c.stopped
	c.mu.Unlock()
	if over || stopped {
		return
	}
	var patience <-chan time.Time
	if finish {
		patience = time.After(time.Until(src.awaited))
	}
	select {
	case conn := <-src.incoming:
		src.begin(conn, s.spool.size)
	case <-src.wakeup:
	case <-patience:
	}
}
