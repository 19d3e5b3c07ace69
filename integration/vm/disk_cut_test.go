//go:build linux

package vm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestDiskLosesOnlyWhatWasNotFlushed tests the test's own disk: what it promises
// is there after a cut, and what it need not keep is not, or only in part.
func TestDiskLosesOnlyWhatWasNotFlushed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	const blocks = 300
	if err := os.WriteFile(file, make([]byte, blocks*blockSize), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := newDisk(file, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	fill := func(block int, b byte, fua bool) {
		t.Helper()
		if err := d.write(bytes.Repeat([]byte{b}, blockSize), int64(block)*blockSize, fua); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 100 {
		fill(n, 'f', false)
	}
	if err := d.flush(); err != nil {
		t.Fatal(err)
	}
	for n := 100; n < 200; n++ {
		fill(n, 'u', true)
	}
	for n := 200; n < blocks; n++ {
		fill(n, 'x', false)
	}
	all := make([]byte, blocks*blockSize)
	if err := d.read(all, 0); err != nil {
		t.Fatal(err)
	}
	if n := bytes.IndexByte(all, 0); n >= 0 {
		t.Fatalf("what was written cannot be read at %d", n)
	}
	cached, lost, err := d.cut()
	if err != nil || cached != 100*blockSize || lost == 0 || lost >= 100*blockSize {
		t.Errorf("of %d bytes in the cache %d are lost: %v", cached, lost, err)
	}
	if err := d.read(all, 0); err != nil {
		t.Fatal(err)
	}
	if n := bytes.IndexByte(all[:200*blockSize], 0); n >= 0 {
		t.Errorf("what was flushed is lost at %d", n)
	}
	if got := int64(bytes.Count(all, []byte{0})); got != lost {
		t.Errorf("%d bytes are missing, said were %d", got, lost)
	}
	if err := d.write(make([]byte, 2), blocks*blockSize-1, false); err == nil {
		t.Error("a write beyond the end succeeded")
	}
}
