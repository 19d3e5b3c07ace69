package image

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
)

// The root directory's owner and mode go the way of every other directory's:
// through save and load, to images made on top, and back to the usual ones.
func TestRootDirectory(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	root := func(mode os.FileMode, owner int) func(context.Context, string) error {
		return func(_ context.Context, upper string) error {
			if err := os.Chown(upper, owner, owner+1); err != nil {
				return err
			}
			return os.Chmod(upper, mode)
		}
	}
	parent, want := base, map[string]string{}
	for _, step := range []struct {
		name, want string
		fill       func(context.Context, string) error
	}{
		{"other", "dtrwx------ 1000:1001", root(0o700|os.ModeSticky, 1000)},
		{"child", "dtrwx------ 1000:1001", func(_ context.Context, upper string) error { return fillFiles(upper, map[string]string{"x": "y"}) }},
		{"usual", "drwxr-xr-x 0:1", root(0o755, 0)},
	} {
		image, err := e.Commit(e.ctx, CommitRequest{Parent: parent, Ref: step.name, Fill: step.fill})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(e.tree(t, image)[""]); got != step.want {
			t.Errorf("%s: the root is %q, want %q", step.name, got, step.want)
		}
		parent, want[step.name] = image, step.want
	}
	archive := e.save(t, "other", "child", "usual")
	if again := e.save(t, "other", "child", "usual"); !bytes.Equal(archive, again) {
		t.Error("a second save gives another archive")
	}
	e.loadArchive(t, archive) // finds the aliases of what is there
	e.noLeaks(t)
	other := newEngine(t)
	other.loadArchive(t, archive)
	for name, want := range want {
		image, err := other.Get(other.ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(other.tree(t, image)[""]); got != want {
			t.Errorf("%s was loaded: the root is %q, want %q", name, got, want)
		}
	}
	other.noLeaks(t)
}

// A layer that does not say leaves the root as the one below has it.
func TestRootDirectoryOfLayersFromElsewhere(t *testing.T) {
	e := newEngine(t)
	image, err := e.Import(e.ctx, ImportRequest{
		Layer: bytes.NewReader(tarOf(t, entry{name: "./", typ: tar.TypeDir, mode: 0o711}, entry{name: "./x", content: "x"})), Source: "-", Ref: "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := strings.TrimSpace(e.tree(t, image)[""]); got != "drwx--x--x 0:0" {
			t.Errorf("the root is %q", got)
		}
		image = e.commit(t, image, "y", map[string]string{"y": "y"})
	}
}
