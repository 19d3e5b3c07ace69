package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"slipway/container/logs/jsonlog"
	"slipway/internal/sharedfile"
)

// part is one file of a log: the current one or a rotated one.
type part struct {
	file   *os.File
	info   os.FileInfo
	id     uint64          // tells it from the others, whatever their names
	origin jsonlog.Rotated // of a compressed file: what it was before
	source io.Reader       // the file, decompressed
	gzip   bool
}

func openPart(path string) (*part, error) {
	f, err := sharedfile.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	p := &part{file: f, source: f}
	if p.info, err = f.Stat(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if p.id, err = sharedfile.ID(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// openRotated opens a rotated file, compressed or not. The plain one wins while both are there.
func openRotated(path string) (*part, error) {
	for range 2 {
		p, err := openPart(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return p, err
		}
		p, err = openPart(path + ".gz")
		if errors.Is(err, fs.ErrNotExist) {
			continue // it may have been renamed in between
		}
		if err != nil {
			return nil, err
		}
		return p.compressed()
	}
	return nil, fs.ErrNotExist
}

func (p *part) compressed() (*part, error) {
	gz, err := gzip.NewReader(bufio.NewReaderSize(p.file, readSize))
	if err != nil {
		p.source = bytes.NewReader(nil) // torn by a power failure: nothing to be had
		return p, nil
	}
	if json.Unmarshal(gz.Extra, &p.origin) != nil {
		p.origin = jsonlog.Rotated{} // not ours
	}
	p.source, p.gzip = gz, true
	return p, nil
}

func (p *part) Read(b []byte) (int, error) { return p.source.Read(b) }

func (p *part) close() error { return p.file.Close() }

// same reports whether two parts are the same file of the log.
func (p *part) same(q *part) bool {
	return p.id == q.id || p.became(q) || q.became(p) // all are in one folder
}

// became reports whether q is p compressed. The inode alone would not do: it is used again.
func (p *part) became(q *part) bool {
	if p.gzip || !q.gzip {
		return false
	}
	now, err := p.file.Stat() // it may have grown since it was opened
	return err == nil && p.id == q.origin.Inode && now.ModTime().Equal(q.origin.LastTime)
}

// newerParts opens the files of a log that are newer than last (all if it is nil), oldest first. It is not
// found if last is no longer among them, so that files may be missing.
//
// They are opened from the newest to the oldest: a rotation in between shows a file twice, and skips none.
func newerParts(path string, last *part) (newer []*part, found bool) {
	for i := 0; ; i++ {
		p, err := openNth(path, i)
		if errors.Is(err, fs.ErrNotExist) && i == 0 {
			// A rotation is under way: the current file is not there for a moment.
			return nil, true
		}
		if errors.Is(err, fs.ErrNotExist) && i < lastNumber(path) {
			continue
		}
		if err != nil {
			break
		}
		if last != nil && p.same(last) {
			_ = p.close()
			found = true
			break
		}
		if slices.ContainsFunc(newer, p.same) {
			_ = p.close()
			continue
		}
		newer = append(newer, p)
	}
	slices.Reverse(newer)
	return newer, found || last == nil
}

func openNth(path string, i int) (*part, error) {
	if i == 0 {
		return openPart(path)
	}
	return openRotated(path + "." + strconv.Itoa(i))
}

// lastNumber returns the highest number of a rotated file. Lower ones can be missing: during a rotation, and
// until the next one if a kill came in the middle.
func lastNumber(path string) int {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return 0
	}
	last := 0
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSuffix(number, ".gz")); err == nil {
			last = max(last, n)
		}
	}
	return last
}

// openParts opens a log's files, oldest first, each positioned at the first of the last tail lines.
func openParts(path string, tail int) (_ []*part, err error) {
	var parts []*part
	defer func() {
		if err != nil {
			for _, p := range parts {
				err = errors.Join(err, p.close())
			}
		}
	}()
	for i := 0; ; i++ {
		p, err := openNth(path, i)
		if errors.Is(err, fs.ErrNotExist) {
			if i < lastNumber(path) {
				continue
			}
			break
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(parts, p.same) {
			if err := p.close(); err != nil {
				return nil, err
			}
			continue
		}
		parts = append(parts, p)
		if tail < 0 {
			continue
		}
		n, err := p.seekTail(tail)
		if err != nil {
			return nil, err
		}
		if tail -= n; tail == 0 {
			break
		}
	}
	slices.Reverse(parts)
	return parts, nil
}

// seekTail positions the part at the first of its last want lines and returns how many there are.
func (p *part) seekTail(want int) (int, error) {
	if p.gzip {
		return p.skipToTail(want)
	}
	found := 0
	buf := make([]byte, readSize)
	for end := p.info.Size(); end > 0; {
		base := max(end-readSize, 0)
		b := buf[:end-base]
		if _, err := p.file.ReadAt(b, base); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for i := bytes.LastIndexByte(b, '\n'); i >= 0; i = bytes.LastIndexByte(b[:i], '\n') {
			if found == want {
				_, err := p.file.Seek(base+int64(i)+1, io.SeekStart)
				return found, err
			}
			found++
		}
		end = base
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return found, err
}

// skipToTail is seekTail for a compressed file: it is read once to count and once to skip.
func (p *part) skipToTail(want int) (int, error) {
	total := skipLines(p.source, -1)
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	again, err := p.compressed()
	if err != nil || !again.gzip {
		return 0, err
	}
	r := bufio.NewReaderSize(p.source, readSize)
	skipLines(r, max(total-want, 0))
	p.source = r
	return min(total, want), nil
}

// skipLines skips n lines, or all if n is negative, and returns how many there were. Damage ends it.
func skipLines(source io.Reader, n int) int {
	r, ok := source.(*bufio.Reader)
	if !ok {
		r = bufio.NewReaderSize(source, readSize)
	}
	for done := 0; ; {
		if done == n {
			return done
		}
		switch _, err := r.ReadSlice('\n'); {
		case err == nil:
			done++
		case !errors.Is(err, bufio.ErrBufferFull):
			return done
		}
	}
}
