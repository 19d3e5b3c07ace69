//go:build linux

package integration

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/failpoint"
	"slipway/internal/testutil"
)

// scenario reaches failpoints: each whose name has one of the prefixes, unless
// another scenario has a longer one.
type scenario struct {
	name     string
	prefixes []string
	// before prepares what the failpoint must not disturb; may be nil.
	before func(s *script) error
	run    func(s *script) error
	// atStart is for failpoints that a daemon passes before it serves: run is done
	// by a daemon that is killed then, and the next one dies of the failpoint.
	atStart bool
}

var scenarios = []scenario{
	{name: "network", prefixes: []string{"network.create.", "network.remove."}, run: func(s *script) error {
		return steps(
			func() error { return s.creates(networkKind, s.tag, "/networks/create", spec{"Name": s.tag}) },
			func() error { return s.removes(networkKind, s.tag, "") },
		)
	}},
	{name: "volume", prefixes: []string{"volume.create.", "volume.remove."}, run: func(s *script) error {
		return steps(
			func() error { return s.creates(volumeKind, s.tag, "/volumes/create", spec{"Name": s.tag}) },
			func() error { return s.removes(volumeKind, s.tag, "") },
		)
	}},
	{name: "create", prefixes: []string{"container.create.", "container.layer.", "container.remove."}, run: func(s *script) error {
		return steps(
			func() error { return s.container("busybox", nil) },
			func() error { return s.removes(containerKind, s.tag, "") },
		)
	}},
	{name: "rename", prefixes: []string{"container.rename."}, run: func(s *script) error {
		to := s.tag + "-b"
		return steps(
			func() error { return s.container("busybox", nil) },
			func() error {
				delete(s.want, fmt.Sprintf(containerKind, s.tag))
				return s.creates(containerKind, to, "/containers/"+s.tag+"/rename?name="+to, nil)
			},
			func() error { return s.removes(containerKind, to, "") },
		)
	}},
	{name: "fill volumes", prefixes: []string{"volume.populate.", "volume.remove.snapshot"}, run: func(s *script) error {
		device := filepath.Join(s.d.DataRoot, "device-"+s.tag)
		bound := spec{"Type": "volume", "Source": s.tag + "-bound", "Target": "/more", "VolumeOptions": spec{
			"DriverConfig": spec{"Name": "local", "Options": spec{"type": "none", "o": "bind", "device": device}},
		}}
		return steps(
			func() error { return os.Mkdir(device, 0o755) },
			func() error {
				return s.container(dataImage, spec{"HostConfig": spec{"Binds": []string{s.tag + ":/stuff"}, "Mounts": []spec{bound}}})
			},
			func() error {
				s.want["/volumes/"+s.tag], s.want["/volumes/"+s.tag+"-bound"] = http.StatusOK, http.StatusOK
				return nil
			},
			func() error {
				_, err := os.Stat(filepath.Join(device, "file"))
				return err
			},
			func() error { return s.removes(containerKind, s.tag, "?v=1") },
		)
	}},
	{
		name: "run", prefixes: []string{"container.start.", "container.exit.", "network.sandbox.", "network.connect."},
		run: func(s *script) error {
			return steps(
				func() error { return s.container("busybox", publishing) },
				func() error { return s.post("/containers/"+s.tag+"/start", nil) },
				func() error { return s.post("/containers/"+s.tag+"/kill", nil) },
				func() error { return s.removes(containerKind, s.tag, "") },
			)
		},
	},
	{
		name: "connect", prefixes: []string{"container.connect.", "container.disconnect.", "network.connect.closed", "network.disconnect."},
		before: func(s *script) error {
			return steps(
				func() error { return s.container("busybox", publishing) },
				func() error { return s.post("/containers/"+s.tag+"/start", nil) },
				func() error { return s.creates(networkKind, s.tag, "/networks/create", spec{"Name": s.tag}) },
			)
		},
		run: func(s *script) error {
			connect := spec{"Container": s.tag, "EndpointConfig": spec{"GwPriority": 1, "Aliases": []string{"other"}}}
			return steps(
				func() error { return s.post("/networks/"+s.tag+"/connect", connect) },
				func() error { return s.post("/networks/"+s.tag+"/disconnect", spec{"Container": s.tag}) },
			)
		},
	},
	{
		name: "update", prefixes: []string{"container.update."},
		before: func(s *script) error {
			return steps(
				func() error {
					return s.container("busybox", spec{"HostConfig": spec{"PidsLimit": 50}})
				},
				func() error { return s.post("/containers/"+s.tag+"/start", nil) },
			)
		},
		run: func(s *script) error { return s.post("/containers/"+s.tag+"/update", spec{"PidsLimit": 40}) },
	},
	{name: "start of the daemon", prefixes: []string{"network.restore."}, atStart: true, run: func(s *script) error {
		return steps(
			func() error { return s.container("busybox", publishing) },
			func() error { return s.post("/containers/"+s.tag+"/start", nil) },
		)
	}},
	{
		name: "commit", prefixes: []string{"container.commit.", "image.commit.", "image.record.", "image.remove."},
		before: func(s *script) error {
			return steps(
				func() error { return s.container(dataImage, nil) },
				func() error { return s.post("/containers/"+s.tag+"/start", nil) },
			)
		},
		run: func(s *script) error {
			return steps(
				func() error {
					return s.creates(imageKind, s.tag+":1", "/commit?container="+s.tag+"&repo="+s.tag+"&tag=1", spec{})
				},
				func() error { return s.removes(imageKind, s.tag+":1", "") },
			)
		},
	},
	{
		name: "save a commit", prefixes: []string{"image.materialise."},
		before: func(s *script) error {
			return steps(
				func() error { return s.container(dataImage, nil) },
				func() error {
					return s.creates(imageKind, s.tag+":1", "/commit?container="+s.tag+"&repo="+s.tag+"&tag=1", spec{})
				},
			)
		},
		run: func(s *script) error {
			_, err := s.call(http.MethodGet, "/images/"+s.tag+":1/get", nil)
			return err
		},
	},
	{name: "load", prefixes: []string{"image.load."}, run: func(s *script) error {
		archive, err := s.image(s.tag + ":loaded").DockerArchive()
		if err != nil {
			return err
		}
		return s.creates(imageKind, s.tag+":loaded", "/images/load", archive)
	}},
	{name: "import", prefixes: []string{"image.import."}, run: func(s *script) error {
		layer, err := testutil.Layer([]testutil.File{{Path: "file", Content: s.tag}})
		if err != nil {
			return err
		}
		return s.creates(imageKind, s.tag+":imported", "/images/create?fromSrc=-&repo="+s.tag+"&tag=imported", io.Reader(strings.NewReader(string(layer))))
	}},
}

