package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// awkward fills an upper directory with one of everything that overlayfs has.
func awkward(_ context.Context, upper string) error {
	path := func(name string) string { return filepath.Join(upper, name) }
	when := []unix.Timespec{unix.NsecToTimespec(1_600_000_000_123_456_789), unix.NsecToTimespec(1_600_000_000_987_654_321)}
	return errors.Join(
		fillFiles(upper, map[string]string{"data/new": "new", "data/big": strings.Repeat("x", 3<<20), "dir/fresh": "fresh", "a/b/c": "deep"}),
		os.Link(path("data/new"), path("data/twin")),
		os.Link(path("data/new"), path("a/triplet")),
		os.Symlink("../etc/passwd", path("a/link")),
		unix.Mkfifo(path("a/fifo"), 0o600),
		unix.Mknod(path("a/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Mknod(path("data/gone"), unix.S_IFCHR, 0), // whiteout
		unix.Setxattr(path("dir"), "trusted.overlay.opaque", []byte("y"), 0),
		os.Lchown(path("data/big"), 1000, 1001),
		os.Chmod(path("data/big"), 0o4711|os.ModeSetuid),
		unix.Setxattr(path("data/big"), "user.note", []byte("a\x00b"), 0),
		unix.Setxattr(path("data/big"), "security.capability", []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0),
		os.WriteFile(path("a/"+strings.Repeat("long", 60)), []byte("long name"), 0o600),
		os.WriteFile(path("a/ünï cödé"), nil, 0o600),
		os.Truncate(path("a/b/c"), 1<<20), // sparse
		unix.UtimesNanoAt(unix.AT_FDCWD, path("data/new"), when, 0),
		unix.UtimesNanoAt(unix.AT_FDCWD, path("a/link"), when, unix.AT_SYMLINK_NOFOLLOW),
	)
}

func TestCommit(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	config := base.Spec.Config
	config.Env = []string{"X=1"}
	image, err := e.Commit(e.ctx, CommitRequest{
		Parent: base, Config: config, Ref: "db:one", Comment: "first", Author: "me", CreatedBy: "postgres", Fill: awkward,
		Usage: func() int64 { return 4711 },
	})
	if err != nil {
		t.Fatal(err)
	}
	e.events.has(t, "tag db:one")
	got := names(e.tree(t, image))
	for _, want := range []string{"/data/new", "/data/twin", "/data/old", "/dir/fresh", "/etc/passwd"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in the image: %q", want, got)
		}
	}
	for _, not := range []string{"/data/gone", "/dir/hidden"} {
		if slices.Contains(got, not) {
			t.Errorf("%s is in the image", not)
		}
	}
	inspected, err := e.Inspect(e.ctx, "db:one", InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if inspected.ID != image.ID.String() || inspected.Author != "me" || inspected.Comment != "first" ||
		!slices.Equal(inspected.RepoTags, []string{"db:one"}) || len(inspected.RepoDigests) != 0 ||
		!slices.Equal(inspected.Config.Env, []string{"X=1"}) || len(inspected.RootFS.Layers) != 2 {
		t.Errorf("inspect: %+v", inspected)
	}
	history, err := e.History(e.ctx, "db:one", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(history) != 2 || history[0].ID != image.ID.String() || history[0].Size != 4711 || history[0].Comment != "first" ||
		history[0].CreatedBy != "postgres" || history[1].ID != base.ID.String() {
		t.Errorf("history: %+v", history)
	}
	e.noLeaks(t)
}

func TestCommitTwiceAndAgain(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	one := e.commit(t, base, "db:latest", map[string]string{"data/v": "1"})
	two := e.commit(t, base, "db:latest", map[string]string{"data/v": "1"})
	if one.ID == two.ID || one.ChainID == two.ChainID {
		t.Error("two commits are one image")
	}
	three := e.commit(t, two, "", map[string]string{"data/w": "3"})
	if three.ParentID != two.ID {
		t.Errorf("parent %s, want %s", three.ParentID, two.ID)
	}
	// The first lost its name but stays.
	if got := e.id(t, one.ID.String()); got != one.ID {
		t.Errorf("got %s", got)
	}
	e.gc(t)
	for _, image := range []*Image{one, two, three} {
		if _, err := e.snapshots.Stat(e.ctx, image.ChainID); err != nil {
			t.Error(err)
		}
	}
	list, err := e.List(e.ctx, ListOptions{Filters: Filters{"dangling": {"true": true}}})
	if err != nil || len(list) != 2 {
		t.Errorf("dangling: %d, %v", len(list), err)
	}
	e.noLeaks(t)
}

// A parent that is removed takes nothing from its child, and the child's removal
// frees everything.
func TestCommitOutlivesParent(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	one := e.commit(t, base, "one", map[string]string{"data/v": "1"})
	two := e.commit(t, one, "two", map[string]string{"data/w": "2"})
	want := e.tree(t, two)
	for _, ref := range []string{"base", "one"} {
		if _, err := e.Remove(e.ctx, ref, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	e.gc(t)
	sameTree(t, want, e.tree(t, two))
	var archive bytes.Buffer
	if err := e.Save(e.ctx, []string{"two"}, &archive, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	e.noLeaks(t)
	if _, err := e.Remove(e.ctx, "two", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	e.noLeaks(t)
	left, err := filepath.Glob(filepath.Join(e.root, "io.containerd.snapshotter.v1.overlayfs/snapshots/*"))
	if err != nil || len(left) != 0 {
		t.Errorf("snapshots are left: %q, %v", left, err)
	}
	left, err = filepath.Glob(filepath.Join(e.root, "io.containerd.content.v1.content/blobs/sha256/*"))
	if err != nil || len(left) != 0 {
		t.Errorf("blobs are left: %q, %v", left, err)
	}
}

func TestCommitFails(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	broken := errors.New("broken")
	_, err := e.Commit(e.ctx, CommitRequest{Parent: base, Ref: "x", Fill: func(_ context.Context, upper string) error {
		return errors.Join(os.WriteFile(filepath.Join(upper, "f"), nil, 0o600), broken)
	}})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(e.ctx)
	_, err = e.Commit(ctx, CommitRequest{Parent: base, Ref: "x", Fill: func(context.Context, string) error { cancel(broken); return nil }})
	if err == nil {
		t.Error("a cancelled commit succeeded")
	}
	if _, err := e.Commit(e.ctx, CommitRequest{Parent: base, Ref: "X", Fill: awkward}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := e.Get(e.ctx, "x"); !errdefs.IsNotFound(err) || err.Error() != "No such image: x:latest" {
		t.Errorf("got %v", err)
	}
	e.noLeaks(t)
}

// A commit of very many files does not delay the making of other snapshots.
func TestCommitOfManyFilesDelaysNobody(t *testing.T) {
	const files = 100_000
	e := newEngine(t)
	base := e.base(t, "base")
	source := t.TempDir()
	for i := range files / 1000 { // hard links: a walk looks at each, and they are quick to make
		dir := filepath.Join(source, strconv.Itoa(i))
		if err := fillFiles(source, map[string]string{fmt.Sprintf("%d/0", i): ""}); err != nil {
			t.Fatal(err)
		}
		for j := range 999 {
			if err := os.Link(filepath.Join(dir, "0"), filepath.Join(dir, strconv.Itoa(j+1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	filled := make(chan struct{})
	stop := make(chan struct{})
	var slowest time.Duration
	var group sync.WaitGroup
	ctx, done, err := e.lease(e.ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer done(&err)
	group.Go(func() {
		<-filled // what counts is the commit itself, not the machine being busy
		for n := 0; ; n++ {
			began := time.Now()
			if _, err := e.snapshots.Prepare(ctx, fmt.Sprint("concurrent", n), base.ChainID); err != nil {
				t.Error(err)
			}
			slowest = max(slowest, time.Since(began))
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	began := time.Now()
	if _, err := e.Commit(e.ctx, CommitRequest{Parent: base, Ref: "many", Fill: func(_ context.Context, upper string) error {
		defer close(filled)
		return os.Rename(source, filepath.Join(upper, "many")) // no copying: the same file system
	}}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	close(stop)
	group.Wait()
	began = time.Now()
	image, err := e.Get(e.ctx, "many")
	if err != nil {
		t.Fatal(err)
	}
	sizes, err := e.layerUsages(e.ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	walk := time.Since(began)
	t.Logf("commit %v, slowest Prepare beside it %v, counting the files %v (%d bytes)", took, slowest, walk, sizes[1])
	info, err := e.snapshots.Stat(e.ctx, image.ChainID)
	if err != nil || info.Labels[labelLayerUsage] == "" {
		t.Errorf("the usage was not kept: %v, %v", info.Labels, err)
	}
	// The walk is what containerd would have done inside its transaction.
	usage, err := e.snapshots.Usage(e.ctx, image.ChainID)
	if err != nil || usage.Inodes > 10 {
		t.Errorf("containerd counted the files: %+v, %v", usage, err)
	}
}

func TestGenerations(t *testing.T) {
	const generations, chain = 300, 8
	e := newEngine(t, func(c *Config) { c.MaxChain = chain })
	base := e.base(t, "base")
	image := base
	for n := range generations {
		image = e.commitGeneration(t, image, n)
		if image.lateLayers() > chain {
			t.Fatalf("generation %d lies on %d late layers", n, image.lateLayers())
		}
	}
	tree := e.tree(t, image)
	for n := range generations {
		_, there := tree[fmt.Sprintf("/data/gen/%d", n)]
		if want := n == generations-1 || n%3 != 0; there != want {
			t.Errorf("file of generation %d: there %v, want %v", n, there, want)
		}
	}
	for _, not := range []string{"/data/gone", "/dir/hidden", "/dir/again"} {
		if _, there := tree[not]; there {
			t.Errorf("%s came back", not)
		}
	}
	history, err := e.History(e.ctx, image.ID.String(), nil)
	if err != nil || len(history) != generations+1 {
		t.Errorf("history has %d entries, %v", len(history), err)
	}
	layers := 0
	for _, step := range image.Spec.History {
		if !step.EmptyLayer {
			layers++
		}
	}
	if layers != len(image.layers) {
		t.Errorf("history has %d layers, the image %d", layers, len(image.layers))
	}
	e.gc(t)
	sameTree(t, tree, e.tree(t, image))

	other := newEngine(t)
	var archive bytes.Buffer
	if err := e.Save(e.ctx, []string{"gen"}, &archive, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := other.Load(other.ctx, &archive, LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	loaded, err := other.Get(other.ctx, "gen")
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, tree, other.tree(t, loaded))
}

// commitGeneration adds a file and takes away those of earlier generations that
// are divisible by three; the first makes dir opaque and deletes data/gone.
func (e *engine) commitGeneration(t *testing.T, parent *Image, n int) *Image {
	t.Helper()
	image, err := e.Commit(e.ctx, CommitRequest{Parent: parent, Ref: "gen", Fill: func(_ context.Context, upper string) error {
		err := fillFiles(upper, map[string]string{fmt.Sprintf("data/gen/%d", n): strconv.Itoa(n)})
		if n > 0 && (n-1)%3 == 0 {
			err = errors.Join(err, unix.Mknod(filepath.Join(upper, fmt.Sprintf("data/gen/%d", n-1)), unix.S_IFCHR, 0))
		}
		switch n {
		case 0:
			err = errors.Join(err, unix.Mknod(filepath.Join(upper, "data/gone"), unix.S_IFCHR, 0),
				os.Mkdir(filepath.Join(upper, "dir"), 0o755),
				unix.Setxattr(filepath.Join(upper, "dir"), "trusted.overlay.opaque", []byte("y"), 0))
		case 1:
			err = errors.Join(err, fillFiles(upper, map[string]string{"dir/again": "x"}))
		case 2:
			err = errors.Join(err, os.Mkdir(filepath.Join(upper, "dir"), 0o755), unix.Mknod(filepath.Join(upper, "dir/again"), unix.S_IFCHR, 0))
		}
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestConcurrentCommitsAndRemovals(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			for i := range 4 {
				ref := fmt.Sprintf("db:%d", n)
				image, err := e.Commit(e.ctx, CommitRequest{Parent: base, Ref: ref, Fill: func(_ context.Context, upper string) error {
					return fillFiles(upper, map[string]string{"v": fmt.Sprint(n, i)})
				}})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := e.Remove(e.ctx, image.ID.String(), RemoveOptions{Force: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if _, err := e.Get(e.ctx, "base"); err != nil {
		t.Error(err)
	}
	e.noLeaks(t)
}

func TestRestoreDropsUnfinished(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	ctx, _, err := e.lease(e.ctx, "commit")
	if err != nil {
		t.Fatal(err)
	}
	d := newDraft(&CommitRequest{Parent: base})
	if err := e.addLayer(ctx, d, awkward); err != nil {
		t.Fatal(err)
	}
	id, _ := leases.FromContext(ctx)
	e.active.remove(id) // as in a process that ended
	found, err := e.CheckLeaks(e.ctx, nil)
	if err != nil || len(found) != 2 {
		t.Errorf("a lease and a snapshot should be reported: %q, %v", found, err)
	}
	if err := e.Restore(e.ctx); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string(nil), mustCheck(t, e)); diff != "" {
		t.Error(diff)
	}
}

func mustCheck(t *testing.T, e *engine) []string {
	t.Helper()
	found, err := e.CheckLeaks(e.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func leaseNamed(id string) leases.Opt {
	return func(l *leases.Lease) error {
		l.ID, l.Labels = id, map[string]string{labelOperation: "planted"}
		return nil
	}
}

func withGCRoot() snapshots.Opt {
	return snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "1"})
}

func TestSaveRefusesWhatItCannotArchive(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	for name, fill := range map[string]func(upper string) error{
		"redirect": func(upper string) error {
			return errors.Join(fillFiles(upper, map[string]string{"moved/x": ""}),
				unix.Setxattr(filepath.Join(upper, "moved"), "trusted.overlay.redirect", []byte("/dir"), 0))
		},
		"whiteout name": func(upper string) error { return fillFiles(upper, map[string]string{".wh.file": ""}) },
	} {
		if _, err := e.Commit(e.ctx, CommitRequest{Parent: base, Ref: "odd", Fill: func(_ context.Context, upper string) error { return fill(upper) }}); err != nil {
			t.Fatal(err)
		}
		if err := e.Save(e.ctx, []string{"odd"}, io.Discard, SaveOptions{}); !errdefs.IsNotImplemented(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
