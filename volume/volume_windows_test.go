package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"

	"slipway/events"
	"slipway/internal/failpoint"
	"slipway/internal/treecopy"
	"slipway/state"
)

// treeCloner copies as clonefs does.
type treeCloner struct{ cloned int }

func (c *treeCloner) Clone(ctx context.Context, src, dst string) (bool, error) {
	c.cloned++
	_, err := treecopy.Copy(ctx, treecopy.Probe(filepath.Dir(dst)), dst, src)
	return false, err
}

func (c *treeCloner) Merge(context.Context, []string, string) (bool, error) {
	return false, errors.New("there is nothing to merge")
}

// fixture is a Manager with everything real below a directory.
type fixture struct {
	*Manager
	dir    string
	cloner *treeCloner
	store  *state.Store
}

func newFixture(t *testing.T, dir string) *fixture {
	t.Helper()
	f := &fixture{dir: dir}
	f.open(t)
	return f
}

// open makes the Manager, as a new daemon on the same directories would.
func (f *fixture) open(t *testing.T, uses ...Use) {
	t.Helper()
	f.close(t)
	var err error
	if f.store, err = state.Open(filepath.Join(f.dir, "state.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.close(t) })
	f.cloner = &treeCloner{}
	f.Manager, err = New(t.Context(), Config{
		Root: filepath.Join(f.dir, "volumes"), RunDir: filepath.Join(f.dir, "run"),
		State: f.store, Events: events.New(), Logger: slog.New(slog.DiscardHandler), Cloner: f.cloner,
	})
	must(t, err)
	must(t, f.Restore(t.Context(), uses))
}

func (f *fixture) close(t *testing.T) {
	t.Helper()
	if f.store != nil {
		must(t, f.store.Close())
		f.store = nil
	}
}

// image is what a new container's snapshot is: a directory of its own.
func (f *fixture) image(t *testing.T, container string, data bool) Image {
	t.Helper()
	root := filepath.Join(f.dir, "snapshots", container)
	put(t, root, map[string]string{"pgdata/PG_VERSION": "15", "pgdata/base/1/2": "table", "pgdata/empty/": "", "bin/postgres.exe": "exe"})
	return Image{Mounts: []mount.Mount{{Type: "bind", Source: root, Options: []string{"rbind", "rw"}}}, Chain: "chain", Parent: "sha256:parent", Data: data}
}

func (f *fixture) attach(t *testing.T, user string, image Image, host mobycontainer.HostConfig, declared ...string) []MountPoint {
	t.Helper()
	cfg := mobycontainer.Config{Volumes: map[string]struct{}{}}
	for _, target := range declared {
		cfg.Volumes[target] = struct{}{}
	}
	points, err := Plan(PlanRequest{Config: &cfg, HostConfig: &host})
	must(t, err)
	points, err = f.Attach(t.Context(), user, points, image)
	must(t, err)
	return points
}

func (f *fixture) clean(t *testing.T, uses ...Use) {
	t.Helper()
	problems, err := f.CheckLeaks(t.Context(), uses)
	must(t, err)
	for _, p := range problems {
		t.Error(p)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
}

// tree reads a directory: the content of files by their paths with slashes.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if rel = filepath.ToSlash(rel); entry.IsDir() {
			found[rel+"/"] = ""
			return nil
		}
		content, err := os.ReadFile(path)
		found[rel] = string(content)
		return err
	}))
	return found
}

var database = map[string]string{"PG_VERSION": "15", "base/": "", "base/1/": "", "base/1/2": "table", "empty/": ""}