// elsewhere are failpoints whose own package's test kills a process at each of
// them and looks at what the next one finds, with more detail than is seen here.
var elsewhere = map[string]struct{ folder, test string }{
	"dirs.":    {"layerstore/dirs", "TestCrash"},
	"clonefs.": {"clonefs", "TestCrash"},
	// A pull is a load whose bytes come from a registry.
	"image.pull.": {"image", "TestCrash"},
	// A clone whose request sets a password, which needs a database that answers.
	"network.open.": {"integration", "TestFaultLedger"},
}

var publishing = spec{
	"ExposedPorts": spec{"80/tcp": spec{}},
	"HostConfig":   spec{"PortBindings": spec{"80/tcp": []spec{{"HostIp": "127.0.0.1"}}}},
}

// image is one that the engine does not have.
func (s *script) image(name string) testutil.Image {
	return testutil.Image{Name: name, Layers: [][]testutil.File{{{Path: "file", Content: name}}}}
}

// failpoints reads the names from the source of the whole module.
func failpoints(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != ".." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "bin") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if !isHit(call.Fun) {
				return true
			}
			literal, isLiteral := call.Args[0].(*ast.BasicLit)
			if !isLiteral {
				t.Errorf("%s: the name of a failpoint is no literal", path)
				return true
			}
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Error(err)
			}
			names = append(names, name)
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// isHit tells whether a called function is failpoint.Hit.
func isHit(f ast.Expr) bool {
	selector, ok := f.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && pkg.Name == "failpoint" && selector.Sel.Name == "Hit"
}

// longest finds the entry whose prefix of the name is the longest.
func longest(name string, prefixes []string) string {
	best := ""
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) && len(p) > len(best) {
			best = p
		}
	}
	return best
}

// assign gives each failpoint its scenario, by the scenario's name.
func assign(t *testing.T) map[string][]string {
	t.Helper()
	owner := map[string]string{}
	for _, s := range scenarios {
		for _, p := range s.prefixes {
			owner[p] = s.name
		}
	}
	for p := range elsewhere {
		owner[p] = ""
	}
	prefixes := slices.Collect(func(yield func(string) bool) {
		for p := range owner {
			if !yield(p) {
				return
			}
		}
	})
	points := map[string][]string{}
	used := map[string]bool{}
	for _, name := range failpoints(t) {
		p := longest(name, prefixes)
		if p == "" {
			t.Errorf("failpoint %s: no scenario reaches it", name)
			continue
		}
		used[p] = true
		if owner[p] != "" {
			points[owner[p]] = append(points[owner[p]], name)
		}
	}
	for _, p := range prefixes {
		if !used[p] {
			t.Errorf("no failpoint begins with %q any more", p)
		}
	}
	return points
}

