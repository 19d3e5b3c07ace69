package keeper

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// output is a container's end of its stdout.
type output struct{ fifo *os.File }

// make returns the output's path.
func (o *output) make(t *testing.T, root string) string {
	t.Helper()
	path := filepath.Join(root, "stdout")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if o.fifo, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.fifo.Close() })
	return path
}

func (o *output) print(t *testing.T, _ *container, text string) {
	t.Helper()
	if _, err := o.fifo.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestProgressSurvivesTornStore(t *testing.T) {
	p, err := openProgress(filepath.Join(t.TempDir(), "p"))
	if err != nil {
		t.Fatal(err)
	}
	want := mark{inode: 1, size: 2, logged: [2]int64{3, 4}, dropped: 5}
	p.store(mark{ended: true})
	p.store(want)
	clear(p.slot(p.seq.Load() + 1)) // a store that came no further
	if got := p.load(); got != want {
		t.Errorf("%+v", got)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
}
