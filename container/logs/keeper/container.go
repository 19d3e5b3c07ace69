package keeper

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"slipway/container/logs/jsonlog"
	"slipway/container/logs/wire"
)

// absentTime is how long the output is kept, and if there is too much of it waits, for clients that
// were attached when the keeper was replaced.
const absentTime = 10 * time.Second

// absentees are the clients of an earlier keeper that are still to come back.
type absentees struct {
	count    int
	from     [2]int64 // positions from which the output is kept for them
	patience *time.Timer
}

// container is one registered run of a container.
type container struct {
	id, run string
	dir     string
	resumed bool // an earlier keeper had the run
	logger  *slog.Logger
	workers sync.WaitGroup // streams, attachments, and the one that ends it

	ended chan struct{} // closed when the streams have ended and the log is complete
	read  chan struct{} // closed when nothing is read any more

	mu       sync.Mutex
	changed  sync.Cond // output came or went, a client came or went, the end came
	streams  [2]*stream
	sink     *logFile // nil: driver none
	progress *progress
	clients  map[*client]struct{}
	absent   absentees
	finish   bool // the task has exited: no writer means the end
	force    bool // an empty FIFO means the end
	stopped  bool // nothing more is read; the streams have not ended
}

// newContainer opens a run's files and continues where an earlier keeper left off.
func newContainer(dir, id string, reg *wire.Register, logger *slog.Logger) (_ *container, err error) {
	c := &container{
		id: id, run: reg.Run, dir: dir, absent: absentees{count: reg.Expect},
		logger:  logger.With(slog.String("container", id)),
		ended:   make(chan struct{}),
		read:    make(chan struct{}),
		clients: map[*client]struct{}{},
	}
	c.changed.L = &c.mu
	defer func() {
		if err != nil {
			err = errors.Join(err, c.closeFiles())
		}
	}()
	if c.resumed, err = prepareDir(dir, reg.Run); err != nil {
		return nil, err
	}
	if c.progress, err = openProgress(filepath.Join(dir, "progress")); err != nil {
		return nil, err
	}
	past := c.progress.load()
	for i, path := range []string{reg.Stdout, reg.Stderr} {
		if path == "" {
			continue
		}
		if c.streams[i], err = openStream(c, i, path, past); err != nil {
			return nil, err
		}
		c.absent.from[i] = c.streams[i].spool.punched
	}
	if past.ended {
		for _, s := range c.each() {
			s.eof = true
		}
		close(c.ended)
		return c, nil
	}
	if reg.Log.Driver == "json-file" {
		if c.sink, err = openLogFile(reg.Log, c.logger); err != nil {
			return nil, err
		}
		c.sink.dropped = past.dropped
	}
	if c.sink != nil && past.inode == c.sink.inode {
		if err := c.rollForward(past.size); err != nil {
			return nil, err
		}
	}
	c.commit()
	return c, nil
}

