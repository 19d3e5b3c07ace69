//go:build linux

package vm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
)

// disk is a disk with a volatile write cache, as the standards of disks allow
// it: what was written is read back at once, but is on the medium only after a
// flush, or if the write asked for it (FUA). What is in the cache may reach the
// medium at any time, in any order, and sector by sector. When the power is cut,
// the cache is gone.
//
// It speaks the protocol of network block devices, with one client.
type disk struct {
	medium *os.File
	size   int64

	mu    sync.Mutex
	rng   *rand.Rand
	cache map[int64][]byte // by offset of the block
}

const (
	blockSize  = 4096 // what the cache holds
	sectorSize = 512  // what the medium writes as a whole
)

func newDisk(file string, seed uint64) (*disk, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &disk{medium: f, size: info.Size(), rng: rand.New(rand.NewPCG(seed, 0)), cache: map[int64][]byte{}}, nil
}

func (d *disk) check(offset int64, length int) error {
	if offset < 0 || offset+int64(length) > d.size {
		return fmt.Errorf("beyond the disk: %d bytes at %d", length, offset)
	}
	return nil
}

func (d *disk) read(p []byte, offset int64) error {
	if err := d.check(offset, len(p)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.medium.ReadAt(p, offset); err != nil {
		return err
	}
	return d.eachBlock(p, offset, func(part []byte, block int64, from int) error {
		if cached, ok := d.cache[block]; ok {
			copy(part, cached[from:])
		}
		return nil
	})
}

func (d *disk) write(p []byte, offset int64, fua bool) error {
	if err := d.check(offset, len(p)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.eachBlock(p, offset, func(part []byte, block int64, from int) error {
		cached, ok := d.cache[block]
		switch {
		case !ok:
			cached = make([]byte, blockSize)
			if _, err := d.medium.ReadAt(cached, block); err != nil {
				return err
			}
			d.cache[block] = cached
		case d.rng.IntN(4) == 0:
			// An older state may be the one that gets there.
			if _, err := d.medium.WriteAt(cached, block); err != nil {
				return err
			}
		}
		copy(cached[from:], part)
		if !fua {
			return nil
		}
		if len(part) == blockSize {
			delete(d.cache, block) // nothing of it is left to lose
		}
		_, err := d.medium.WriteAt(part, block+int64(from))
		return err
	})
}

// eachBlock calls do for each part of p that lies in one block.
func (d *disk) eachBlock(p []byte, offset int64, do func(part []byte, block int64, from int) error) error {
	for len(p) > 0 {
		from := int(offset % blockSize)
		n := min(len(p), blockSize-from)
		if err := do(p[:n], offset-int64(from), from); err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

func (d *disk) flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for block, cached := range d.cache {
		if _, err := d.medium.WriteAt(cached, block); err != nil {
			return err
		}
		delete(d.cache, block)
	}
	return nil
}

// cut is the end of the power: of what is in the cache, some blocks get to the
// medium, some only in part, and the rest is lost. The first block is kept or lost
// whole: ext4's superblock is there, two sectors with one checksum, written in
// place and without a journal at each mount, and ext4 does not survive half of it.
// cut returns how many bytes were in the cache and how many of them are lost.
func (d *disk) cut() (cached, lost int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for block, data := range d.cache {
		cached += blockSize
		fate := d.rng.IntN(5) // 0, 1: kept; 2, 3: lost; 4: torn
		if block == 0 && fate == 4 {
			fate = 0
		}
		for at := int64(0); at < blockSize; at += sectorSize {
			if fate >= 2 && (fate < 4 || d.rng.IntN(2) == 0) {
				lost += sectorSize
				continue
			}
			if _, err := d.medium.WriteAt(data[at:at+sectorSize], block+at); err != nil {
				return cached, lost, err
			}
		}
		delete(d.cache, block)
	}
	return cached, lost, nil
}

func (d *disk) close() error { return d.medium.Close() }

// The numbers of the protocol (github.com/NetworkBlockDevice/nbd, doc/proto.md).
const (
	nbdMagic       = 0x4e42444d41474943
	nbdOptMagic    = 0x49484156454F5054
	nbdReplyMagic  = 0x3e889045565a9
	nbdRequest     = 0x25609513
	nbdSimpleReply = 0x67446698

	nbdFixedNewstyle = 1
	nbdOptGo         = 7
	nbdOptAbort      = 2
	nbdRepAck        = 1
	nbdRepInfo       = 3
	nbdRepErrUnsup   = 1<<31 + 1
	nbdInfoExport    = 0

	nbdHasFlags  = 1 << 0
	nbdSendFlush = 1 << 2
	nbdSendFUA   = 1 << 3

	nbdCmdRead  = 0
	nbdCmdWrite = 1
	nbdCmdDisc  = 2
	nbdCmdFlush = 3
	nbdFlagFUA  = 1 << 0

	nbdEIO    = 5
	nbdEINVAL = 22

	nbdMaxRequest = 32 << 20
)

// serve answers one client until it hangs up.
func (d *disk) serve(conn net.Conn) error {
	rw := bufio.NewReadWriter(bufio.NewReaderSize(conn, 1<<20), bufio.NewWriterSize(conn, 1<<20))
	err := d.negotiate(rw)
	for err == nil {
		err = d.answer(rw)
	}
	// A machine that is killed before it has read its answers resets the connection.
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
		return nil // a killed machine may end anywhere
	}
	return err
}

func put(w io.Writer, values ...any) error {
	for _, v := range values {
		if err := binary.Write(w, binary.BigEndian, v); err != nil {
			return err
		}
	}
	return nil
}

// negotiate speaks until the client has chosen the one export there is.
func (d *disk) negotiate(rw *bufio.ReadWriter) error {
	if err := errors.Join(put(rw, uint64(nbdMagic), uint64(nbdOptMagic), uint16(nbdFixedNewstyle)), rw.Flush()); err != nil {
		return err
	}
	var clientFlags uint32
	if err := binary.Read(rw, binary.BigEndian, &clientFlags); err != nil {
		return err
	}
	for {
		var option struct {
			Magic        uint64
			Kind, Length uint32
		}
		if err := binary.Read(rw, binary.BigEndian, &option); err != nil {
			return err
		}
		if option.Magic != nbdOptMagic {
			return errors.New("not the protocol of network block devices")
		}
		if _, err := rw.Discard(int(option.Length)); err != nil {
			return err
		}
		reply := func(kind uint32, length int) error {
			return put(rw, uint64(nbdReplyMagic), option.Kind, kind, uint32(length))
		}
		var err error
		switch option.Kind {
		case nbdOptGo:
			return errors.Join(
				reply(nbdRepInfo, 12),
				put(rw, uint16(nbdInfoExport), uint64(d.size), uint16(nbdHasFlags|nbdSendFlush|nbdSendFUA)),
				reply(nbdRepAck, 0), rw.Flush())
		case nbdOptAbort:
			err = errors.Join(reply(nbdRepAck, 0), rw.Flush(), io.EOF)
		default:
			err = errors.Join(reply(nbdRepErrUnsup, 0), rw.Flush())
		}
		if err != nil {
			return err
		}
	}
}

func (d *disk) answer(rw *bufio.ReadWriter) error {
	var request struct {
		Magic       uint32
		Flags, Kind uint16
		Handle      uint64
		Offset      int64
		Length      uint32
	}
	if err := binary.Read(rw, binary.BigEndian, &request); err != nil {
		return err
	}
	if request.Magic != nbdRequest || request.Length > nbdMaxRequest {
		return fmt.Errorf("bad request %+v", request)
	}
	var data []byte
	var err error
	code := uint32(nbdEIO)
	switch request.Kind {
	case nbdCmdRead:
		data = make([]byte, request.Length)
		err = d.read(data, request.Offset)
	case nbdCmdWrite:
		payload := make([]byte, request.Length)
		if _, err := io.ReadFull(rw, payload); err != nil {
			return err
		}
		err = d.write(payload, request.Offset, request.Flags&nbdFlagFUA != 0)
	case nbdCmdFlush:
		err = d.flush()
	case nbdCmdDisc:
		return io.EOF
	default:
		err, code = errors.ErrUnsupported, nbdEINVAL
	}
	if err == nil {
		code = 0
	} else {
		data = nil
	}
	if err := put(rw, uint32(nbdSimpleReply), code, request.Handle); err != nil {
		return err
	}
	if _, err := rw.Write(data); err != nil {
		return err
	}
	if rw.Reader.Buffered() > 0 {
		return nil // more requests: their answers go together
	}
	return rw.Flush()
}