// TestFaultPoints cuts the daemon at every failpoint there is in the source. The
// next daemon must find nothing lost and nothing left, and do the same again.
func TestFaultPoints(t *testing.T) {
	testutil.RequireRoot(t)
	t.Parallel()
	points := assign(t)
	t.Run("elsewhere", func(t *testing.T) { checkElsewhere(t) })
	// Two engines side by side, since each waits for disks and processes mostly.
	for name, group := range map[string][]string{
		"containers": {"create", "run", "connect", "start of the daemon", "network"},
		"data":       {"volume", "fill volumes", "commit", "save a commit", "load", "import"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for _, s := range scenarios {
				if !slices.Contains(group, s.name) {
					continue
				}
				for _, point := range points[s.name] {
					t.Run(point, func(t *testing.T) { w.cut(t, s, point) })
				}
			}
		})
	}
}

// cut has the daemon die of the failpoint, while it starts if it comes by then,
// and in the scenario. Each time a new daemon must find all in order, and the
// scenario must succeed.
func (w *world) cut(t *testing.T, s scenario, point string) {
	t.Helper()
	w.d.Kill()
	// What is kept makes a daemon pass some failpoints while it starts.
	for pass, atStart := 1, true; atStart && pass < 10; pass++ {
		run := newScript(w.d)
		var err error
		if atStart, err = w.reach(t, s, run, point+"@"+strconv.Itoa(pass)); err != nil {
			t.Fatalf("%v\n%s", err, w.d.LogTail(20))
		}
		if err := w.d.Start(); err != nil {
			t.Fatal(err)
		}
		w.verify(t)
		run.verify(t)
		w.clean(t)
		w.repeat(t, s)
		w.d.Kill()
		if s.atStart {
			return
		}
	}
}

// repeat runs the scenario after the crash.
func (w *world) repeat(t *testing.T, s scenario) {
	t.Helper()
	again := newScript(w.d)
	if s.before != nil {
		if err := s.before(again); err != nil {
			t.Error(err)
		}
	}
	if err := s.run(again); err != nil {
		t.Errorf("the same after the crash: %v", err)
	}
	again.verify(t)
	w.clean(t)
	checkFindsNothing(t, w.d)
	if t.Failed() {
		t.Logf("the daemon's log:\n%s", w.d.LogTail(30))
	}
}

// reach has the daemon die of the failpoint, and tells whether that was before
// it served.
func (w *world) reach(t *testing.T, s scenario, run *script, arm string) (atStart bool, err error) {
	t.Helper()
	if err := w.prepare(t, s, run); err != nil {
		return false, err
	}
	if err := w.d.Launch(failpoint.Env + "=" + arm); err != nil {
		return false, err
	}
	answers := func() bool {
		status, _, err := w.d.Request(http.MethodGet, "/_ping", nil)
		return err == nil && status == http.StatusOK
	}
	testutil.Eventually(t, "the daemon answers or ends", func() bool { return answers() || !w.d.Running() })
	if atStart = !w.d.Running(); !atStart && !s.atStart {
		err = s.run(run)
	}
	if !w.d.WaitExit(5 * time.Second) {
		return false, errors.Join(fmt.Errorf("the scenario %q does not reach the failpoint", s.name), err)
	}
	if log := w.d.LogTail(50); strings.Contains(log, "panic: ") || strings.Contains(log, "fatal error: ") {
		return false, errors.New("the daemon crashed by itself")
	}
	return atStart, nil
}

// prepare does what comes before the daemon with the failpoint is started.
func (w *world) prepare(t *testing.T, s scenario, run *script) error {
	t.Helper()
	first := s.before
	if s.atStart {
		first = s.run
	}
	if first == nil {
		return nil
	}
	if err := w.d.Start(); err != nil {
		return err
	}
	if err := first(run); err != nil {
		return err
	}
	if !s.atStart {
		w.d.Kill()
		return nil
	}
	// A container that ends while no daemon is there.
	process := w.d.ContainerProcess(t, run.tag)
	w.d.Kill()
	if err := process.Kill(); err != nil {
		return err
	}
	testutil.Eventually(t, "its shim has noticed its end", process.Reaped)
	return nil
}

// checkElsewhere wants the tests to exist that are named as covering failpoints.
func checkElsewhere(t *testing.T) {
	t.Helper()
	for prefix, where := range elsewhere {
		files, err := filepath.Glob(filepath.Join("..", where.folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(files, func(path string) bool {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			return err == nil && slices.ContainsFunc(file.Decls, func(d ast.Decl) bool {
				f, ok := d.(*ast.FuncDecl)
				return ok && f.Name.Name == where.test
			})
		})
		if !found {
			t.Errorf("%s*: there is no %s in %s", prefix, where.test, where.folder)
		}
	}
}
