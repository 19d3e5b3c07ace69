package keeper

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// punchSize is the consumed size after which a spool's memory is given back.
	punchSize = 32 << 10
	pageSize  = 4 << 10
)

// spool is a stream's output that somebody still needs. The file's size is the stream's position.
type spool struct {
	file    *os.File
	size    int64
	punched int64 // everything before was given back
}

func openSpool(path string) (*spool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p := &spool{file: f, size: fi.Size()}
	// What an earlier keeper has given back is a hole.
	if p.punched, err = unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); err != nil {
		p.punched = p.size
	}
	return p, nil
}

// take moves what the FIFO holds to the end of the spool. It returns 0 if the FIFO is empty and
// nobody has it open for writing, and unix.EAGAIN if it is empty and somebody has.
func (p *spool) take(fifo int) (int, error) {
	for {
		off := p.size
		n, err := unix.Splice(fifo, nil, int(p.file.Fd()), &off, takeSize, unix.SPLICE_F_NONBLOCK)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		p.size += n
		return int(n), nil
	}
}

// read fills b with the output at the given position.
func (p *spool) read(b []byte, pos int64) error {
	if n, err := p.file.ReadAt(b, pos); n < len(b) {
		return fmt.Errorf("spool at %d: %w", pos, err)
	}
	return nil
}

// release gives back the memory of everything before pos: in steps, unless it is for good.
func (p *spool) release(pos int64, last bool) {
	upto := pos &^ (pageSize - 1)
	if last && pos == p.size {
		upto = (pos + pageSize - 1) &^ (pageSize - 1)
	}
	if upto <= p.punched || upto-p.punched < punchSize && !last {
		return
	}
	// A file system that cannot do it keeps the file until the container is gone.
	_ = unix.Fallocate(int(p.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, p.punched, upto-p.punched)
	p.punched = upto
}

func (p *spool) close() error { return p.file.Close() }
