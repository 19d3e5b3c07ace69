package keeper

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
)

const slotSize = 64

// progress keeps the latest mark in a file, where a kill cannot tear it: a mark and its number are written at once, to
// the one of two places that has not the latest. It survives the process, not the machine, and neither do the
// containers.
//
// A place holds, little endian, the mark's number, the log file's number and size, the positions of stdout and stderr,
// whether the output has ended, the lines dropped, and the checksum of all that.
type progress struct {
	file *os.File
	seq  uint64
	last mark
}

func openProgress(path string) (*progress, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	p := &progress{file: f}
	for i := range int64(2) {
		var b [slotSize]byte
		if _, err := f.ReadAt(b[:], i*slotSize); err != nil && !errors.Is(err, io.EOF) {
			return nil, errors.Join(err, f.Close())
		}
		if seq, m, ok := decodeMark(b[:]); ok && seq > p.seq {
			p.seq, p.last = seq, m
		}
	}
	return p, nil
}

func (p *progress) load() mark { return p.last }

// store does not fail: without it, a keeper that takes over writes some lines again.
func (p *progress) store(m mark) {
	if p.file == nil || p.seq > 0 && p.last == m {
		return
	}
	p.seq++
	p.last = m
	_, _ = p.file.WriteAt(encodeMark(p.seq, m), int64(p.seq%2)*slotSize)
}

// close may be called again.
func (p *progress) close() error {
	if p.file == nil {
		return nil
	}
	err := p.file.Close()
	p.file = nil
	return err
}

func encodeMark(seq uint64, m mark) []byte {
	ended := int64(0)
	if m.ended {
		ended = 1
	}
	b := make([]byte, 0, slotSize)
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint64(b, m.inode)
	for _, v := range []int64{m.size, m.logged[0], m.logged[1], ended, m.dropped} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v)) //nolint:gosec // bits only
	}
	return binary.LittleEndian.AppendUint64(b, uint64(crc32.ChecksumIEEE(b)))
}

func decodeMark(b []byte) (seq uint64, m mark, ok bool) {
	get := func(i int) uint64 { return binary.LittleEndian.Uint64(b[i*8:]) }
	seq = get(0)
	m.inode = get(1)
	for i, v := range []*int64{&m.size, &m.logged[0], &m.logged[1]} {
		*v = int64(get(2 + i)) //nolint:gosec // bits only
	}
	m.ended, m.dropped = get(5) != 0, int64(get(6)) //nolint:gosec // bits only
	return seq, m, seq > 0 && get(7) == uint64(crc32.ChecksumIEEE(b[:slotSize-8]))
}
