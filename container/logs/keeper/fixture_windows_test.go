package keeper

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"slipway/container/logs/wire"
	"slipway/internal/pipe"
)

// output is a container's end of its stdout: the connection of one keeper.
type output struct {
	path string
	conn net.Conn
	of   *container
}

// make returns the output's name.
func (o *output) make(t *testing.T, root string) string {
	t.Helper()
	o.path = wire.PipeName(root, "stdout")
	t.Cleanup(func() {
		if o.conn != nil {
			_ = o.conn.Close()
		}
	})
	return o.path
}

func (o *output) print(t *testing.T, c *container, text string) {
	t.Helper()
	if o.of != c {
		var err error
		if o.conn, err = pipe.Dial(t.Context(), o.path); err != nil {
			t.Fatal(err)
		}
		o.of = c
	}
	if _, err := o.conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestProgressSurvivesTornStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	p, err := openProgress(path)
	if err != nil {
		t.Fatal(err)
	}
	want := mark{inode: 1, size: 2, logged: [2]int64{3, 4}, dropped: 5}
	p.store(mark{ended: true})
	p.store(want)
	next := int64((p.seq+1)%2) * slotSize
	if _, err := p.file.WriteAt(make([]byte, slotSize/2), next); err != nil { // a store that came no further
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	if p, err = openProgress(path); err != nil {
		t.Fatal(err)
	}
	if got := p.load(); got != want {
		t.Errorf("%+v", got)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
}

func TestSpoolOfManyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	p, err := openSpool(path)
	if err != nil {
		t.Fatal(err)
	}
	at := func(pos int64) byte { return byte(pos * 7919 >> 8) }
	check := func(p *spool, pos int64, n int) {
		t.Helper()
		b := make([]byte, n)
		if err := p.read(b, pos); err != nil {
			t.Fatal(err)
		}
		for i := range b {
			if b[i] != at(pos+int64(i)) {
				t.Fatalf("byte %d is another", pos+int64(i))
			}
		}
	}
	const block = 60_000
	for p.size < 5*segmentSize {
		b := make([]byte, block)
		for i := range b {
			b[i] = at(p.size + int64(i))
		}
		if err := p.append(b); err != nil {
			t.Fatal(err)
		}
	}
	check(p, segmentSize-10, 2*segmentSize+block)
	p.release(3*segmentSize, false)
	if p.punched == 0 || p.punched > 3*segmentSize {
		t.Errorf("given back up to %d", p.punched)
	}
	size, punched := p.size, p.punched
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	if p, err = openSpool(path); err != nil {
		t.Fatal(err)
	}
	if p.size != size || p.punched != punched {
		t.Errorf("opened again: %d from %d, not %d from %d", p.size, p.punched, size, punched)
	}
	check(p, 3*segmentSize, int(size-3*segmentSize))
	if err := p.letGo(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Error(err)
	}
	check(p, size-100_000, 100_000)
}
