package dirs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// open opens the snapshots in dir until the test ends.
func open(t *testing.T, dir string) *Snapshotter {
	t.Helper()
	s, err := New(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// put writes files, by their paths with slashes, into a directory. A path that ends
// with a slash is a directory.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// files reads a directory, as put takes it.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case entry.IsDir():
			found[rel+"/"] = ""
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			found[rel] = "-> " + target
			return err
		default:
			content, err := os.ReadFile(path)
			found[rel] = string(content)
			return err
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// same compares what files read.
func same(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if got := files(t, dir); !maps.Equal(got, want) {
		t.Errorf("%s has\n%q, want\n%q", dir, got, want)
	}
}

func tree(t *testing.T, mounts []mount.Mount, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := Tree(mounts)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func prepare(t *testing.T, s *Snapshotter, key, parent string, opts ...snapshots.Opt) string {
	t.Helper()
	mounts, err := s.Prepare(t.Context(), key, parent, opts...)
	return tree(t, mounts, err)
}

// commit makes a snapshot called name of a parent and files.
func commit(t *testing.T, s *Snapshotter, name, parent string, content map[string]string) {
	t.Helper()
	put(t, prepare(t, s, name+"-active", parent), content)
	if err := s.Commit(t.Context(), name, name+"-active"); err != nil {
		t.Fatal(err)
	}
}

// directories lists what there is beside records.
func directories(t *testing.T, s *Snapshotter) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.root, snapshotsDir))
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	slices.Sort(names)
	return names
}

