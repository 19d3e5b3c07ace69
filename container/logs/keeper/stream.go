package keeper

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"slipway/container/logs/jsonlog"
	"slipway/container/logs/wire"
)

const (
	// clientBuffer is the output in bytes that a slow client may leave waiting before the container
	// waits for it. It doubles once the task has exited: a slow client must not keep the rest out of
	// the log.
	clientBuffer = 1 << 20
	// takeSize is the most that is taken at once: what a FIFO holds.
	takeSize = 64 << 10
	// retryDelay is the pause after the spool's file system refused output (the tmpfs is full).
	retryDelay = 100 * time.Millisecond
)

// stream is a container's stdout or stderr.
type stream struct {
	name  string
	index int
	kind  wire.Kind
	// source is where the output comes from; nil if it has ended before. The stream's goroutine uses it, except for
	// wake.
	source *source

	// guarded by container.mu
	spool   *spool
	logged  int64     // position up to which the stream is in the log
	begun   time.Time // when the unfinished line's first piece was read
	eof     bool
	failure error // why nothing can be read at the moment
}

func openStream(c *container, index int, path string, past mark) (_ *stream, err error) {
	s := &stream{index: index, name: [2]string{"stdout", "stderr"}[index], logged: past.logged[index]}
	s.kind = [2]wire.Kind{wire.KindStdout, wire.KindStderr}[index]
	if s.spool, err = openSpool(filepath.Join(c.dir, s.name)); err != nil {
		return nil, err
	}
	if past.ended {
		return s, nil
	}
	if s.source, err = openSource(path, c.resumed); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close closes what is open; the stream may have closed its source at its end.
func (s *stream) close() error {
	err := s.spool.close()
	if s.source != nil {
		err = errors.Join(err, s.source.close())
	}
	return err
}

// wake makes a read that waits for output look around.
func (s *stream) wake() {
	if s.source != nil {
		s.source.wake()
	}
}

// skipPiece moves past one piece that is in the log already.
func (s *stream) skipPiece() error {
	b := make([]byte, min(s.spool.size-s.logged, jsonlog.MaxPiece))
	if len(b) == 0 {
		return nil
	}
	if err := s.spool.read(b, s.logged); err != nil {
		return err
	}
	s.logged += int64(jsonlog.Split(b, true))
	return nil
}

// follow reads a stream until it ends or the container is stopped.
func (c *container) follow(s *stream) {
	c.mu.Lock()
	c.record(s, false) // what an earlier keeper has read
	c.mu.Unlock()
	for c.awaitRoom(s) {
		err := c.receive(s)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			// Woken up: finish, force and stopped are looked at under the lock from here on.
			s.source.rest()
		default:
			c.fail(s, err)
			time.Sleep(retryDelay)
		}
	}
}

// awaitRoom waits until the slowest client has taken enough, and reports whether to read on.
func (c *container) awaitRoom(s *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.stopped && !s.eof {
		limit := int64(clientBuffer)
		if c.finish {
			limit *= 2
		}
		if s.spool.size-c.slowest(s) < limit || c.force {
			return true
		}
		c.changed.Wait()
	}
	return false
}

// end, recovered, slowest, record and release are called under the container's lock.

func (c *container) end(s *stream) {
	s.eof = true
	c.record(s, true)
}

func (c *container) fail(s *stream, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.failure == nil {
		c.logger.Error("cannot read a container's output, it waits", slog.String("stream", s.name), slog.Any("error", err))
	}
	s.failure = err
}

func (c *container) recovered(s *stream) {
	if s.failure != nil {
		c.logger.Info("a container's output is read again", slog.String("stream", s.name))
		s.failure = nil
	}
}

// slowest returns the position up to which every client, also one that is to come back, has the stream.
func (c *container) slowest(s *stream) int64 {
	pos := s.spool.size
	if c.absent.count > 0 {
		pos = min(pos, c.absent.from[s.index])
	}
	for cl := range c.clients {
		if cl.wants[s.index] {
			pos = min(pos, cl.sent[s.index])
		}
	}
	return pos
}

// scratch is the memory for recording, which only a busy stream needs.
type scratch struct {
	text    [takeSize + jsonlog.MaxPiece]byte
	records []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// record writes what the spool has to the log, line by line, and gives the clients their share. With
// last, an unfinished line is written too.
func (c *container) record(s *stream, last bool) {
	for cl := range c.clients {
		cl.enqueue(s.index, s.spool.size)
	}
	if c.sink == nil {
		s.logged = s.spool.size
		c.commit()
	} else if s.logged < s.spool.size {
		sc := scratches.Get().(*scratch) //nolint:forcetypeassert // the pool's only type
		for c.recordSome(s, sc, last) {
		}
		scratches.Put(sc)
	}
	c.release(s)
}

// release gives back the memory of what is in the log and with all clients, unless
// the next keeper may have to send it again.
func (c *container) release(s *stream) {
	if c.stopped {
		return
	}
	s.spool.release(min(s.logged, c.slowest(s)), s.eof)
}

// recordSome writes as much as sc takes at once and reports whether to go on.
func (c *container) recordSome(s *stream, sc *scratch, last bool) bool {
	text := sc.text[:min(s.spool.size-s.logged, int64(len(sc.text)))]
	whole := s.logged+int64(len(text)) == s.spool.size
	if err := s.spool.read(text, s.logged); err != nil {
		c.logger.Error("cannot read back a container's output", slog.String("stream", s.name), slog.Any("error", err))
		s.logged = s.spool.size
		c.commit()
		return false
	}
	records, now, done := sc.records[:0], time.Now(), 0
	for {
		n := jsonlog.Split(text[done:], last && whole)
		if n == 0 {
			break
		}
		if c.sink.full(len(records)) {
			c.sink.write(records)
			records = records[:0]
			s.logged += int64(done)
			text, done = text[done:], 0
			c.commit()
			c.sink.rotate()
			c.commit()
		}
		piece := text[done : done+n]
		records = jsonlog.Append(records, piece, s.name, c.sink.attrs, s.stamp(piece, now))
		done += n
	}
	c.sink.write(records)
	s.logged += int64(done)
	c.commit()
	sc.records = records[:0]
	return !whole && done > 0
}

// stamp returns the time of a piece: all pieces of a line have the first one's.
func (s *stream) stamp(piece []byte, now time.Time) time.Time {
	t := now
	if !s.begun.IsZero() {
		t = s.begun
	}
	s.begun = t
	if piece[len(piece)-1] == '\n' {
		s.begun = time.Time{}
	}
	return t
}
