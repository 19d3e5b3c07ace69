package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// segmentSize is the size after which a spool goes on in another file, and what is given back at once.
const segmentSize = 1 << 20

// spool is a stream's output that somebody still needs: files one after the other, each named after the position in
// the stream of its first byte. What is given back are whole files, so that it needs nothing of the file system. The
// position of the stream is the last file's and its size.
type spool struct {
	path    string
	size    int64 // guarded by the container's lock, as is punched
	punched int64 // everything before was given back

	mu       sync.RWMutex
	segments []segmentFile
	memory   []byte // instead of the segments, once they were let go: from punched on
}

// segmentFile is one file of a spool.
type segmentFile struct {
	file  *os.File
	start int64
}

func openSpool(path string) (_ *spool, err error) {
	p := &spool{path: path}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	names, err := filepath.Glob(path + ".*") // the path has no special characters: it is one of ours
	if err != nil {
		return nil, err
	}
	slices.Sort(names) // all names are of the same length
	for _, name := range names {
		start, err := strconv.ParseInt(strings.TrimPrefix(name, path+"."), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("spool %s: %w", name, err)
		}
		if err := p.open(start); err != nil {
			return nil, err
		}
	}
	if len(p.segments) == 0 {
		if err := p.open(0); err != nil {
			return nil, err
		}
	}
	last := p.segments[len(p.segments)-1]
	fi, err := last.file.Stat()
	if err != nil {
		return nil, err
	}
	p.size, p.punched = last.start+fi.Size(), p.segments[0].start
	return p, nil
}

// open adds the file that begins at a position.
func (p *spool) open(start int64) error {
	f, err := os.OpenFile(fmt.Sprintf("%s.%016x", p.path, start), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.segments = append(p.segments, segmentFile{file: f, start: start})
	return nil
}

// append adds b to the end of the spool: all of it, or nothing.
func (p *spool) append(b []byte) error {
	last := p.segments[len(p.segments)-1]
	if p.size-last.start >= segmentSize {
		if err := p.open(p.size); err != nil {
			return err
		}
		last = p.segments[len(p.segments)-1]
	}
	if _, err := last.file.WriteAt(b, p.size-last.start); err != nil {
		return errors.Join(err, last.file.Truncate(p.size-last.start))
	}
	p.size += int64(len(b))
	return nil
}

// read fills b with the output at the given position.
func (p *spool) read(b []byte, pos int64) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.memory != nil {
		if pos < p.punched || pos-p.punched+int64(len(b)) > int64(len(p.memory)) {
			return fmt.Errorf("spool at %d: %w", pos, io.ErrUnexpectedEOF)
		}
		copy(b, p.memory[pos-p.punched:])
		return nil
	}
	for _, seg := range slices.Backward(p.segments) {
		if seg.start >= pos+int64(len(b)) || len(b) == 0 {
			continue
		}
		from := max(pos, seg.start)
		part := b[from-pos:]
		if n, err := seg.file.ReadAt(part, from-seg.start); n < len(part) {
			return fmt.Errorf("spool at %d: %w", from, err)
		}
		b = b[:from-pos]
	}
	if len(b) > 0 {
		return fmt.Errorf("spool at %d: %w", pos, io.ErrUnexpectedEOF)
	}
	return nil
}

// release gives back what is before pos, in whole files. The last stays, for its name is the position.
func (p *spool) release(pos int64, _ bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.segments) > 1 && p.segments[1].start <= pos {
		first := p.segments[0]
		// A file that stays takes room until the container is gone, no more.
		_ = first.file.Close()
		_ = os.Remove(first.file.Name())
		p.segments = p.segments[1:]
		p.punched = p.segments[0].start
	}
}

// letGo takes what is still needed into memory and closes the files, so that they can be removed. Nothing is appended
// any more.
func (p *spool) letGo() error {
	memory := make([]byte, p.size-p.punched)
	err := p.read(memory, p.punched)
	p.mu.Lock()
	p.memory = memory
	p.mu.Unlock()
	return errors.Join(err, p.close())
}

// close may be called again.
func (p *spool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, seg := range p.segments {
		errs = append(errs, seg.file.Close())
	}
	p.segments = nil
	return errors.Join(errs...)
}
