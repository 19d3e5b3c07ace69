package logs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"slipway/container/logs"
)

func TestSocketIsForRootOnly(t *testing.T) {
	r := newRig(t)
	fi, err := os.Stat(filepath.Join(r.root, "logger.sock"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", fi, err)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	r := newRig(t)
	path := filepath.Join(disk, "log")
	c := r.register(t, "c1", func(reg *logs.Registration) { reg.Log.Path = path })
	other := r.register(t, "c2", nil)
	s, o := startShim(t, c.fifos), startShim(t, other.fifos)
	var text bytes.Buffer
	if err := number(&text, 0, 20_000); err != nil {
		t.Fatal(err)
	}
	if _, err := s.out[0].Write(text.Bytes()); err != nil { // must not block
		t.Fatal(err)
	}
	o.print(0, "unharmed\n")
	o.exit()
	r.finish(t, "c2")
	if out, _ := readAll(t, other.Log.Path, logs.ReadOptions{Tail: -1}, nil); out != "unharmed\n" {
		t.Errorf("other log %q", out)
	}
	waitFor(t, func() bool { // everything was taken from the FIFO
		st, err := r.Status(t.Context(), "c1")
		return err == nil && st.Position[0] == int64(text.Len())
	})
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	s.print(0, "again\n")
	s.exit()
	r.finish(t, "c1")
	out, notes := readAll(t, path, logs.ReadOptions{Tail: -1}, nil)
	st, err := r.Status(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("slipway: %d lines dropped: the log could not be written\n", st.Dropped); notes != want {
		t.Errorf("notes %q, not %q", notes, want)
	}
	body, ok := strings.CutSuffix(out, "again\n")
	if kept := strings.Count(body, "\n"); !ok || kept+int(st.Dropped) != 20_000 {
		t.Errorf("%d lines kept, %d dropped", kept, st.Dropped)
	} else {
		checkNumbers(t, "kept", body, 0, kept)
	}
}