func same(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

// The volumes of a database's image: filled by moving, or, where the container's
// own files cannot be taken, by copying; kept through a restart; each its own.
func TestDataVolumes(t *testing.T) {
	f := newFixture(t, t.TempDir())
	first := f.image(t, "c1", true)
	points := f.attach(t, "c1", first, mobycontainer.HostConfig{}, `C:\pgdata`)
	if len(points) != 1 || points[0].Destination != `C:\pgdata` || !points[0].RW || f.Method(points[0].Name) != MethodCopy || !f.Fresh(points[0].Name, "c1") {
		t.Fatalf("the mounts are %+v", points)
	}
	same(t, points[0].Source, database)
	same(t, first.Mounts[0].Source, map[string]string{"pgdata/": "", "bin/": "", "bin/postgres.exe": "exe"})
	if f.cloner.cloned != 0 {
		t.Error("the database was copied, and not moved")
	}
	second := f.image(t, "c2", true)
	second.Mounts[0].Options = []string{"rbind", "ro"} // somebody else's too
	other := f.attach(t, "c2", second, mobycontainer.HostConfig{}, "/pgdata")
	same(t, other[0].Source, database)
	if f.cloner.cloned != 1 {
		t.Errorf("%d trees were copied", f.cloner.cloned)
	}
	same(t, filepath.Join(second.Mounts[0].Source, "pgdata"), database)
	put(t, points[0].Source, map[string]string{"base/1/2": "changed"})
	same(t, other[0].Source, database)

	source, err := f.Mount(t.Context(), "c1", points[0])
	must(t, err)
	spec, err := points[0].OCI(source)
	if err != nil || spec.Source != points[0].Source || spec.Destination != `C:\pgdata` || len(spec.Options) != 0 || spec.Type != "" {
		t.Errorf("the mount of the specification is %+v, %v", spec, err)
	}
	uses := []Use{{ID: "c1", Points: points, Running: true}, {ID: "c2", Points: other}}
	f.open(t, uses...)
	f.clean(t, uses...)
	if got, err := f.Get(t.Context(), points[0].Name); err != nil || got.Mountpoint != points[0].Source {
		t.Errorf("%+v, %v", got, err)
	}
	if writers, _ := f.Writers(points[0].Name, "c2"); !slices.Equal(writers, []string{"c1"}) {
		t.Errorf("the writers are %q", writers)
	}
	must(t, f.Settle(t.Context(), points[0].Name))
	if f.Fresh(points[0].Name, "c1") {
		t.Error("a settled volume is fresh")
	}
	list, err := f.Usage(t.Context())
	must(t, err)
	if len(list) != 2 || list[0].UsageData.Size+list[1].UsageData.Size != int64(len("15table")+len("15changed")) {
		t.Errorf("the sizes are %+v, %+v", list[0].UsageData, list[1].UsageData)
	}
	if err := f.Remove(t.Context(), points[0].Name, true); !errdefs.IsConflict(err) {
		t.Errorf("removing a volume in use: %v", err)
	}
	must(t, f.Unmount(t.Context(), "c1", points[0]))
	must(t, f.Detach(t.Context(), "c1", points, true))
	must(t, f.Detach(t.Context(), "c2", other, true))
	if left := tree(t, filepath.Join(f.dir, "volumes")); len(left) > 0 {
		t.Errorf("the files %q are left", left)
	}
}

// A named volume is filled once, from an image without a database too, by copying:
// what the image has there stays in the container's own files.
func TestNamedVolume(t *testing.T) {
	f := newFixture(t, t.TempDir())
	host := mobycontainer.HostConfig{Binds: []string{`files:C:\pgdata`, `none:C:\nothing`}}
	image := f.image(t, "c1", false)
	points := f.attach(t, "c1", image, host)
	same(t, points[1].Source, database)
	same(t, points[0].Source, map[string]string{})
	same(t, filepath.Join(image.Mounts[0].Source, "pgdata"), database)
	put(t, points[1].Source, map[string]string{"own": "x"})
	again := f.attach(t, "c2", f.image(t, "c2", false), host)
	if again[1].Source != points[1].Source || tree(t, again[1].Source)["own"] != "x" {
		t.Error("the second container has another volume")
	}
	nocopy := f.attach(t, "c3", f.image(t, "c3", false), mobycontainer.HostConfig{Binds: []string{`fresh:C:\pgdata:nocopy`}})
	same(t, nocopy[0].Source, map[string]string{})
	sub := f.attach(t, "c4", f.image(t, "c4", false), mobycontainer.HostConfig{Mounts: []mobymount.Mount{{
		Type: mobymount.TypeVolume, Source: "files", Target: `C:\sub`, VolumeOptions: &mobymount.VolumeOptions{Subpath: "base/1"},
	}}})
	if source, err := f.Mount(t.Context(), "c4", sub[0]); err != nil || source != filepath.Join(points[1].Source, "base", "1") {
		t.Errorf("the sub path is %q, %v", source, err)
	}
	f.clean(t)
}

// What this system cannot do is refused, with the reason.
func TestPlanOnWindows(t *testing.T) {
	exists := func(path string) (bool, error) { return !strings.Contains(path, "missing"), nil }
	for bind, want := range map[string]string{
		`C:\x:C:\y`:             `bind C:\x C:\y`,
		`c:/x/../z:c:/y`:        `bind c:\z C:\y`,
		`C:\x:C:\y:rw`:          `bind C:\x C:\y`,
		`C:\x:\y`:               `bind C:\x C:\y`,
		`name:C:\y`:             `volume name C:\y`,
		`C:\y`:                  `volume  C:\y`,
		`\\srv\s\x:C:\y`:        `bind \\srv\s\x C:\y`,
		`C:\x:C:\y:ro`:          "read-only mounts are not possible",
		`name:C:\y:ro`:          "read-only mounts are not possible",
		`C:\x:C:\y:rslave`:      "no propagation of mounts on Windows",
		`C:\x:C:\y:what`:        "invalid mode: what",
		`C:\x:C:\`:              "cannot be 'c:'",
		`C:\x:D:\y`:             "drive C: only",
		`C:\x:y`:                "must be absolute",
		`C:\x:C:\nul`:           "device NUL",
		`C:\x:C:\a:ro:more`:     "invalid volume specification",
		`\\.\pipe\a:\\.\pipe\b`: "pipes of the host need no mount",
	} {
		points, err := Plan(PlanRequest{Config: &mobycontainer.Config{}, HostConfig: &mobycontainer.HostConfig{Binds: []string{bind}}, Exists: exists})
		var got string
		if err == nil {
			got = fmt.Sprintf("%s %s%s %s", points[0].Type, points[0].Name, points[0].Source, points[0].Destination)
		} else if got = err.Error(); !errdefs.IsInvalidArgument(err) && !errdefs.IsNotImplemented(err) {
			t.Errorf("%s: %v has no class", bind, err)
		}
		if err == nil && got != want || err != nil && !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", bind, got, want)
		}
	}
	for _, spec := range []mobymount.Mount{
		{Type: mobymount.TypeTmpfs, Target: `C:\t`}, {Type: mobymount.TypeBind, Source: `C:\x`, Target: `C:\y`, ReadOnly: true},
	} {
		if _, err := Plan(PlanRequest{Config: &mobycontainer.Config{}, HostConfig: &mobycontainer.HostConfig{Mounts: []mobymount.Mount{spec}}, Exists: exists}); !errdefs.IsNotImplemented(err) {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}

// Places that differ only in case are the same.
func TestPlanFoldsCase(t *testing.T) {
	_, err := Plan(PlanRequest{Config: &mobycontainer.Config{}, HostConfig: &mobycontainer.HostConfig{Binds: []string{`a1:C:\Data`, `b1:c:\data`}}})
	if err == nil || !strings.Contains(err.Error(), "Duplicate mount point") {
		t.Error(err)
	}
	points, err := Plan(PlanRequest{
		Config: &mobycontainer.Config{Volumes: map[string]struct{}{`C:\DATA`: {}}}, HostConfig: &mobycontainer.HostConfig{Binds: []string{`a1:C:\data`}},
	})
	if err != nil || len(points) != 1 || points[0].Name != "a1" {
		t.Errorf("%+v, %v", points, err)
	}
}

const crashDir = "VOLUME_CRASH_DIR"

// TestCrash kills a process at every durable step that it comes by, and looks
// whether the next one finds each volume empty or whole, and what it should.
func TestCrash(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashWork(t, dir)
		return
	}
	sources, err := filepath.Glob("*.go")
	must(t, err)
	killed := 0
	for _, source := range sources {
		text, err := os.ReadFile(source)
		must(t, err)
		if strings.HasSuffix(source, "_linux.go") {
			continue
		}
		for _, match := range regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`).FindAllStringSubmatch(string(text), -1) {
			t.Run(match[1], func(t *testing.T) {
				if crashAt(t, match[1]) {
					killed++
				}
			})
		}
	}
	if killed < 8 {
		t.Errorf("the process was killed %d times only", killed)
	}
}

