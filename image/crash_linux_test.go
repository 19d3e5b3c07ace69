package image

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/failpoint"
)

// crashDir names the directory of the engine in the child process of TestCrash.
const crashDir = "SLIPWAY_IMAGE_CRASH_DIR"

// failpoints reads the names from the package's source.
func failpoints(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`).FindAllSubmatch(source, -1) {
			found = append(found, string(match[1]))
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	if len(found) < 15 {
		t.Fatalf("only %d failpoints: %q", len(found), found)
	}
	return found
}

// TestCrash kills a process that commits, saves, loads and removes at each
// failpoint, and looks at what the next one finds: every image whole, and
// nothing that belongs to none.
func TestCrash(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for overlayfs")
	}
	if dir := os.Getenv(crashDir); dir != "" {
		crashWork(t, dir)
		return
	}
	reached := 0
	for _, point := range failpoints(t) {
		if strings.HasPrefix(point, "image.pull.") {
			continue // has the same steps as a load
		}
		for n := 1; n <= maxPasses && crashAt(t, fmt.Sprintf("%s@%d", point, n), n == 1); n++ {
			reached++
		}
	}
	t.Logf("killed %d times", reached)
}

// maxPasses is how often a failpoint may be passed before it kills: the same
// line is in the way of different operations.
const maxPasses = 3

// crashAt runs a process with the failpoint armed, and reports whether it was
// killed there.
func crashAt(t *testing.T, point string, must bool) (killed bool) {
	t.Helper()
	t.Run(point, func(t *testing.T) {
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$", "-test.v")
		cmd.Env = append(os.Environ(), crashDir+"="+dir, failpoint.Env+"="+point)
		out, err := cmd.CombinedOutput()
		status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
		killed = ok && status.Signaled()
		if !killed && (must || !bytes.Contains(out, []byte(crashEnd))) {
			t.Fatalf("the process was not killed: %v\n%s", err, out)
		}
		if killed {
			openEngine(t, dir).checkAfterCrash(t, strings.Split(string(out), "\n"))
		}
	})
	return killed
}

// crashEnd is what a process says that passed all its failpoints.
const crashEnd = "no failpoint was reached"

// crashWork does everything once, with a line for each step that was
// acknowledged.
func crashWork(t *testing.T, dir string) {
	t.Helper()
	e := openEngine(t, dir)
	base := e.base(t, "base")
	fmt.Println("DONE base")
	one := e.awkward(t, base, "one")
	fmt.Println("DONE one")
	archive := e.save(t, "one")
	two := e.commit(t, one, "two", map[string]string{"data/x": "two"})
	fmt.Println("DONE two")
	fmt.Println("TRY two")
	if _, err := e.Remove(e.ctx, two.ID.String(), RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("GONE two")
	other := oldArchive(t, "loaded:1")
	if err := e.Load(e.ctx, bytes.NewReader(other), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("DONE loaded:1")
	if err := e.Load(e.ctx, bytes.NewReader(archive), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Fatal(crashEnd)
}

func (e *engine) checkAfterCrash(t *testing.T, acknowledged []string) {
	t.Helper()
	e.noLeaks(t)
	want := map[string]bool{}
	for _, line := range acknowledged {
		if name, ok := strings.CutPrefix(line, "DONE "); ok {
			want[name] = true
		} else if name, ok := strings.CutPrefix(line, "GONE "); ok {
			want[name] = false
		} else if name, ok := strings.CutPrefix(line, "TRY "); ok {
			delete(want, name) // either is right
		}
	}
	for name, there := range want {
		if _, err := e.Get(e.ctx, name); there && err != nil {
			t.Errorf("%s was acknowledged: %v", name, err)
		} else if !there && err == nil {
			t.Errorf("%s was removed, and is back", name)
		}
	}
	list, err := e.List(e.ctx, ListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, summary := range list {
		image, err := e.Get(e.ctx, summary.ID)
		if err != nil {
			t.Errorf("%q: %v", summary.RepoTags, err)
			continue
		}
		tree := e.tree(t, image)
		if len(tree) == 0 {
			t.Errorf("%q has no files", summary.RepoTags)
		}
		if slices.Contains(summary.RepoTags, "one:latest") && tree["/data/twin"] == "" {
			t.Error("the commit is not whole")
		}
		e.save(t, summary.ID)
	}
	// And it goes on from there.
	base := e.base(t, "base")
	e.commit(t, base, "after", map[string]string{"x": "y"})
	e.noLeaks(t)
}

// The checker finds what is planted.
func TestCheckLeaksFinds(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	late := e.commit(t, base, "late", map[string]string{"x": "y"})
	root := map[string]string{"containerd.io/gc.root": "1"}
	for name, plant := range map[string]func() error{
		"blob": func() error {
			_, err := e.writeJSON(e.ctx, "text/plain", "planted", root)
			return err
		},
		"lease": func() error {
			_, err := e.leases.Create(e.ctx, leaseNamed("slipway-image-planted"))
			return err
		},
	} {
		if err := plant(); err != nil {
			t.Fatal(err)
		}
		if found := mustCheck(t, e); !slices.ContainsFunc(found, func(line string) bool { return strings.HasPrefix(line, name+" ") }) {
			t.Errorf("planted %s, found %q", name, found)
		}
	}
	if _, err := e.snapshots.Prepare(e.ctx, "planted", base.ChainID, withGCRoot()); err != nil {
		t.Fatal(err)
	}
	found := mustCheck(t, e)
	if !slices.Contains(found, "snapshot planted belongs to no image and no container") {
		t.Errorf("found %q", found)
	}
	found, err := e.CheckLeaks(e.ctx, map[string]bool{"planted": true})
	if err != nil || slices.ContainsFunc(found, func(line string) bool { return strings.HasPrefix(line, "snapshot ") }) {
		t.Errorf("a container's snapshot is reported: %q, %v", found, err)
	}
	// Losses.
	if err := e.snapshots.Remove(e.ctx, late.ChainID); err != nil {
		t.Fatal(err)
	}
	if err := e.content.Delete(context.WithoutCancel(e.ctx), base.layers[0].Digest); err != nil {
		t.Fatal(err)
	}
	found = mustCheck(t, e)
	for _, want := range []string{"image docker.io/library/late:latest: snapshot ", "image docker.io/library/base:latest: layer "} {
		if !slices.ContainsFunc(found, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("no line %q in %q", want, found)
		}
	}
}
