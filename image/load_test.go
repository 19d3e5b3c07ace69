package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	ctdarchive "github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"
)

// An archive that comes back to the engine that made it is the image that is
// there: the same ID, nothing unpacked or stored again.
func TestLoadOfOwnArchive(t *testing.T) {
	for _, removed := range []bool{false, true} {
		e := newEngine(t)
		image := e.awkward(t, e.base(t, "base"), "db")
		archive := e.save(t, "db")
		if removed { // its name, not the image
			if err := e.Tag(e.ctx, "db", "db:kept"); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Remove(e.ctx, "db", RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		e.gc(t)
		n, size := e.blobs(t)
		snapshots := len(e.snapshotDirs(t))
		e.loadArchive(t, archive)
		if got := e.id(t, "db"); got != image.ID {
			t.Errorf("ID %s, want %s", got, image.ID)
		}
		e.gc(t)
		if n2, size2 := e.blobs(t); n2 != n || size2 != size {
			t.Errorf("%d blobs of %d bytes, had %d of %d", n2, size2, n, size)
		}
		if got := len(e.snapshotDirs(t)); got != snapshots {
			t.Errorf("%d snapshots, had %d", got, snapshots)
		}
		list, err := e.List(e.ctx, ListOptions{Filters: Filters{"reference": {"db": true}}})
		if err != nil || len(list) != 1 {
			t.Errorf("%d images, %v", len(list), err)
		}
		e.noLeaks(t)
	}
}

func (e *engine) snapshotDirs(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(e.root, "io.containerd.snapshotter.v1."+e.snapshotter, "snapshots", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// After an image that was saved is removed, its archive makes a new one.
func TestLoadAfterRemoval(t *testing.T) {
	e := newEngine(t)
	image := e.awkward(t, e.base(t, "base"), "db")
	child := e.commit(t, image, "child", map[string]string{"x": "y"})
	want := e.tree(t, image)
	archive := e.save(t, "db")
	if _, err := e.Remove(e.ctx, "db", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	e.loadArchive(t, archive)
	e.gc(t)
	loaded, err := e.Get(e.ctx, "db")
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, want, e.tree(t, loaded))
	if !bytes.Equal(archive, e.save(t, "db")) {
		t.Error("the archive changed")
	}
	// It is a parent like any other.
	again := e.commit(t, loaded, "again", map[string]string{"x": "z"})
	e.save(t, "again", "child")
	if again.ParentID != loaded.ID || child.ParentID != image.ID {
		t.Error("parents are mixed up")
	}
	e.noLeaks(t)
}

func TestLoadOfContainerdsArchive(t *testing.T) {
	e := newEngine(t)
	image := e.base(t, "base:x")
	var archive bytes.Buffer
	if err := ctdarchive.Export(e.ctx, e.content, &archive, ctdarchive.WithImage(e.images, "docker.io/library/base:x")); err != nil {
		t.Fatal(err)
	}
	other := newEngine(t)
	other.loadArchive(t, archive.Bytes())
	if got := other.id(t, "base:x"); got != image.ID {
		t.Errorf("ID %s, want %s", got, image.ID)
	}
}

func TestLoadCompressed(t *testing.T) {
	e := newEngine(t)
	e.base(t, "base")
	archive := e.save(t, "base")
	for name, compress := range map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
		"xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
	} {
		t.Run(name, func(t *testing.T) {
			var packed bytes.Buffer
			w, err := compress(&packed)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(archive); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			other := newEngine(t)
			if got := other.loadArchive(t, packed.Bytes()); !slices.Contains(got, "Loaded image: base:latest") {
				t.Errorf("messages %q", got)
			}
			var got messages
			if err := other.Load(other.ctx, bytes.NewReader(packed.Bytes()[:packed.Len()/2]), LoadOptions{Progress: got.add}); !errdefs.IsInvalidArgument(err) {
				t.Errorf("half an archive: %v", err)
			}
		})
	}
}

// oldArchive is what docker save wrote before it knew OCI layouts.
func oldArchive(t *testing.T, tags ...string) []byte {
	t.Helper()
	layer := layerOf(t, entry{name: "hello", content: "world"})
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": runtime.GOOS, "config": map[string]any{"Cmd": []string{"sh"}, "Healthcheck": map[string]any{"Test": []string{"NONE"}}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest.FromBytes(layer).String(), digest.FromBytes(layer).String()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]dockerManifest{{Config: "cfg.json", RepoTags: tags, Layers: []string{"aaa/layer.tar", "bbb/layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t,
		entry{name: "aaa/", typ: tar.TypeDir}, entry{name: "aaa/VERSION", content: "1.0"}, entry{name: "aaa/layer.tar", content: string(layer)},
		entry{name: "bbb/layer.tar", typ: tar.TypeSymlink, link: "../aaa/layer.tar"},
		entry{name: "cfg.json", content: string(config)}, entry{name: "manifest.json", content: string(manifest)},
		entry{name: "repositories", content: "{}"},
	)
}

func TestLoadOfOldArchive(t *testing.T) {
	e := newEngine(t)
	lines := e.loadArchive(t, oldArchive(t, "old:1", "old:2"))
	if !slices.Contains(lines, "Loaded image: old:1") || !slices.Contains(lines, "Loaded image: old:2") {
		t.Errorf("messages %q", lines)
	}
	image, err := e.Get(e.ctx, "old:2")
	if err != nil {
		t.Fatal(err)
	}
	if image.Spec.Config.Healthcheck == nil || len(image.layers) != 2 {
		t.Errorf("config %+v", image.Spec)
	}
	e.gc(t)
	if got := names(e.tree(t, image)); !slices.Equal(got, []string{"/hello"}) {
		t.Errorf("files %q", got)
	}
	lines = e.loadArchive(t, oldArchive(t))
	if !slices.Contains(lines, "Loaded image ID: "+image.ID.String()) {
		t.Errorf("messages %q", lines)
	}
	// Docker's older archives stay loadable after we saved them.
	other := newEngine(t)
	other.loadArchive(t, e.save(t, "old:1"))
	if got := other.id(t, "old:1"); got != image.ID {
		t.Errorf("ID %s, want %s", got, image.ID)
	}
}

func TestLoadOfGarbage(t *testing.T) {
	e := newEngine(t)
	e.base(t, "base")
	good := e.save(t, "base")
	old := oldArchive(t, "old:1")
	blob := "blobs/sha256/" + strings.Repeat("a", 64)
	layout := entry{name: "oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`}
	index := func(manifests string) entry {
		return entry{name: "index.json", content: `{"schemaVersion":2,"manifests":[` + manifests + `]}`}
	}
	empty := newEngine(t)
	for name, archive := range map[string][]byte{
		"nothing":           nil,
		"text":              []byte(strings.Repeat("no archive at all\n", 100)),
		"bad gzip":          {0x1f, 0x8b, 0, 0, 0, 0, 0, 0, 0, 0},
		"no manifest":       tarOf(t, entry{name: "file", content: "x"}),
		"half":              good[:len(good)/2],
		"half old":          old[:len(old)/2],
		"digest mismatch":   tarOf(t, layout, index(""), entry{name: blob, content: "other"}),
		"bad digest":        tarOf(t, layout, index(""), entry{name: "blobs/sha256/short", content: "other"}),
		"bad algorithm":     tarOf(t, layout, index(""), entry{name: "blobs/md5/d41d8cd98f00b204e9800998ecf8427e"}),
		"no index":          tarOf(t, layout),
		"bad version":       tarOf(t, entry{name: "oci-layout", content: `{"imageLayoutVersion":"9"}`}, index("")),
		"no image":          tarOf(t, layout, index("")),
		"missing manifest":  tarOf(t, layout, index(`{"mediaType":"`+ocispec.MediaTypeImageManifest+`","digest":"sha256:`+strings.Repeat("a", 64)+`","size":5}`)),
		"no media type":     tarOf(t, layout, index(`{"digest":"sha256:`+strings.Repeat("a", 64)+`","size":5}`)),
		"manifest digest":   tarOf(t, layout, index(`{"mediaType":"`+ocispec.MediaTypeImageManifest+`","digest":"../../etc/passwd","size":5}`)),
		"broken JSON":       tarOf(t, entry{name: "manifest.json", content: "{"}),
		"wrong type":        tarOf(t, entry{name: "manifest.json", content: `"x"`}),
		"null":              tarOf(t, entry{name: "manifest.json", content: `null`}),
		"empty list":        tarOf(t, entry{name: "manifest.json", content: `[]`}),
		"missing config":    tarOf(t, entry{name: "manifest.json", content: `[{"Config":"c","Layers":[]}]`}),
		"config no JSON":    tarOf(t, entry{name: "c", content: "x"}, entry{name: "manifest.json", content: `[{"Config":"c","Layers":[]}]`}),
		"link circle":       tarOf(t, entry{name: "c", typ: tar.TypeSymlink, link: "c"}, entry{name: "manifest.json", content: `[{"Config":"c","Layers":[]}]`}),
		"bad tag":           tarOf(t, entry{name: "c", content: "{}"}, entry{name: "manifest.json", content: `[{"Config":"c","RepoTags":["A:B:C"],"Layers":[]}]`}),
		"layers do not fit": tarOf(t, entry{name: "c", content: `{"os":"` + runtime.GOOS + `","architecture":"amd64","rootfs":{"diff_ids":["sha256:` + strings.Repeat("a", 64) + `"]}}`}, entry{name: "manifest.json", content: `[{"Config":"c","Layers":[]}]`}),
		"layer no tar":      tarOf(t, entry{name: "l", content: strings.Repeat("x", 2000)}, entry{name: "c", content: `{"os":"` + runtime.GOOS + `","architecture":"amd64","rootfs":{"diff_ids":["sha256:` + strings.Repeat("a", 64) + `"]}}`}, entry{name: "manifest.json", content: `[{"Config":"c","Layers":["l"]}]`}),
		"wrong diff ID":     tarOf(t, entry{name: "l", content: string(tarOf(t, entry{name: "x"}))}, entry{name: "c", content: `{"os":"` + runtime.GOOS + `","architecture":"amd64","rootfs":{"diff_ids":["sha256:` + strings.Repeat("a", 64) + `"]}}`}, entry{name: "manifest.json", content: `[{"Config":"c","Layers":["l"]}]`}),
	} {
		t.Run(name, func(t *testing.T) {
			err := empty.Load(empty.ctx, bytes.NewReader(archive), LoadOptions{})
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("got %v", err)
			} else {
				t.Log(err)
			}
		})
	}
	if n, _ := empty.blobs(t); n != 0 || len(empty.snapshotDirs(t)) != 0 {
		t.Errorf("%d blobs and %d snapshots are left", n, len(empty.snapshotDirs(t)))
	}
	empty.noLeaks(t)
}

func TestLoadCancelled(t *testing.T) {
	e := newEngine(t)
	e.awkward(t, e.base(t, "base"), "db")
	archive := e.save(t, "db")
	other := newEngine(t)
	ctx, cancel := context.WithCancelCause(other.ctx)
	r := io.MultiReader(bytes.NewReader(archive[:len(archive)-2000]), readerFunc(func([]byte) (int, error) {
		cancel(errors.New("client went away"))
		return 0, io.ErrUnexpectedEOF
	}))
	if err := other.Load(ctx, r, LoadOptions{}); err == nil {
		t.Error("a cancelled load succeeded")
	}
	if n, _ := other.blobs(t); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
	ingests, err := other.content.ListStatuses(other.ctx)
	if err != nil || len(ingests) != 0 {
		t.Errorf("ingests are left: %v, %v", ingests, err)
	}
	other.noLeaks(t)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// ingests lists what is half written in the content store's own directory.
func (e *engine) ingests(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(e.root, "io.containerd.content.v1.content", "ingest", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A blob whose record is gone while its file is still there, which is so from a
// removal until the garbage is collected, can be loaded.
func TestLoadOfWhatIsAboutToGo(t *testing.T) {
	e := newEngine(t)
	e.base(t, "base")
	archive := e.save(t, "base")
	var blobs []digest.Digest
	if err := e.content.Walk(e.ctx, func(info content.Info) error {
		blobs = append(blobs, info.Digest)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Remove(e.ctx, "base", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	e.gc(t)
	e.loadArchive(t, archive)
	for _, blob := range blobs {
		if err := e.content.Delete(e.ctx, blob); err != nil {
			t.Fatal(err)
		}
	}
	e.loadArchive(t, archive)
	e.noLeaks(t)
	if left := e.ingests(t); len(left) > 0 {
		t.Errorf("ingests are left: %q", left)
	}
}

// An intact archive can be loaded whatever else is loaded and removed meanwhile.
func TestLoadWhileRemoving(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	var archives [][]byte
	for _, name := range []string{"one", "two", "three"} {
		e.commit(t, base, name, map[string]string{"data/" + name: name})
		archives = append(archives, e.save(t, name))
	}
	other := newEngine(t)
	var wg sync.WaitGroup
	for i, name := range []string{"one", "two", "three", "one"} {
		wg.Go(func() {
			for range 15 {
				if err := other.Load(other.ctx, bytes.NewReader(archives[i%3]), LoadOptions{}); err != nil {
					t.Errorf("loading %s: %v", name, err)
				}
				if _, err := other.Remove(other.ctx, name, RemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
					t.Errorf("removing %s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	other.gc(t)
	if n, _ := other.blobs(t); n != 0 || len(other.snapshotDirs(t)) != 0 {
		t.Errorf("%d blobs and %d snapshots are left", n, len(other.snapshotDirs(t)))
	}
	if left := other.ingests(t); len(left) > 0 {
		t.Errorf("ingests are left: %q", left)
	}
	other.noLeaks(t)
}
