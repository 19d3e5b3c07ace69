package clonefstest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"slipway/clonefs"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// suiteSize is enough for all tests of the suite, sparse.
const suiteSize = 4 << 30

// suite is the suite on one file system.
type suite struct {
	fs   FileSystem
	root string
}

// TestCloning runs the suite on one kind of file system.
func TestCloning(t *testing.T, fs FileSystem) {
	t.Helper()
	s := &suite{fs: fs, root: fs.Mount(t, suiteSize)}
	for _, test := range []struct {
		name string
		run  func(*testing.T, string)
	}{
		{"Fidelity", s.testFidelity},
		{"FidelityAfterPrepare", s.testPrepared},
		{"Changes", s.testChanges},
		{"ChangesInOneTick", s.testOneTick},
		{"Extents", s.testExtents},
		{"MappedStores", s.testMapped},
		{"SeveralTrees", s.testSeveralTrees},
		{"Deep", s.testDeep},
		{"Destination", s.testDestination},
		{"Cancel", s.testCancel},
		{"Merge", s.testMerge},
		{"MergePart", s.testMergePart},
		{"MergeLive", s.testMergeLive},
		{"MergeRefuses", s.testMergeRefuses},
		{"Usage", s.testUsage},
		{"LiveWriter", s.testLiveWriter},
		{"Churn", s.testChurn},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(s.root, test.name)
			must(t, os.Mkdir(dir, 0o750))
			t.Cleanup(func() { must(t, os.RemoveAll(dir)) }) // after the tests' own
			test.run(t, dir)
		})
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// sameTrees fails the test if two trees differ in anything that Scan sees.
func (s *suite) sameTrees(tb testing.TB, src, dst string) {
	tb.Helper()
	want, got := Scan(tb, src), Scan(tb, dst)
	for path, e := range got {
		if !want[path].Sparse { // preallocated space may become a hole
			e.Sparse = false
			got[path] = e
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("clone differs (-source +clone):\n%s", diff)
	}
}

func pair(t *testing.T, dir string) (src, dst string) {
	t.Helper()
	src, dst = filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	must(t, os.Mkdir(src, 0o750))
	return src, dst
}

func (s *suite) testFidelity(t *testing.T, dir string) {
	t.Helper()
	src, dst := pair(t, dir)
	files := Plant(t, src)
	stats, err := clonefs.Clone(t.Context(), src, dst)
	must(t, err)
	s.sameTrees(t, src, dst)
	if stats.Files != files || stats.HardLinks != 3 {
		t.Errorf("stats say %d files and %d hard links, there are %d and 3", stats.Files, stats.HardLinks, files)
	}
	if (stats.Finish.BytesCloned > 0) != s.fs.Reflinks || (stats.Finish.BytesCopied > 0) == s.fs.Reflinks {
		t.Errorf("%d bytes cloned, %d copied on %s", stats.Finish.BytesCloned, stats.Finish.BytesCopied, s.fs.Name)
	}
	// Neither may show in the other.
	must(t, os.WriteFile(filepath.Join(dst, "plain/small"), []byte("other"), 0o600))
	if got, err := os.ReadFile(filepath.Join(src, "plain/small")); err != nil || string(got) != "small" {
		t.Errorf("writing to the clone changed the source: %q, %v", got, err)
	}
}

func (s *suite) testPrepared(t *testing.T, dir string) {
	t.Helper()
	src, dst := pair(t, dir)
	Plant(t, src)
	c := clonefs.NewCopy([]clonefs.Tree{{Src: src, Dst: dst}}, clonefs.Options{})
	must(t, c.Prepare(t.Context()))
	_, err := c.Finish(t.Context())
	must(t, err)
	must(t, c.Sync(t.Context()))
	s.sameTrees(t, src, dst)
	must(t, c.Discard(t.Context()))
	if _, err := os.Lstat(dst); err == nil {
		t.Error("discarded clone is still there")
	}
}

// testChanges changes the tree between Prepare and Finish in every way.
func (s *suite) testChanges(t *testing.T, dir string) {
	t.Helper()
	src, dst := pair(t, dir)
	Plant(t, src)
	at := func(name string) string { return filepath.Join(src, name) }
	big := filepath.Join(src, "big")
	must(t, os.WriteFile(big, Pattern(24<<20, 9), 0o600))
	must(t, os.WriteFile(at("shrinks"), Pattern(4<<20, 10), 0o600))
	must(t, os.WriteFile(at("grows"), Pattern(4<<20+100, 11), 0o600))
	must(t, os.WriteFile(at("punched"), Pattern(4<<20, 12), 0o600))
	must(t, os.MkdirAll(at("moves/with/all"), 0o700))
	must(t, os.WriteFile(at("moves/with/all/below"), Pattern(2<<20, 13), 0o600))

	plantACL(t, at("links"))

	c := clonefs.NewCopy([]clonefs.Tree{{Src: src, Dst: dst}}, clonefs.Options{})
	must(t, c.Prepare(t.Context()))

	must(t, os.WriteFile(at("plain/fresh"), []byte("fresh"), 0o600))
	must(t, os.Rename(at("plain/fresh"), at("links/fresh"))) // without the list that files made there get
	writeAt(t, big, 10<<20, Pattern(4096, 20))
	must(t, os.Truncate(at("shrinks"), 2<<20+77))
	writeAt(t, at("grows"), 6<<20, []byte("far behind the end"))
	f, err := os.OpenFile(at("punched"), os.O_RDWR, 0)
	must(t, err)
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20, 1<<20))
	must(t, f.Close())
	must(t, os.Rename(at("moves"), at("moved")))
	must(t, os.Rename(big, at("big renamed")))
	must(t, os.WriteFile(big, Pattern(2<<20, 21), 0o600)) // a new file with the old name
	must(t, os.Remove(at("links/a")))
	must(t, os.Link(at("links/b"), at("links/far/d")))
	must(t, os.Remove(at("plain/inner/odd")))
	must(t, os.Mkdir(at("plain/inner/odd"), 0o750)) // a directory in place of a file
	must(t, os.RemoveAll(at("setgid")))
	must(t, os.WriteFile(at("setgid"), []byte("a file in place of a directory"), 0o600))
	changeMetadata(t, at)

	stats, err := c.Finish(t.Context())
	must(t, err)
	s.sameTrees(t, src, dst)
	if s.fs.Reflinks && stats.Finish.BytesCloned > 48<<20 {
		t.Errorf("Finish cloned %d bytes: it did not reuse what was renamed", stats.Finish.BytesCloned)
	}
	if entries, err := filepath.Glob(filepath.Join(dst, ".slipway*")); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if want := count(Scan(t, src)); stats.Files != want {
		t.Errorf("stats say %d files, there are %d", stats.Files, want)
	}
}