func TestSnapshots(t *testing.T) {
	s := open(t, t.TempDir())
	commit(t, s, "base", "", map[string]string{"a": "1", "d/b": "2", "empty/": ""})
	one, two := prepare(t, s, "one", "base"), prepare(t, s, "two", "base")
	put(t, one, map[string]string{"a": "changed", "d/new": "3"})
	if err := os.RemoveAll(filepath.Join(two, "d")); err != nil {
		t.Fatal(err)
	}
	mounts, err := s.View(t.Context(), "view", "base")
	same(t, tree(t, mounts, err), map[string]string{"a": "1", "d/": "", "d/b": "2", "empty/": ""})
	same(t, one, map[string]string{"a": "changed", "d/": "", "d/b": "2", "d/new": "3", "empty/": ""})
	same(t, two, map[string]string{"a": "1", "empty/": ""})
	if mounts[0].Options[1] != "ro" {
		t.Errorf("a view has the options %q", mounts[0].Options)
	}
	again, err := s.Mounts(t.Context(), "one")
	if tree(t, again, err) != one {
		t.Errorf("the mounts of a snapshot changed to %v", again)
	}
	if err := s.Commit(t.Context(), "child", "one"); err != nil {
		t.Fatal(err)
	}
	usage, err := s.Usage(t.Context(), "child")
	if err != nil || usage.Size != int64(len("changed23")) || usage.Inodes != 6 {
		t.Errorf("the usage is %+v, %v", usage, err)
	}
	if err := s.Remove(t.Context(), "base"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("removing a parent: %v", err)
	}
	for _, key := range []string{"view", "two", "child", "base"} {
		if err := s.Remove(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	if left := directories(t, s); len(left) > 0 {
		t.Errorf("%q were left", left)
	}
}

func TestErrors(t *testing.T) {
	s := open(t, t.TempDir())
	commit(t, s, "base", "", map[string]string{"a": "1"})
	prepare(t, s, "active", "base")
	ctx := t.Context()
	cancelled, cancel := context.WithCancelCause(ctx)
	cancel(nil)
	for name, test := range map[string]struct {
		call func() error
		is   func(error) bool
	}{
		"key that is taken":    {func() error { _, err := s.Prepare(ctx, "active", "base"); return err }, errdefs.IsAlreadyExists},
		"name that is taken":   {func() error { _, err := s.Prepare(ctx, "base", ""); return err }, errdefs.IsAlreadyExists},
		"no parent":            {func() error { _, err := s.Prepare(ctx, "x", "nothing"); return err }, errdefs.IsNotFound},
		"active parent":        {func() error { _, err := s.Prepare(ctx, "x", "active"); return err }, errdefs.IsInvalidArgument},
		"view of an active":    {func() error { _, err := s.View(ctx, "x", "active"); return err }, errdefs.IsInvalidArgument},
		"commit of nothing":    {func() error { return s.Commit(ctx, "x", "nothing") }, errdefs.IsNotFound},
		"commit to taken name": {func() error { return s.Commit(ctx, "base", "active") }, errdefs.IsAlreadyExists},
		"removal of nothing":   {func() error { return s.Remove(ctx, "nothing") }, errdefs.IsNotFound},
		"usage of nothing":     {func() error { _, err := s.Usage(ctx, "nothing"); return err }, errdefs.IsNotFound},
		"cancelled":            {func() error { _, err := s.Prepare(cancelled, "x", "base"); return err }, func(err error) bool { return errors.Is(err, context.Canceled) }},
	} {
		if err := test.call(); !test.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := directories(t, s); len(left) != 2 {
		t.Errorf("there are %q", left)
	}
}

// A caller that supplies the whole tree does not pay for a copy of the parent's.
func TestEmpty(t *testing.T) {
	s := open(t, t.TempDir())
	commit(t, s, "base", "", map[string]string{"a": "1"})
	dir := prepare(t, s, "whole", "base", snapshots.WithLabels(map[string]string{LabelEmpty: "true"}))
	same(t, dir, map[string]string{})
	if info, err := s.Stat(t.Context(), "whole"); err != nil || info.Parent != "base" {
		t.Errorf("%+v, %v", info, err)
	}
}

// An alias is another name for a snapshot's files, and costs nothing.
func TestAlias(t *testing.T) {
	s := open(t, t.TempDir())
	commit(t, s, "base", "", map[string]string{"a": "1"})
	alias := snapshots.WithLabels(map[string]string{LabelAlias: "true"})
	parent := "base"
	for _, name := range []string{"alias", "alias of alias"} {
		prepare(t, s, "key", parent, alias)
		if err := s.Commit(t.Context(), name, "key"); err != nil {
			t.Fatal(err)
		}
		parent = name
	}
	if made := directories(t, s); len(made) != 1 {
		t.Errorf("there are the directories %q", made)
	}
	mounts, err := s.View(t.Context(), "view", "alias of alias")
	same(t, tree(t, mounts, err), map[string]string{"a": "1"})
	child := prepare(t, s, "child", "alias of alias")
	put(t, child, map[string]string{"a": "2"})
	same(t, tree(t, mounts, nil), map[string]string{"a": "1"})
	if err := s.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, child, map[string]string{"a": "2"})
	for _, key := range []string{"view", "child", "alias of alias", "alias", "base"} {
		if err := s.Remove(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}

// What crashes and removals leave goes away, and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s, err := New(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, "base", "", map[string]string{"a": "1"})
	plant := func() {
		put(t, filepath.Join(dir, snapshotsDir), map[string]string{"new-x/fs/half": "h", "rm-7/fs/gone": "g", "9/fs/stray": "s"})
	}
	plant()
	if err := s.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := directories(t, s); !slices.Equal(left, []string{"1", "new-x"}) {
		t.Errorf("Cleanup has left %q", left)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	plant()
	s = open(t, dir)
	if left := directories(t, s); !slices.Equal(left, []string{"1"}) {
		t.Errorf("New has left %q", left)
	}
	same(t, prepare(t, s, "child", "base"), map[string]string{"a": "1"})
}

// Copies do not wait for each other, nor keep others waiting.
func TestConcurrent(t *testing.T) {
	s := open(t, t.TempDir())
	content := map[string]string{}
	for i := range 40 {
		content[fmt.Sprintf("d%d/f%d", i%4, i)] = strings.Repeat("x", i*100)
	}
	commit(t, s, "base", "", content)
	want := files(t, prepare(t, s, "pattern", "base"))
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			key := fmt.Sprint("c", i)
			mounts, err := s.Prepare(t.Context(), key, "base")
			if err != nil {
				t.Error(err)
				return
			}
			if got := files(t, mounts[0].Source); !maps.Equal(got, want) {
				t.Errorf("%s has %q", key, got)
			}
			if err := errors.Join(s.Cleanup(t.Context()), s.Remove(t.Context(), key)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if left := directories(t, s); len(left) != 2 {
		t.Errorf("there are %q", left)
	}
}

// Files that are held open: Linux removes them, Windows keeps them, and then the
// snapshot stays whole and the error says why.
func TestRemoveInUse(t *testing.T) {
	s := open(t, t.TempDir())
	dir := prepare(t, s, "key", "")
	put(t, dir, map[string]string{"d/held": "x", "other": "y"})
	f, err := os.Open(filepath.Join(dir, "d", "held"))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Remove(t.Context(), "key")
	if runtime.GOOS == "windows" && err != nil {
		if !errdefs.IsFailedPrecondition(err) {
			t.Error(err)
		}
		same(t, dir, map[string]string{"d/": "", "d/held": "x", "other": "y"})
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		err = s.Remove(t.Context(), "key")
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := directories(t, s); len(left) > 0 {
		t.Errorf("%q were left", left)
	}
}
