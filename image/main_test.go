package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/clonefs"
	"slipway/layerstore"
	"slipway/layerstore/dirs"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
)

// engine is a Manager over a containerd of its own.
type engine struct {
	*Manager
	ctx    context.Context //nolint:containedctx // of one test
	root   string
	stop   func()
	events *recorder
}

func newEngine(t *testing.T, change ...func(*Config)) *engine {
	t.Helper()
	if os.Geteuid() != 0 && layerstore.Snapshotter != dirs.Name {
		t.Skip("needs root for overlayfs")
	}
	return openEngine(t, t.TempDir(), change...)
}

func openEngine(tb testing.TB, dir string, change ...func(*Config)) *engine {
	tb.Helper()
	ctx := testContext(tb.Context())
	e := &engine{ctx: ctx, root: filepath.Join(dir, "root"), events: &recorder{}}
	cfg := Config{
		Snapshotter: layerstore.Snapshotter, Root: e.root, Events: e.events, Flatten: flattenByClone,
		Logger: slog.New(slog.NewTextHandler(tb.Output(), nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	differ := dirs.Name
	if cfg.Snapshotter != dirs.Name {
		differ = "walking"
	}
	cfg.Client, e.stop = startContainerd(tb, e.root, filepath.Join(dir, "state"), differ)
	var err error
	if e.Manager, err = New(cfg); err != nil {
		tb.Fatal(err)
	}
	if err := e.Restore(ctx); err != nil {
		tb.Fatal(err)
	}
	return e
}

func flattenByClone(ctx context.Context, layers []string, dst string) error {
	cp := clonefs.NewCopy([]clonefs.Tree{{Layers: layers, Dst: dst, KeepWhiteouts: true}}, clonefs.Options{})
	if err := cp.Prepare(ctx); err != nil {
		return err
	}
	_, err := cp.Finish(ctx)
	return err
}

// recorder keeps published events as "action name".
type recorder struct {
	mu  sync.Mutex
	all []string
}

func (r *recorder) Publish(_ events.Type, action events.Action, actorID string, attributes map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := attributes["name"]
	if name == "" {
		name = actorID
	}
	r.all = append(r.all, string(action)+" "+name)
}

func (r *recorder) has(t *testing.T, want string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.all, want) {
		t.Errorf("no event %q in %q", want, r.all)
	}
}

// messages collects progress.
type messages struct {
	mu  sync.Mutex
	all []jsonstream.Message
}

func (m *messages) add(message jsonstream.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, message)
}

// lines returns all statuses and streams, each once.
func (m *messages) lines() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, message := range m.all {
		line := strings.TrimSpace(message.Status + message.Stream)
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// entry is a file of a test archive.
type entry struct {
	name, content string
	typ           byte
	mode          int64
	link          string
}

func tarOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if e.typ == 0 {
			e.typ = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o755
		}
		header := &tar.Header{
			Name: e.name, Typeflag: e.typ, Size: int64(len(e.content)), Mode: e.mode, Linkname: e.link,
			ModTime: time.Unix(1_700_000_000, 0),
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// base imports a small image under the given name.
func (e *engine) base(t *testing.T, name string) *Image {
	t.Helper()
	image, err := e.Import(e.ctx, ImportRequest{
		Layer: bytes.NewReader(tarOf(t,
			entry{name: "etc/", typ: tar.TypeDir}, entry{name: "etc/passwd", content: "root:x:0:0\n"},
			entry{name: "data/", typ: tar.TypeDir}, entry{name: "data/old", content: name}, entry{name: "data/gone", content: "gone"},
			entry{name: "dir/", typ: tar.TypeDir}, entry{name: "dir/hidden", content: "hidden"},
		)),
		Source: "-", Ref: name, Changes: []string{"CMD [\"true\"]", "LABEL a=b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// commit makes an image with the given files, by name and content, on parent.
func (e *engine) commit(t *testing.T, parent *Image, ref string, files map[string]string) *Image {
	t.Helper()
	image, err := e.Commit(e.ctx, CommitRequest{
		Parent: parent, Config: parent.Spec.Config, Ref: ref, Comment: "test", CreatedBy: "sh",
		Fill: func(_ context.Context, upper string) error { return fillFiles(upper, files) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func fillFiles(upper string, files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(upper, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// noLeaks fails the test if the stores hold more or less than the images need.
func (e *engine) noLeaks(t *testing.T) {
	t.Helper()
	found, err := e.CheckLeaks(e.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range found {
		t.Error(line)
	}
}

func (e *engine) gc(t *testing.T) {
	t.Helper()
	if err := e.collectGarbage(e.ctx); err != nil {
		t.Fatal(err)
	}
}

func unguessable() string { return strings.ToLower(rand.Text()) }

func (e *engine) id(t *testing.T, ref string) digest.Digest {
	t.Helper()
	image, err := e.Get(e.ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	return image.ID
}

func (e *engine) awkward(t *testing.T, parent *Image, ref string) *Image {
	t.Helper()
	image, err := e.Commit(e.ctx, CommitRequest{Parent: parent, Config: parent.Spec.Config, Ref: ref, Fill: awkward})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// layerOf returns the archive of a layer for this system.
func layerOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	plain := tarOf(t, entries...)
	if !isWhole(layerstore.Snapshotter) {
		return plain
	}
	wrapped := dirs.Wrap(bytes.NewReader(plain))
	defer wrapped.Close()
	layer, err := io.ReadAll(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	return layer
}
