package image

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// platformArchive is an OCI archive of an image for the host and s390x, of which
// the latter's blobs can be left out.
func platformArchive(t *testing.T, withOther bool) (archive []byte, index digest.Digest) {
	t.Helper()
	var files []entry
	blob := func(mediaType string, data []byte, present bool) ocispec.Descriptor {
		d := digest.FromBytes(data)
		if present {
			files = append(files, entry{name: blobPath(d), content: string(data)})
		}
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	jsonBlob := func(mediaType string, value any, present bool) ocispec.Descriptor {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return blob(mediaType, data, present)
	}
	var manifests []ocispec.Descriptor
	for _, platform := range []ocispec.Platform{platforms.DefaultSpec(), {OS: "linux", Architecture: "s390x"}} {
		present := withOther || len(manifests) == 0
		layer := layerOf(t, entry{name: "arch", content: platform.Architecture})
		var spec Spec
		spec.Platform, spec.RootFS.Type = platform, "layers"
		spec.RootFS.DiffIDs = []digest.Digest{digest.FromBytes(layer)}
		config := jsonBlob(ocispec.MediaTypeImageConfig, spec, present)
		desc := jsonBlob(ocispec.MediaTypeImageManifest,
			newManifest(config, []ocispec.Descriptor{blob(ocispec.MediaTypeImageLayer, layer, present)}), present)
		desc.Platform = &platform
		manifests = append(manifests, desc)
	}
	root := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	root.SchemaVersion = 2
	target := jsonBlob(ocispec.MediaTypeImageIndex, root, true)
	named := target
	named.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/multi:v1", ocispec.AnnotationRefName: "v1"}
	table := ocispec.Index{Manifests: []ocispec.Descriptor{named}}
	table.SchemaVersion = 2
	data, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, entry{name: "index.json", content: string(data)}, entry{name: "oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`})
	return tarOf(t, files...), target.Digest
}

func TestSeveralPlatforms(t *testing.T) {
	other := &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	for _, whole := range []bool{true, false} {
		e := newEngine(t)
		archive, want := platformArchive(t, whole)
		e.loadArchive(t, archive)
		e.gc(t)
		image, err := e.Get(e.ctx, "multi:v1")
		if err != nil {
			t.Fatal(err)
		}
		if image.ID != want || image.Spec.Architecture != platforms.DefaultSpec().Architecture {
			t.Errorf("ID %s for %s, want %s", image.ID, image.Spec.Architecture, want)
		}
		if got := names(e.tree(t, image)); !slices.Equal(got, []string{"/arch"}) {
			t.Errorf("files %q", got)
		}
		_, err = e.GetPlatform(e.ctx, "multi:v1", other)
		if whole != (err == nil) || !whole && !errdefs.IsNotFound(err) {
			t.Errorf("the other platform: %v", err)
		}
		inspected, err := e.Inspect(e.ctx, "multi:v1", InspectOptions{Manifests: true})
		if err != nil || len(inspected.Manifests) != map[bool]int{true: 2, false: 1}[whole] {
			t.Errorf("%d manifests, %v", len(inspected.Manifests), err)
		}
		again := newEngine(t)
		again.loadArchive(t, e.save(t, "multi:v1"))
		if got := again.id(t, "multi:v1"); got != want {
			t.Errorf("ID %s after a round trip, want %s", got, want)
		}
		again.noLeaks(t)
		e.savePlatform(t, other, whole)
		e.pushIndex(t, want, whole)
		// A commit on one of several platforms is an image of that one.
		committed := e.commit(t, image, "one", map[string]string{"x": "y"})
		if committed.Spec.Architecture != image.Spec.Architecture || len(committed.layers) != 2 {
			t.Errorf("committed %+v", committed.Spec)
		}
		e.noLeaks(t)
	}
}

// pushIndex pushes the image; what comes back is the whole index, or the
// manifest of the one platform that was here.
func (e *engine) pushIndex(t *testing.T, index digest.Digest, whole bool) {
	t.Helper()
	ref := newRegistry(t, "") + "/multi:v1"
	if err := e.Tag(e.ctx, "multi:v1", ref); err != nil {
		t.Fatal(err)
	}
	if err := e.Push(e.ctx, ref, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Remove(e.ctx, ref, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	other := newEngine(t)
	other.pullLines(t, ref, nil)
	if got := other.id(t, ref); whole != (got == index) {
		t.Errorf("pulled %s, the index was %s", got, index)
	}
	other.noLeaks(t)
}

func (e *engine) savePlatform(t *testing.T, platform *ocispec.Platform, there bool) {
	t.Helper()
	var out bytes.Buffer
	err := e.Save(e.ctx, []string{"multi:v1"}, &out, SaveOptions{Platform: platform})
	if !there {
		if !errdefs.IsNotFound(err) {
			t.Errorf("got %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	other := newEngine(t)
	if err := other.Load(other.ctx, bytes.NewReader(out.Bytes()), LoadOptions{Platform: platform}); err != nil {
		t.Fatal(err)
	}
	image, err := other.Get(other.ctx, "multi:v1")
	if err != nil || image.Spec.Architecture != platform.Architecture {
		t.Errorf("%+v, %v", image, err)
	}
	host := platforms.DefaultSpec()
	if err := other.Load(other.ctx, bytes.NewReader(out.Bytes()), LoadOptions{Platform: &host}); !errdefs.IsNotFound(err) {
		t.Errorf("load of a platform that is not in the archive: %v", err)
	}
	other.noLeaks(t)
}