func crashAt(t *testing.T, point string) bool {
	t.Helper()
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$", "-test.v")
	child.Env = append(os.Environ(), crashDir+"="+dir, failpoint.Env+"="+point)
	out, err := child.CombinedOutput()
	if strings.Contains(string(out), "END") {
		return false
	}
	if child.ProcessState.ExitCode() != 137 {
		t.Fatalf("the process was not killed: %v\n%s", err, out)
	}
	f := newFixture(t, dir)
	f.clean(t)
	for _, c := range f.candidates() {
		got := tree(t, f.data(c.Name))
		isWhole := maps.Equal(got, database)
		if !isWhole && len(got) > 0 {
			t.Errorf("volume %s has %q", c.Name, got)
		}
		if c.Anonymous && isWhole != (c.Filled != nil) {
			t.Errorf("volume %s has %q, and is recorded as %+v", c.Name, got, c.Filled)
		}
		if !isWhole && strings.Contains(string(out), "FILLED") && c.Name == "named" {
			t.Error("a volume was promised to be filled, and is empty")
		}
		must(t, f.Remove(t.Context(), c.Name, false))
	}
	if left := tree(t, filepath.Join(dir, "volumes")); len(left) > 0 {
		t.Errorf("the files %q are left", left)
	}
	return true
}

func crashWork(t *testing.T, dir string) {
	t.Helper()
	f := newFixture(t, dir)
	f.attach(t, "c0", f.image(t, "c0", false), mobycontainer.HostConfig{Binds: []string{`named:C:\pgdata`}})
	fmt.Println("FILLED")
	points := f.attach(t, "c1", f.image(t, "c1", true), mobycontainer.HostConfig{}, `C:\pgdata`)
	must(t, f.Detach(t.Context(), "c1", points, true))
	fmt.Println("END")
}
