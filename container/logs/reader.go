package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"slipway/container/logs/jsonlog"
)

const (
	// readSize is how much of a log is read at once.
	readSize = 64 << 10
	// longestLine is more than any record takes.
	longestLine = 1 << 20
	// lookAhead is how much is read of a file before the reader looks for newer ones, which rotation
	// could remove meanwhile.
	lookAhead = 256 << 10
	// maxHeld bounds the files that a slow follower keeps from being really removed.
	maxHeld = 16
	// pollWatched and pollBare are how often a follower looks without a notification.
	pollWatched = 2 * time.Second
	pollBare    = 100 * time.Millisecond
)

// ReadOptions selects lines of a log.
type ReadOptions struct {
	Since, Until   time.Time // zero: no bound; both are inclusive
	Tail           int       // the last lines only, before any other selection; negative: all
	Follow         bool
	Stdout, Stderr bool
	Logger         *slog.Logger // told of lines that cannot be read
}

// Message is one line of output, or a piece of a long one.
type Message struct {
	Stream string
	Time   time.Time
	Line   []byte // ends in a newline unless it is a piece; valid until the next call of Next
	Attrs  map[string]string
}

// Reader reads a log with its rotated files. It is not safe for concurrent use; any number of Readers may
// read one log, and none holds up the container or another.
type Reader struct {
	path    string
	opts    ReadOptions
	done    <-chan struct{}
	watcher *fsnotify.Watcher // nil if there is none: polled

	parts   []*part // what is to be read, oldest first
	buf     *bufio.Reader
	pending []byte // a line's beginning, whose end is not there yet
	since   int    // bytes read since the last look for newer files
	settled bool   // the first part will not grow: once more read to its end, it is done
	tooLong bool   // the line under way is dropped
	over    bool
	record  jsonlog.Record
	skipped int
}

// Open reads the log at path. With Follow it goes on until done is closed, which says that the container
// has ended and its output is complete. A log that does not exist is empty.
func Open(path string, opts ReadOptions, done <-chan struct{}) (*Reader, error) {
	r := &Reader{path: path, opts: opts, done: done, buf: bufio.NewReaderSize(nil, readSize)}
	if opts.Follow {
		r.watcher = watch(filepath.Dir(path))
	}
	parts, err := openParts(path, opts.Tail)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.parts = parts
	r.begin()
	return r, nil
}

// watch returns nil if the machine has no watches left.
func watch(dir string) *fsnotify.Watcher {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil
	}
	if err := w.Add(dir); err != nil {
		_ = w.Close()
		return nil
	}
	return w
}

// Close ends reading.
func (r *Reader) Close() error {
	var errs []error
	if r.watcher != nil {
		errs = append(errs, r.watcher.Close())
		r.watcher = nil
	}
	for _, p := range r.parts {
		errs = append(errs, p.close())
	}
	r.parts, r.over = nil, true
	return errors.Join(errs...)
}

// Next returns the next selected line. It returns io.EOF at the end: of the log, or, with Follow, when
// the container has ended or Until has come.
func (r *Reader) Next(ctx context.Context) (Message, error) {
	for {
		if ctx.Err() != nil {
			return Message{}, context.Cause(ctx)
		}
		line, err := r.line(ctx)
		if err != nil {
			return Message{}, err
		}
		if err := r.record.Decode(line); err != nil {
			r.skip("a line is damaged")
			continue
		}
		rec := &r.record
		switch {
		case rec.Stream == "stdout" && !r.opts.Stdout, rec.Stream == "stderr" && !r.opts.Stderr:
			continue
		case !r.opts.Since.IsZero() && rec.Time.Before(r.opts.Since):
			continue
		case !r.opts.Until.IsZero() && rec.Time.After(r.opts.Until):
			// Not the end: the clock may have been set back afterwards.
			continue
		}
		m := Message{Stream: rec.Stream, Time: rec.Time, Line: rec.Log}
		if len(rec.Attrs) > 0 && json.Unmarshal(rec.Attrs, &m.Attrs) != nil {
			m.Attrs = nil // not of strings: not ours
		}
		return m, nil
	}
}

// skip notes what a reader of the log does not get; the first time, the daemon's log says so.
func (r *Reader) skip(what string) {
	r.skipped++
	if r.skipped == 1 && r.opts.Logger != nil {
		r.opts.Logger.Warn("a container's log cannot be read completely", slog.String("path", r.path), slog.String("reason", what))
	}
}

