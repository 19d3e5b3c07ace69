package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxArchiveFiles bounds the names an archive may make us remember.
const maxArchiveFiles = 100_000

// archived is a file of an archive that went into the content store.
type archived struct {
	digest digest.Digest
	size   int64
}

// archive reads one image archive. What it stores is under the caller's lease
// alone.
type archive struct {
	m        *Manager
	files    map[string]archived
	links    map[string]string
	layout   *ocispec.ImageLayout
	index    *ocispec.Index
	manifest []dockerManifest
}

func (a *archive) read(ctx context.Context, r io.Reader) error {
	in := tar.NewReader(&ctxReader{ctx: ctx.Err, r: r})
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return a.complete()
		}
		if err != nil {
			return invalidArchive(err)
		}
		if len(a.files)+len(a.links) > maxArchiveFiles {
			return errdefs.ErrInvalidArgument.WithMessage("invalid archive: too many files")
		}
		if isSparse(header) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: %q is a sparse file, which no part of an image is", header.Name))
		}
		// Names are only keys here: nothing is written under them.
		name := path.Clean(strings.TrimPrefix(header.Name, "/"))
		switch header.Typeflag {
		case tar.TypeReg:
			if err := a.file(ctx, name, header.Size, in); err != nil {
				return err
			}
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), header.Linkname) //nolint:gosec // a key of a map
		case tar.TypeLink:
			a.links[name] = path.Clean(header.Linkname)
		}
	}
}

// isSparse tells whether the file is longer than its part of the archive, and
// without any bound.
func isSparse(header *tar.Header) bool {
	if header.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (a *archive) complete() error {
	if a.layout == nil && a.manifest == nil {
		return errdefs.ErrInvalidArgument.WithMessage("invalid archive: neither manifest.json nor an OCI layout is in it")
	}
	if a.layout != nil && a.index == nil && a.manifest == nil {
		return errdefs.ErrInvalidArgument.WithMessage("invalid archive: index.json is missing")
	}
	return nil
}

func (a *archive) file(ctx context.Context, name string, size int64, r io.Reader) error {
	switch name {
	case ocispec.ImageLayoutFile:
		return decodeSmall(name, r, &a.layout)
	case ocispec.ImageIndexFile:
		return decodeSmall(name, r, &a.index)
	case "manifest.json":
		return decodeSmall(name, r, &a.manifest)
	case "repositories":
		return nil // says the same as manifest.json
	}
	var want digest.Digest
	if rest, ok := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/"); ok {
		algorithm, encoded, _ := strings.Cut(rest, "/")
		want = digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
		if err := want.Validate(); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: %q is not the name of a blob", name))
		}
	}
	got, err := a.m.ingest(ctx, r, want, size)
	if err != nil {
		return err
	}
	a.files[name] = archived{digest: got, size: size}
	return nil
}

func decodeSmall(name string, r io.Reader, into any) error {
	data, err := io.ReadAll(io.LimitReader(r, maxBlob+1))
	if err != nil {
		return invalidArchive(err)
	}
	if len(data) > maxBlob {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: %s is too large", name))
	}
	if err := json.Unmarshal(data, into); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: %s: %v", name, err))
	}
	return nil
}

// ingest stores size bytes of r and returns their digest, which must be want
// unless that is empty.
func (m *Manager) ingest(ctx context.Context, r io.Reader, want digest.Digest, size int64) (_ digest.Digest, err error) {
	ref := "slipway-load-" + rand.Text()
	w, err := content.OpenWriter(ctx, m.content, content.WithRef(ref),
		content.WithDescriptor(ocispec.Descriptor{Digest: want, Size: size}))
	if errdefs.IsAlreadyExists(err) {
		return want, verify(r, want)
	}
	if err != nil {
		return "", fmt.Errorf("storing a blob: %w", err)
	}
	defer func() {
		cerr := w.Close()
		if err != nil {
			err = errors.Join(err, ignoreNotFound(m.content.Abort(context.WithoutCancel(ctx), ref)))
		} else {
			err = cerr
		}
	}()
	// Where stores are shared, a writer may begin with the bytes of a blob that is
	// about to go. The archive has all of them, and has to be read anyway.
	if err := w.Truncate(0); err != nil {
		return "", fmt.Errorf("storing a blob: %w", err)
	}
	n, err := m.store(ctx, w, r)
	if err != nil {
		return "", err
	}
	got := w.Digest()
	if want != "" && want.Algorithm() != got.Algorithm() {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: digest algorithm %s is not supported", want.Algorithm()))
	}
	if n != size || want != "" && got != want {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: the content of blob %s has digest %s", want, got))
	}
	if err := w.Commit(ctx, size, got); err != nil && !errdefs.IsAlreadyExists(err) {
		return "", fmt.Errorf("storing a blob: %w", err)
	}
	return got, nil
}

