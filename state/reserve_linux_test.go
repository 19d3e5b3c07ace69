package state

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// TestFullDisk: when the disk has not one block left, records can still be
// changed and removed, and the next daemon opens the store.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	const records = 50
	dir := smallDisk(t)
	s := open(t, filepath.Join(dir, "state.db"))
	b := bucket(t, s)
	put := func(i int, text string) error {
		return b.Put(fmt.Sprintf("id-%03d", i), record{Name: strings.Repeat(text, 2000)})
	}
	for i := range records {
		if err := put(i, "a"); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, dir)
	// Changes at once share a transaction, which needs new pages for all of them.
	atOnce := func(change func(i int) error) {
		t.Helper()
		var group errgroup.Group
		for i := range records {
			group.Go(func() error { return change(i) })
		}
		if err := group.Wait(); err != nil {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	atOnce(func(i int) error { return put(i, "b") })
	atOnce(func(i int) error { return b.Delete(fmt.Sprintf("id-%03d", i)) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, filepath.Join(dir, "state.db"))
	if all, err := bucket(t, s).All(); err != nil || len(all) != 0 {
		t.Errorf("%d records are left: %v", len(all), err)
	}
}

// smallDisk mounts an ext4 file system of 100 MB.
func smallDisk(t *testing.T) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "disk.img"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 100<<20); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes the disk's last block.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "others"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