// changeMetadata changes what Plant made without writing to a large file.
func changeMetadata(t *testing.T, at func(string) string) {
	t.Helper()
	must(t, unix.Chmod(at("plain/small"), 0o4711))
	must(t, unix.Lremovexattr(at("plain/small"), "trusted.big"))
	must(t, unix.Lsetxattr(at("plain/inner/page"), "security.test", []byte("new"), 0))
	must(t, os.Remove(at("capable")))
	must(t, os.Symlink("instead", at("capable")))
	must(t, os.Remove(at("overlay/gone")))
	must(t, os.WriteFile(at("overlay/gone"), []byte("back"), 0o600))
	must(t, os.Lchown(at("links/absolute"), 5, 6))
	must(t, os.Chown(at("suid"), 1002, 1002))
	must(t, unix.Chmod(at("suid"), 0o4700))
	must(t, os.Chown(at("nodes"), 3, 4))
}

// count returns the number of regular inodes.
func count(tree map[string]Entry) int64 {
	var n int64
	for _, e := range tree {
		if e.Mode&unix.S_IFMT == unix.S_IFREG && e.SameAs == "" {
			n++
		}
	}
	return n
}

func writeAt(t *testing.T, file string, offset int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(data, offset)
	must(t, err)
	must(t, f.Close())
}

