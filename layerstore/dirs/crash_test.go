package dirs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"slipway/internal/failpoint"
)

const crashDir = "SLIPWAY_DIRS_CRASH_DIR"

// TestCrash kills a process at each failpoint of the package and looks at what the
// next one finds: every snapshot that was promised, whole, and nothing else.
func TestCrash(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashWork(t, dir)
		return
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`).FindAllSubmatch(text, -1) {
			for pass := 1; pass <= 2; pass++ {
				point := fmt.Sprintf("%s@%d", match[1], pass)
				t.Run(point, func(t *testing.T) { crashAt(t, point, pass) })
				killed++
			}
		}
	}
	if killed < 10 {
		t.Errorf("the process was killed %d times only", killed)
	}
}

func crashAt(t *testing.T, point string, pass int) {
	t.Helper()
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$", "-test.v")
	child.Env = append(os.Environ(), crashDir+"="+dir, failpoint.Env+"="+point)
	out, err := child.CombinedOutput()
	if strings.Contains(string(out), "END") {
		if pass > 1 {
			return // is passed once
		}
		t.Fatalf("the process was not killed: %v\n%s", err, out)
	}
	if err == nil {
		t.Fatalf("the process ended by itself:\n%s", out)
	}
	s := open(t, dir)
	promised := 0
	for name, want := range map[string]map[string]string{
		"base": {"a": "1", "d/": "", "d/b": "2"}, "child": {"a": "1", "d/": "", "d/b": "2", "c": "3"},
	} {
		info, err := s.Stat(t.Context(), name)
		if err != nil {
			if strings.Contains(string(out), "DONE "+name) {
				t.Errorf("%s was promised: %v", name, err)
			}
			continue
		}
		promised++
		mounts, err := s.View(t.Context(), "view-"+info.Name, info.Name)
		same(t, tree(t, mounts, err), want)
	}
	// What was not committed is an active snapshot: a directory each.
	var active []string
	for _, key := range []string{"base-active", "child-active", "container"} {
		if _, err := s.Stat(t.Context(), key); err == nil {
			active = append(active, key)
			if err := s.Remove(t.Context(), key); err != nil {
				t.Error(err)
			}
		}
	}
	if left := directories(t, s); len(left) != promised || slices.ContainsFunc(left, func(name string) bool { return strings.Contains(name, "-") }) {
		t.Errorf("of %d snapshots, and %q, the directories %q are left", promised, active, left)
	}
}

func crashWork(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir)
	commit(t, s, "base", "", map[string]string{"a": "1", "d/b": "2"})
	fmt.Println("DONE base")
	commit(t, s, "child", "base", map[string]string{"c": "3"})
	fmt.Println("DONE child")
	prepare(t, s, "container", "child")
	if err := s.Remove(t.Context(), "container"); err != nil {
		t.Fatal(err)
	}
	fmt.Println("END")
}
