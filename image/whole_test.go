package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"

	"slipway/internal/treecopy"
	"slipway/layerstore/dirs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// wholeEngine is an engine whose layers are plain directories, on any system.
func wholeEngine(t *testing.T, change ...func(*Config)) *engine {
	t.Helper()
	return openEngine(t, t.TempDir(), append([]func(*Config){func(c *Config) {
		c.Snapshotter = dirs.Name
		c.Flatten = func(ctx context.Context, layers []string, dst string) error {
			if len(layers) != 1 {
				return errors.New("a whole tree is flattened with more than itself")
			}
			_, err := treecopy.Copy(ctx, treecopy.Probe(dst), dst, layers[0])
			return err
		}
	}}, change...)...)
}

// wholeCommit makes an image whose tree has the parent's files, changed by files; an
// empty content removes one.
func (e *engine) wholeCommit(t *testing.T, parent *Image, ref string, files map[string]string) *Image {
	t.Helper()
	want := e.contents(t, parent)
	for name, content := range files {
		want[name] = content
		if content == "" {
			delete(want, name)
		}
	}
	image, err := e.Commit(e.ctx, CommitRequest{
		Parent: parent, Config: parent.Spec.Config, Ref: ref,
		Fill: func(_ context.Context, dir string) error { return fillFiles(dir, want) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// contents reads the files of an image.
func (e *engine) contents(t *testing.T, image *Image) map[string]string {
	t.Helper()
	if err := e.EnsureUnpacked(e.ctx, image); err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	own, err := e.layerDirs(e.ctx, image.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	if err := dirs.WriteLayer(e.ctx, &layer, "", own[0]); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entriesOf(t, layer.Bytes()) {
		if e.typ == tar.TypeReg {
			files[strings.TrimPrefix(e.name, "Files/")] = e.content
		}
	}
	return files
}

func entriesOf(t *testing.T, archive []byte) (entries []entry) {
	t.Helper()
	for in := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry{name: header.Name, typ: header.Typeflag, content: string(content)})
	}
}

// An image of directories goes through save and load unchanged, and its archive is
// one of Windows: Docker's and OCI's tables, and layers beneath Files/ that have
// only what each changes.
func TestWholeTrees(t *testing.T) {
	e := wholeEngine(t)
	base := e.base(t, "base")
	one := e.wholeCommit(t, base, "db:one", map[string]string{"data/new": "1", "data/gone": ""})
	two := e.wholeCommit(t, one, "db:two", map[string]string{"data/new": "22", "deep/er/file": "x"})
	if one.ParentID != base.ID || two.ParentID != one.ID {
		t.Error("parents are mixed up")
	}
	archive := e.save(t, "db:one", "db:two")
	if !bytes.Equal(archive, e.save(t, "db:one", "db:two")) {
		t.Error("a second save gives another archive")
	}
	var manifests []dockerManifest
	if err := json.Unmarshal(fileOf(t, archive, "manifest.json"), &manifests); err != nil {
		t.Fatal(err)
	}
	last := manifests[slices.IndexFunc(manifests, func(m dockerManifest) bool { return slices.Contains(m.RepoTags, "db:two") })]
	if len(last.Layers) != 3 {
		t.Fatalf("db:two has the layers %q", last.Layers)
	}
	var spec Spec
	if err := json.Unmarshal(fileOf(t, archive, last.Config), &spec); err != nil {
		t.Fatal(err)
	}
	if spec.OS != runtime.GOOS || (runtime.GOOS == "windows") != (spec.OSVersion != "") {
		t.Errorf("the platform is %+v", spec.Platform)
	}
	want := [][]string{
		{"Files/etc/passwd", "Files/data/old", "Files/data/gone", "Files/dir/hidden"},
		{"Files/data/.wh.gone", "Files/data/new"},
		{"Files/data/new", "Files/deep/er/file"},
	}
	for i, name := range last.Layers {
		var got []string
		for _, e := range entriesOf(t, fileOf(t, archive, name)) {
			if e.typ == tar.TypeReg {
				got = append(got, e.name)
			}
		}
		if i > 0 { // the time of what fillFiles writes again is new
			got = slices.DeleteFunc(got, func(name string) bool { return slices.Contains(want[0], name) })
		}
		if !slices.Equal(got, want[i]) {
			t.Errorf("layer %d has %q, want %q", i, got, want[i])
		}
	}
	for _, ref := range []string{"db:one", "db:two"} {
		other := wholeEngine(t)
		other.loadArchive(t, archive)
		image, err := other.Get(other.ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		mine, err := e.Get(e.ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, e.contents(t, mine), other.contents(t, image))
		other.noLeaks(t)
	}
	e.loadArchive(t, archive) // finds everything there
	e.noLeaks(t)
	e.removeAll(t, "db:two", "db:one", "base")
}

// removeAll removes images and expects that nothing is left.
func (e *engine) removeAll(t *testing.T, refs ...string) {
	t.Helper()
	for _, ref := range refs {
		if _, err := e.Remove(e.ctx, ref, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	e.gc(t)
	if left := e.snapshotDirs(t); len(left) > 0 {
		t.Errorf("snapshots are left: %q", left)
	}
	e.noLeaks(t)
}

// What a commit leaves to do for Fill is the tree, and for nobody the copy of the
// layers below: sizes are of what layers add, and an alias takes nothing.
func TestWholeTreesTakeWhatTheyMust(t *testing.T) {
	e := wholeEngine(t)
	base := e.base(t, "base")
	big := strings.Repeat("x", 1<<20)
	image := e.wholeCommit(t, base, "big", map[string]string{"big": big})
	before := len(e.snapshotDirs(t))
	if _, err := e.Materialise(e.ctx, image, nil); err != nil {
		t.Fatal(err)
	}
	if after := len(e.snapshotDirs(t)); after != before {
		t.Errorf("an alias takes a directory: there were %d, and now %d", before, after)
	}
	sizes, err := e.layerUsages(e.ctx, image)
	if err != nil || len(sizes) != 2 || sizes[0] > 1<<10 || sizes[1] != int64(len(big)) {
		t.Errorf("the layers' sizes are %v, %v", sizes, err)
	}
	child := e.wholeCommit(t, image, "child", map[string]string{"small": "s"})
	if sizes, err = e.layerUsages(e.ctx, child); err != nil || sizes[2] != 1 {
		t.Errorf("the layers' sizes are %v, %v", sizes, err)
	}
	history, err := e.History(e.ctx, "child", nil)
	if err != nil || len(history) != 3 || history[0].Size != 1 {
		t.Errorf("the history is %+v, %v", history, err)
	}
}

// A long chain of commits becomes one layer again, and the trees between can go.
func TestWholeTreesAreFlattened(t *testing.T) {
	e := wholeEngine(t, func(c *Config) { c.MaxChain = 3 })
	image := e.base(t, "gen:0")
	for range 5 {
		image = e.wholeCommit(t, image, "gen:latest", map[string]string{"data/old": strings.Repeat("n", len(image.Spec.History)), "data/gone": ""})
		if late := image.lateLayers(); late > 3 {
			t.Fatalf("%d layers made late lie on each other", late)
		}
	}
	if got := e.contents(t, image); got["data/old"] != "nnnnn" || got["data/gone"] != "" || got["dir/hidden"] != "hidden" {
		t.Errorf("the files are %q", got)
	}
	archive := e.save(t, "gen:latest")
	other := wholeEngine(t)
	other.loadArchive(t, archive)
	loaded, err := other.Get(other.ctx, "gen:latest")
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, e.contents(t, image), other.contents(t, loaded))
	e.removeAll(t, "gen:latest", "gen:0")
}

// A layer that Windows would read in another way is refused with the name, and
// nothing of the image is left.
func TestWholeTreesRefuseNames(t *testing.T) {
	e := wholeEngine(t)
	for _, name := range []string{"dir/NUL", "a.", "x:y", "../up"} {
		_, err := e.Import(e.ctx, ImportRequest{Layer: bytes.NewReader(tarOf(t, entry{name: name, content: "x"})), Source: "-", Ref: "bad"})
		if err == nil || !strings.Contains(err.Error(), path.Base(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, _ := e.blobs(t); n > 0 || len(e.snapshotDirs(t)) > 0 {
		t.Errorf("%d blobs and the snapshots %q are left", n, e.snapshotDirs(t))
	}
}

func TestWindowsHost(t *testing.T) {
	host := windowsHost{"amd64", "10.0.19045"}
	platform := func(os, arch, version string) ocispec.Platform {
		return ocispec.Platform{OS: os, Architecture: arch, OSVersion: version}
	}
	for _, p := range []ocispec.Platform{platform("linux", "amd64", ""), platform("windows", "arm64", ""), platform("windows", "386", "")} {
		if host.Match(p) {
			t.Errorf("%+v is run", p)
		}
	}
	// The best first.
	order := []ocispec.Platform{
		platform("windows", "amd64", "10.0.19045.1"), platform("windows", "amd64", "10.0.19045"), platform("windows", "amd64", "10.0.17763.5576"),
		platform("windows", "amd64", "10.0.9200"), platform("windows", "amd64", ""), platform("windows", "amd64", "10.0.20348"), platform("windows", "amd64", "10.0.26100"),
		platform("linux", "amd64", ""),
	}
	order = order[1:] // .1 is newer than the host says of itself
	for i, a := range order {
		for j, b := range order {
			if got := host.Less(a, b); got != (i < j) {
				t.Errorf("Less(%+v, %+v) is %t", a, b, got)
			}
		}
	}
	arm := windowsHost{"arm64", "10.0.22000"}
	if !arm.Match(platform("windows", "amd64", "")) || !arm.Less(platform("windows", "arm64", ""), platform("windows", "amd64", "")) {
		t.Error("an emulated architecture comes second")
	}
}
