package keeper

import (
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	progressMagic = 0x534c4f47 // "SLOG"
	progressSize  = 4096
	slotOffset    = 64
	slotSize      = 64
)

// progress keeps the latest mark where a kill cannot tear it: in a shared mapping of a file.
//
// The page holds a magic number, a sequence number and two slots; a mark goes to the slot that is not
// current and becomes current by the sequence number's atomic store. It survives the process, not the
// machine, and neither do the containers.
type progress struct {
	page []byte
	seq  *atomic.Uint64
}

func openProgress(path string) (*progress, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Allocated, not only extended: a store to a hole of a full file system is a fatal signal.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, progressSize); err != nil {
		return nil, os.NewSyscallError("fallocate", err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, progressSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	p := &progress{page: page, seq: (*atomic.Uint64)(unsafe.Pointer(&page[8]))} //nolint:gosec // the mapping is page aligned
	if magic := binary.NativeEndian.Uint32(page); magic != progressMagic {
		clear(page)
		binary.NativeEndian.PutUint32(page, progressMagic)
	}
	return p, nil
}

func (p *progress) slot(seq uint64) []byte {
	off := slotOffset + int(seq%2)*slotSize
	return p.page[off : off+slotSize]
}

func (p *progress) load() mark {
	b := p.slot(p.seq.Load())
	get := func(i int) uint64 { return binary.NativeEndian.Uint64(b[i*8:]) }
	return mark{
		inode:   get(0),
		size:    int64(get(1)),                          //nolint:gosec // stored by store
		logged:  [2]int64{int64(get(2)), int64(get(3))}, //nolint:gosec // stored by store
		ended:   get(4) != 0,
		dropped: int64(get(5)), //nolint:gosec // stored by store
	}
}

func (p *progress) store(m mark) {
	seq := p.seq.Load() + 1
	b := p.slot(seq)
	put := func(i int, v int64) { binary.NativeEndian.PutUint64(b[i*8:], uint64(v)) } //nolint:gosec // bits only
	binary.NativeEndian.PutUint64(b, m.inode)
	put(1, m.size)
	put(2, m.logged[0])
	put(3, m.logged[1])
	put(4, 0)
	if m.ended {
		put(4, 1)
	}
	put(5, m.dropped)
	p.seq.Store(seq)
}

func (p *progress) close() error {
	err := unix.Munmap(p.page)
	p.page = nil
	if err != nil {
		return errors.Join(errors.New("progress"), err)
	}
	return nil
}