// verify reads r to its end, for a blob that is in the store already.
func verify(r io.Reader, want digest.Digest) error {
	verifier := want.Verifier()
	if _, err := io.Copy(verifier, r); err != nil {
		return invalidArchive(err)
	}
	if !verifier.Verified() {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: the content of blob %s has another digest", want))
	}
	return nil
}

// images lists what the archive holds. An OCI layout's index wins over the
// table of Docker's, which may lack platforms.
func (a *archive) images(ctx context.Context) ([]loaded, error) {
	if a.layout != nil && a.index != nil {
		return a.ociImages(ctx)
	}
	var found []loaded
	for _, entry := range a.manifest {
		image, err := a.dockerImage(ctx, entry)
		if err != nil {
			return nil, err
		}
		found = append(found, image)
	}
	return found, nil
}

func (a *archive) ociImages(ctx context.Context) ([]loaded, error) {
	if a.layout.Version != ocispec.ImageLayoutVersion {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: OCI layout version %q is not supported", a.layout.Version))
	}
	var found []loaded
	for _, desc := range a.index.Manifests {
		if err := a.checkTarget(ctx, desc); err != nil {
			return nil, err
		}
		at := slices.IndexFunc(found, func(l loaded) bool { return l.target.Digest == desc.Digest })
		if at < 0 {
			target := desc
			target.Annotations = nil
			found = append(found, loaded{target: target})
			at = len(found) - 1
		}
		name, err := annotatedName(desc.Annotations)
		if err != nil {
			return nil, err
		}
		if name != nil {
			found[at].names = append(found[at].names, name)
		}
	}
	return found, nil
}

// checkTarget refuses what is no image, or not there.
func (a *archive) checkTarget(ctx context.Context, desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return invalidArchive(err)
	}
	if !images.IsManifestType(desc.MediaType) && !images.IsIndexType(desc.MediaType) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: media type %q is not an image's", desc.MediaType))
	}
	if _, err := a.m.content.Info(ctx, desc.Digest); errdefs.IsNotFound(err) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: manifest %s is missing", desc.Digest))
	} else if err != nil {
		return err
	}
	return nil
}

// annotatedName is the name that an OCI index gives an image, or nil. A bare
// tag, as OCI tools write it, is none: it does not say of which repository.
func annotatedName(annotations map[string]string) (reference.NamedTagged, error) {
	name := annotations[images.AnnotationImageName]
	if name == "" {
		if name = annotations[ocispec.AnnotationRefName]; !strings.ContainsAny(name, ":/") {
			return nil, nil
		}
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: image name %q: %v", name, err))
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, nil
	}
	tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return nil, nil
	}
	return tagged, nil
}

// dockerImage makes the manifest that Docker's older archives do not hold.
func (a *archive) dockerImage(ctx context.Context, entry dockerManifest) (loaded, error) {
	config, err := a.find(entry.Config)
	if err != nil {
		return loaded{}, err
	}
	config.MediaType = images.MediaTypeDockerSchema2Config
	layers := make([]ocispec.Descriptor, 0, len(entry.Layers))
	for _, name := range entry.Layers {
		layer, err := a.find(name)
		if err != nil {
			return loaded{}, err
		}
		if layer.MediaType, err = a.m.layerType(ctx, layer); err != nil {
			return loaded{}, err
		}
		layers = append(layers, layer)
	}
	manifest := newManifest(config, layers)
	manifest.MediaType = images.MediaTypeDockerSchema2Manifest
	target, err := a.m.writeJSON(ctx, manifest.MediaType, manifest, nil)
	if err != nil {
		return loaded{}, err
	}
	image := loaded{target: target}
	for _, tag := range entry.RepoTags {
		name, err := parseTag(tag)
		if err != nil {
			return loaded{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: image name %q: %v", tag, err))
		}
		image.names = append(image.names, name)
	}
	return image, nil
}

// find returns the stored file, through links.
func (a *archive) find(name string) (ocispec.Descriptor, error) {
	at := path.Clean(name)
	for range 8 {
		if file, ok := a.files[at]; ok {
			return ocispec.Descriptor{Digest: file.digest, Size: file.size}, nil
		}
		next, ok := a.links[at]
		if !ok {
			break
		}
		at = next
	}
	return ocispec.Descriptor{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: %q is missing", name))
}

// layerType finds out how a layer is compressed.
func (m *Manager) layerType(ctx context.Context, layer ocispec.Descriptor) (string, error) {
	blob, err := m.content.ReaderAt(ctx, layer)
	if err != nil {
		return "", err
	}
	defer blob.Close()
	head := make([]byte, 8)
	n, err := blob.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch head = head[:n]; {
	case bytes.HasPrefix(head, gzipMagic):
		return images.MediaTypeDockerSchema2LayerGzip, nil
	case bytes.HasPrefix(head, zstdMagic):
		return images.MediaTypeDockerSchema2LayerZstd, nil
	default:
		return images.MediaTypeDockerSchema2Layer, nil
	}
}
