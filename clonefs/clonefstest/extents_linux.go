package clonefstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"slipway/clonefs"

	"golang.org/x/sys/unix"
)

// Fragment makes a file of so many extents, the way a clone that is written to
// at random gets them: every other block of a shared file is written anew.
func Fragment(tb testing.TB, file string, extents int) {
	tb.Helper()
	check := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	check(err)
	size := int64(extents) * 4096
	chunk := Pattern(1<<20, 99)
	for at := int64(0); at < size; at += int64(len(chunk)) {
		_, err = f.WriteAt(chunk[:min(int64(len(chunk)), size-at)], at)
		check(err)
	}
	shared, err := os.OpenFile(file+".shared", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	check(err)
	check(unix.IoctlFileClone(int(shared.Fd()), int(f.Fd())))
	block := Pattern(4096, 100)
	for at := int64(0); at < size; at += 2 * 4096 {
		_, err = f.WriteAt(block, at)
		check(err)
	}
	check(errors.Join(f.Sync(), f.Close(), shared.Close()))
}

// testExtents checks that Finish does the work of what changed, not of what the
// file consists of.
func (s *suite) testExtents(t *testing.T, dir string) {
	t.Helper()
	if !s.fs.Reflinks {
		t.Skip("no reflinks")
	}
	extents := int64(100_000)
	if s.fs.Name != "xfs" {
		extents = 20_000 // it shows the same
	}
	src, dst := pair(t, dir)
	file := filepath.Join(src, "table")
	Fragment(t, file, int(extents))
	c := clonefs.NewCopy([]clonefs.Tree{{Src: src, Dst: dst}}, clonefs.Options{})
	must(t, c.Prepare(t.Context()))
	const changed = 20
	for i := range int64(changed) {
		writeAt(t, file, i*extents/changed*4096, Pattern(4096, uint64(i)))
	}
	before := refcountLookups(t, s.root)
	stats, err := c.Finish(t.Context())
	must(t, err)
	lookups := refcountLookups(t, s.root) - before
	if s.fs.Name == "xfs" {
		if lookups > extents/20 {
			t.Errorf("XFS looked up %d reference counts under the freeze for %d changed blocks", lookups, changed)
		}
	} else {
		if stats.Finish.Ranges > 2*changed || stats.Finish.BytesCloned > 2*changed*128<<10 {
			t.Errorf("%d ranges and %d bytes were cloned under the freeze for %d changed blocks", stats.Finish.Ranges, stats.Finish.BytesCloned, changed)
		}
		if stats.Finish.Extents < extents || stats.Finish.Extents > extents+extents/10 {
			t.Errorf("%d extents were read under the freeze, of a file with %d", stats.Finish.Extents, extents)
		}
	}
	s.sameTrees(t, src, dst)
	t.Logf("frozen %v, prepared in %v", stats.Finish.Duration, stats.Prepare.Duration)

	before = refcountLookups(t, s.root)
	_, err = clonefs.Clone(t.Context(), src, dst+".plain")
	must(t, err)
	if plain := refcountLookups(t, s.root) - before; s.fs.Name == "xfs" && plain < extents {
		t.Errorf("a plain clone looked up only %d reference counts: the file is not fragmented, the test shows nothing", plain)
	}
}

// refcountLookups returns how often an XFS has searched its reference counts
// since it was mounted: what reading or taking an extent costs. It is 0 elsewhere.
func refcountLookups(t *testing.T, root string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(root, &st))
	dev, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return 0 // no block device of its own
	}
	stats, err := os.ReadFile(filepath.Join("/sys/fs/xfs", filepath.Base(dev), "stats/stats"))
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(stats), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "refcntbt" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			must(t, err)
			return n
		}
	}
	return 0
}

func (s *suite) testUsage(t *testing.T, dir string) {
	t.Helper()
	src, dst := pair(t, dir)
	const size = 8 << 20
	must(t, os.WriteFile(filepath.Join(src, "f"), Pattern(size, 1), 0o600))
	must(t, os.Link(filepath.Join(src, "f"), filepath.Join(src, "g")))
	must(t, clonefs.Sync(t.Context(), src))
	before, err := clonefs.Measure(t.Context(), src)
	must(t, err)
	if before.Allocated < size || before.Allocated > size+size/4 || before.Shared != 0 || before.Unique != before.Allocated {
		t.Errorf("usage of one file with two names: %+v", before)
	}
	_, err = clonefs.Clone(t.Context(), src, dst)
	must(t, err)
	writeAt(t, filepath.Join(dst, "f"), 0, Pattern(1<<20, 2))
	must(t, clonefs.Sync(t.Context(), dst))
	after, err := clonefs.Measure(t.Context(), dst)
	must(t, err)
	if !s.fs.Reflinks {
		if after.Shared != 0 {
			t.Errorf("shared bytes without reflinks: %+v", after)
		}
		return
	}
	if after.Shared < size-2<<20 || after.Shared > size || after.Unique < 1<<20 || after.Unique > 2<<20 {
		t.Errorf("usage of a clone in which 1 MiB changed: %+v", after)
	}
}