// begin starts reading the first part.
func (r *Reader) begin() {
	r.settled = false
	if len(r.parts) > 0 {
		r.buf.Reset(r.parts[0])
	}
}

// line returns the next complete line of the log.
func (r *Reader) line(ctx context.Context) ([]byte, error) {
	for {
		if r.over {
			return nil, io.EOF
		}
		if len(r.parts) == 0 {
			if err := r.await(ctx); err != nil {
				return nil, err
			}
			continue
		}
		chunk, err := r.buf.ReadSlice('\n')
		r.since += len(chunk)
		switch {
		case err == nil:
			if line, ok := r.complete(chunk); ok {
				return line, nil
			}
		case errors.Is(err, bufio.ErrBufferFull):
			r.hold(chunk)
		case errors.Is(err, io.EOF):
			r.hold(chunk)
			if err := r.atEnd(ctx); err != nil {
				return nil, err
			}
		default:
			// The rest of a damaged file (a compressed one, cut by a power failure) is lost, no more.
			r.skip("the rest of a file is damaged")
			r.settled = true
			if err := r.atEnd(ctx); err != nil {
				return nil, err
			}
		}
	}
}

func (r *Reader) hold(chunk []byte) {
	if len(r.pending)+len(chunk) > longestLine {
		r.pending, r.tooLong = r.pending[:0], true
	}
	if !r.tooLong {
		r.pending = append(r.pending, chunk...)
	}
}

// complete joins a line's last chunk with its beginning; false if the line is dropped.
func (r *Reader) complete(chunk []byte) ([]byte, bool) {
	if r.opts.Follow && r.since > lookAhead && len(r.parts) < maxHeld {
		r.look()
	}
	if r.tooLong {
		r.tooLong = false
		r.skip("a line is too long")
		return nil, false
	}
	if len(r.pending) == 0 {
		return chunk, true
	}
	line := append(r.pending, chunk...)
	r.pending = line[:0]
	return line, true
}

// atEnd is called when the first part has been read to its present end.
func (r *Reader) atEnd(ctx context.Context) error {
	switch {
	case !r.opts.Follow, r.settled && len(r.parts) > 1:
		if len(r.parts) > 1 {
			return r.advance()
		}
		return r.finish()
	case r.settled:
		return r.finish()
	default:
		return r.await(ctx)
	}
}

// advance goes to the next part.
func (r *Reader) advance() error {
	if len(r.pending) > 0 {
		r.pending, r.tooLong = r.pending[:0], false
		r.skip("a line is incomplete")
	}
	err := r.parts[0].close()
	r.parts = r.parts[1:]
	r.begin()
	return err
}

func (r *Reader) finish() error {
	if len(r.pending) > 0 {
		r.skip("a line is incomplete")
	}
	r.over = true
	return io.EOF
}

// await waits until there may be more. The order matters: what says that a file will not grow (the
// container's end, a newer file) is looked at first and the file read to its end afterwards.
func (r *Reader) await(ctx context.Context) error {
	if !r.opts.Follow {
		return r.finish()
	}
	ended := r.ended()
	r.look()
	switch {
	case len(r.parts) > 1, ended && len(r.parts) == 1:
		r.settled = true
		return nil
	case ended:
		return r.finish()
	}
	return r.sleep(ctx)
}

func (r *Reader) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return !r.opts.Until.IsZero() && time.Now().After(r.opts.Until)
	}
}

func (r *Reader) sleep(ctx context.Context) error {
	wait, events, errs := pollBare, (chan fsnotify.Event)(nil), (chan error)(nil)
	if r.watcher != nil {
		wait, events, errs = pollWatched, r.watcher.Events, r.watcher.Errors
	}
	if !r.opts.Until.IsZero() {
		wait = min(wait, max(time.Until(r.opts.Until), time.Millisecond))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.done:
	case <-timer.C:
	case <-events:
	case <-errs: //nolint:errcheck // events were lost: look
	}
	return nil
}

// look adds the files that are newer than the newest known.
func (r *Reader) look() {
	r.since = 0
	var last *part
	if n := len(r.parts); n > 0 {
		last = r.parts[n-1]
	}
	newer, found := newerParts(r.path, last)
	if !found {
		r.skip("files were rotated away faster than they were read")
	}
	if len(newer) == 0 {
		return
	}
	r.parts = append(r.parts, newer...)
	if last == nil {
		r.begin()
	}
}