// testOneTick changes a file right after each pass that may have recorded its
// ctime: with the clock's granularity the ctime may not move.
func (s *suite) testOneTick(t *testing.T, dir string) {
	t.Helper()
	src := filepath.Join(dir, "src")
	must(t, os.Mkdir(src, 0o750))
	file := filepath.Join(src, "file")
	for i := range 30 {
		must(t, os.WriteFile(file, Pattern(4096, uint64(i)), 0o600))
		dst := filepath.Join(dir, strconv.Itoa(i))
		c := clonefs.NewCopy([]clonefs.Tree{{Src: src, Dst: dst}}, clonefs.Options{MaxPasses: 1})
		must(t, c.Prepare(t.Context()))
		want := Pattern(4096, uint64(1000+i))
		writeAt(t, file, 0, want)
		_, err := c.Finish(t.Context())
		must(t, err)
		if got, err := os.ReadFile(filepath.Join(dst, "file")); err != nil || string(got) != string(want) {
			t.Fatalf("round %d: the change is missing (%v)", i, err)
		}
	}
}

func (s *suite) testSeveralTrees(t *testing.T, dir string) {
	t.Helper()
	var trees []clonefs.Tree
	for i := range 3 {
		src := filepath.Join(dir, "src"+strconv.Itoa(i))
		must(t, os.Mkdir(src, 0o750))
		Plant(t, src)
		trees = append(trees, clonefs.Tree{Src: src, Dst: filepath.Join(dir, "dst"+strconv.Itoa(i))})
	}
	c := clonefs.NewCopy(trees, clonefs.Options{})
	must(t, c.Prepare(t.Context()))
	_, err := c.Finish(t.Context())
	must(t, err)
	for _, tree := range trees {
		s.sameTrees(t, tree.Src, tree.Dst)
	}
}

// testDeep makes paths far longer than the kernel takes in one call.
func (s *suite) testDeep(t *testing.T, dir string) {
	t.Helper()
	src, dst := pair(t, dir)
	const depth = 300
	fd, err := unix.Open(src, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	var first int
	name := "a name of thirty bytes or some"
	for i := range depth {
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		if i == 0 {
			first = fd
		} else {
			must(t, unix.Close(fd))
		}
		fd = next
	}
	file, err := unix.Openat(fd, "bottom", unix.O_CREAT|unix.O_WRONLY, 0o600)
	must(t, err)
	must(t, unix.Close(file))
	must(t, unix.Linkat(fd, "bottom", first, "top", 0))
	must(t, unix.Linkat(fd, "bottom", first, "another", 0))
	c := clonefs.NewCopy([]clonefs.Tree{{Src: src, Dst: dst}}, clonefs.Options{})
	must(t, c.Prepare(t.Context()))
	must(t, unix.Linkat(fd, "bottom", fd, "further", 0))
	must(t, unix.Unlinkat(first, "top", 0))
	_, err = c.Finish(t.Context())
	must(t, err)
	s.sameTrees(t, src, dst)
	must(t, unix.Close(fd))
	must(t, unix.Close(first))
}

func (s *suite) testDestination(t *testing.T, dir string) {
	t.Helper()
	src, dst := pair(t, dir)
	must(t, os.WriteFile(filepath.Join(src, "f"), []byte("x"), 0o600))
	must(t, os.Mkdir(dst, 0o700))
	_, err := clonefs.Clone(t.Context(), src, dst) // empty: taken
	must(t, err)
	s.sameTrees(t, src, dst)
	if _, err = clonefs.Clone(t.Context(), src, dst); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("cloning over files: %v", err)
	}
	s.sameTrees(t, src, dst)
	if _, err = clonefs.Clone(t.Context(), filepath.Join(dir, "none"), filepath.Join(dir, "x")); err == nil {
		t.Error("cloning what does not exist succeeded")
	}
	must(t, os.Symlink(src, filepath.Join(dir, "link")))
	if _, err = clonefs.Clone(t.Context(), filepath.Join(dir, "link"), filepath.Join(dir, "x")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("cloning through a symbolic link: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "x")); err == nil {
		t.Error("a failed clone left its destination")
	}
}

func (s *suite) testCancel(t *testing.T, dir string) {
	t.Helper()
	src, dst := pair(t, dir)
	Plant(t, src)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	if _, err := clonefs.Clone(ctx, src, dst); err == nil {
		t.Error("clone with a cancelled context succeeded")
	}
	if _, err := os.Lstat(dst); err == nil {
		t.Error("a cancelled clone left its destination")
	}
}
