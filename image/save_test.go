package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
)

func (e *engine) save(t *testing.T, refs ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := e.Save(e.ctx, refs, &out, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (e *engine) loadArchive(t *testing.T, archive []byte) []string {
	t.Helper()
	var got messages
	if err := e.Load(e.ctx, bytes.NewReader(archive), LoadOptions{Progress: got.add}); err != nil {
		t.Fatal(err)
	}
	return got.lines()
}

// blobs counts what is in the content store.
func (e *engine) blobs(t *testing.T) (n int, size int64) {
	t.Helper()
	if err := e.content.Walk(e.ctx, func(info content.Info) error {
		n, size = n+1, size+info.Size
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n, size
}

func TestSaveAndLoadOfLateLayers(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	one := e.awkward(t, base, "db:one")
	two := e.commit(t, one, "db:two", map[string]string{"data/second": "2"})
	want := e.tree(t, two)
	_, before := e.blobs(t)

	archive := e.save(t, "db:two")
	_, after := e.blobs(t)
	if grown := after - before; grown > 10_000 {
		t.Errorf("saving put %d bytes into the content store: the layers were stored", grown)
	}
	if again := e.save(t, "db:two"); !bytes.Equal(archive, again) {
		t.Error("a second save gives another archive")
	}
	if got := e.id(t, "db:two"); got != two.ID {
		t.Errorf("saving changed the ID from %s to %s", two.ID, got)
	}
	inspected, err := e.Inspect(e.ctx, "db:two", InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(inspected.RepoDigests) != 1 || strings.Contains(inspected.RepoDigests[0], two.ID.Encoded()) {
		t.Errorf("repo digests %q should be of the portable manifest", inspected.RepoDigests)
	}
	if got := e.id(t, inspected.RepoDigests[0]); got != two.ID {
		t.Errorf("%s is %s, want %s", inspected.RepoDigests[0], got, two.ID)
	}
	e.gc(t)
	e.noLeaks(t)

	other := newEngine(t)
	if diff := other.loadArchive(t, archive); !slices.Contains(diff, "Loaded image: db:two") {
		t.Errorf("messages %q", diff)
	}
	other.gc(t)
	loaded, err := other.Get(other.ctx, "db:two")
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, want, other.tree(t, loaded))
	if got := loaded.Spec.Config.Cmd; !slices.Equal(got, []string{"true"}) {
		t.Errorf("command %q", got)
	}
	other.noLeaks(t)
	// What was loaded is saved again as it came.
	if got := other.save(t, "db:two"); !bytes.Equal(archive, got) {
		t.Error("the archive is another after a round trip")
	}
}

func TestContainerdImportsOurArchive(t *testing.T) {
	e := newEngine(t)
	e.awkward(t, e.base(t, "base"), "db:v1")
	archive := e.save(t, "db:v1")
	other := newEngine(t)
	ctx, done, err := other.lease(other.ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer done(&err)
	imported, err := other.client.Import(ctx, bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if len(imported) != 1 || imported[0].Name != "docker.io/library/db:v1" {
		t.Errorf("imported %+v", imported)
	}
	available, _, _, missing, err := images.Check(ctx, other.content, imported[0].Target, other.platform)
	if err != nil || !available || len(missing) > 0 {
		t.Errorf("available %v, missing %v, %v", available, missing, err)
	}
}

func TestSaveSelection(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "repo:a")
	if err := e.Tag(e.ctx, "repo:a", "repo:b"); err != nil {
		t.Fatal(err)
	}
	if err := e.Tag(e.ctx, "repo:a", "elsewhere.example/repo"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		refs []string
		want []string
	}{
		{[]string{"repo"}, []string{"repo:a", "repo:b"}},
		{[]string{"repo:b", "repo:b"}, []string{"repo:b"}},
		{[]string{"elsewhere.example/repo", "repo:a"}, []string{"elsewhere.example/repo:latest", "repo:a"}},
		{[]string{base.ID.String()}, nil},
		{[]string{base.ID.Encoded()[:12]}, nil},
	} {
		var manifests []dockerManifest
		if err := json.Unmarshal(fileOf(t, e.save(t, tc.refs...), "manifest.json"), &manifests); err != nil {
			t.Fatal(err)
		}
		if len(manifests) != 1 || !slices.Equal(manifests[0].RepoTags, tc.want) {
			t.Errorf("%q: %+v", tc.refs, manifests)
		}
	}
	var out bytes.Buffer
	err := e.Save(e.ctx, []string{"repo:a", "absent"}, &out, SaveOptions{})
	if !errdefs.IsNotFound(err) || out.Len() > 0 {
		t.Errorf("absent image: %v, %d bytes", err, out.Len())
	}
	broken := errors.New("gone")
	if err := e.Save(e.ctx, []string{"repo:a"}, failingWriter{broken}, SaveOptions{}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	e.noLeaks(t)
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func fileOf(t *testing.T, archive []byte, name string) []byte {
	t.Helper()
	in := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := in.Next()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if header.Name == name {
			data, err := io.ReadAll(in)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
}