// prepareDir makes the folder of a run and removes what an earlier run has left in it. It reports whether an earlier
// keeper has made it.
func prepareDir(dir, run string) (resumed bool, err error) {
	name := filepath.Join(dir, "run")
	if old, err := os.ReadFile(name); err == nil && string(old) == run {
		return true, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	return false, os.WriteFile(name, []byte(run), 0o600)
}

// each returns the streams that there are.
func (c *container) each() []*stream {
	all := make([]*stream, 0, 2)
	for _, s := range c.streams {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// rollForward counts the records that the log has beyond the last mark. A kill came between their
// writing and the next mark; they are the stream's next pieces, one for one, since where output is
// cut depends on its bytes only.
func (c *container) rollForward(from int64) error {
	if c.sink.size <= from {
		return nil
	}
	r := bufio.NewReaderSize(io.NewSectionReader(c.sink.file, from, c.sink.size-from), 128<<10)
	var rec jsonlog.Record
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the log's end: %w", err)
		}
		if rec.Decode(line) != nil || bytes.Contains(rec.Attrs, []byte(droppedAttr)) {
			continue
		}
		for _, s := range c.each() {
			if s.name == rec.Stream {
				if err := s.skipPiece(); err != nil {
					return err
				}
			}
		}
	}
}

// start begins reading. The container owns its goroutines until done.
func (c *container) start() {
	c.absent.patience = time.AfterFunc(absentTime, c.giveUpAbsent)
	if c.isEnded() {
		close(c.read)
		return
	}
	var streams sync.WaitGroup
	for _, s := range c.each() {
		streams.Go(func() { c.follow(s) })
	}
	c.workers.Go(func() {
		streams.Wait()
		c.complete()
		close(c.read)
	})
}

// complete runs when the streams' goroutines are gone: it says that all is over and closes what is no
// longer needed, since the daemon may keep an exited container registered.
func (c *container) complete() {
	if !c.markEnded() {
		return // stopped
	}
	for _, s := range c.each() {
		if err := s.source.close(); err != nil {
			c.logger.Error("cannot close the source of a container's output", slog.Any("error", err))
		}
	}
	if c.sink != nil {
		if err := c.sink.close(); err != nil {
			c.logger.Error("cannot close the log", slog.Any("error", err))
		}
	}
}

func (c *container) markEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.each() {
		if !s.eof {
			return false
		}
	}
	m := c.mark()
	m.ended = true
	c.progress.store(m)
	close(c.ended)
	c.changed.Broadcast()
	return true
}

func (c *container) isEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// giveUpAbsent releases what was kept for clients that have not come back.
func (c *container) giveUpAbsent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent.count = 0
	for _, s := range c.each() {
		c.release(s)
	}
	c.changed.Broadcast()
}

// mark and commit are called under the lock.
func (c *container) mark() mark {
	var m mark
	if c.sink != nil {
		m.inode, m.size, m.dropped = c.sink.inode, c.sink.size, c.sink.dropped
	}
	for i, s := range c.streams {
		if s != nil {
			m.logged[i] = s.logged
		}
	}
	return m
}

func (c *container) commit() { c.progress.store(c.mark()) }

// finishNow says that the task has exited; force, that an empty FIFO is the end even if somebody
// holds it open.
func (c *container) finishNow(force bool) {
	c.mu.Lock()
	c.finish = true
	c.force = c.force || force
	c.changed.Broadcast()
	c.mu.Unlock()
	for _, s := range c.each() {
		s.wake()
	}
}

// halt ends the reading without ending the streams. From then on nothing of what
// was read is given back.
func (c *container) halt() {
	c.mu.Lock()
	c.stopped = true
	c.changed.Broadcast()
	c.mu.Unlock()
	for _, s := range c.each() {
		s.wake()
	}
}

// stop ends the reading without ending the streams, and drops the clients if asked to. It returns when
// all of the container's goroutines are gone, which without drop can last as long as a client is slow.
func (c *container) stop(drop bool) error {
	c.halt()
	if drop {
		c.mu.Lock()
		for cl := range c.clients {
			cl.drop()
		}
		c.changed.Broadcast()
		c.mu.Unlock()
	}
	c.absent.patience.Stop()
	c.workers.Wait()
	return c.closeFiles()
}

func (c *container) closeFiles() error {
	var errs []error
	for _, s := range c.each() {
		errs = append(errs, s.close())
	}
	if c.sink != nil {
		errs = append(errs, c.sink.close())
	}
	if c.progress != nil {
		errs = append(errs, c.progress.close())
	}
	return errors.Join(errs...)
}

func (c *container) status() wire.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := wire.Status{ID: c.id, Run: c.run, Ended: c.isEnded(), Attached: len(c.clients)}
	for i, s := range c.streams {
		if s == nil {
			continue
		}
		st.Position[i] = s.spool.size
		if s.failure != nil {
			st.Failure = s.failure.Error()
		}
	}
	if c.sink != nil {
		st.Dropped = c.sink.dropped
	}
	return st
}
