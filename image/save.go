package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SaveOptions refine Save.
type SaveOptions struct {
	// Platform selects one of a multi-platform image; all that are here if nil.
	Platform *ocispec.Platform
	// Progress is told about layers whose archives are made now.
	Progress Progress
}

// Save writes the images as one archive that is both an OCI layout and what
// docker load reads. A reference without tag means all tags of the repository;
// an ID saves the image without a name. Nothing is written if an image does not
// exist. Layers made late are archived on the way out, without a copy on disk.
func (m *Manager) Save(ctx context.Context, refs []string, w io.Writer, opts SaveOptions) (err error) {
	if len(refs) == 0 {
		return errdefs.ErrInvalidArgument.WithMessage("no image to save")
	}
	ctx, done, err := m.lease(ctx, "save")
	if err != nil {
		return err
	}
	defer done(&err)
	report := newReporter(opts.Progress)
	defer report.close()
	plan := &savePlan{blobs: map[digest.Digest]savedBlob{}, platform: opts.Platform}
	for _, ref := range refs {
		if err := m.planSave(ctx, plan, ref, report); err != nil {
			return err
		}
	}
	if err := m.writeArchive(ctx, w, plan); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	for _, id := range plan.images {
		m.publish(events.ActionSave, id.String(), map[string]string{"name": id.String()})
	}
	return nil
}

// savePlan is what an archive will hold.
type savePlan struct {
	platform  *ocispec.Platform // nil for all
	images    []digest.Digest
	order     []digest.Digest
	blobs     map[digest.Digest]savedBlob
	manifests []dockerManifest
	index     []ocispec.Descriptor
}

// savedBlob is a blob of the archive: in the content store, or the late layer of
// an image.
type savedBlob struct {
	desc  ocispec.Descriptor
	image *Image
	layer int
}

// dockerManifest is an entry of manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (p *savePlan) add(blob savedBlob) {
	if _, ok := p.blobs[blob.desc.Digest]; !ok {
		p.blobs[blob.desc.Digest] = blob
		p.order = append(p.order, blob.desc.Digest)
	}
}

// planSave adds what a reference stands for.
func (m *Manager) planSave(ctx context.Context, plan *savePlan, ref string, report *reporter) error {
	named, parseErr := reference.ParseNormalizedNamed(ref)
	if parseErr == nil && reference.IsNameOnly(named) {
		tags, err := m.savedTags(ctx, named)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if err := m.planSave(ctx, plan, tag.String(), report); err != nil {
				return err
			}
		}
		if len(tags) > 0 {
			return nil
		}
	}
	image, who, err := m.find(ctx, ref, plan.platform)
	if err != nil {
		return err
	}
	var tags []reference.NamedTagged
	if tagged, ok := named.(reference.NamedTagged); ok && parseErr == nil && !who.byID {
		tags = append(tags, tagged)
	}
	return m.planImage(ctx, plan, image, tags, report)
}

// savedTags lists the tags of named's repository.
func (m *Manager) savedTags(ctx context.Context, named reference.Named) ([]reference.NamedTagged, error) {
	records, err := m.images.List(ctx)
	if err != nil {
		return nil, err
	}
	var tags []reference.NamedTagged
	for _, record := range records {
		parsed, err := reference.ParseNormalizedNamed(record.Name)
		if err != nil || parsed.Name() != named.Name() || isDangling(record) {
			continue
		}
		if tagged, ok := parsed.(reference.NamedTagged); ok {
			tags = append(tags, tagged)
		}
	}
	return tags, nil
}

func (m *Manager) planImage(ctx context.Context, plan *savePlan, image *Image, tags []reference.NamedTagged, report *reporter) error {
	if err := m.keep(ctx, image.Target); err != nil {
		return err
	}
	target, err := m.materialise(ctx, image, report)
	if err != nil {
		return err
	}
	if image.lateLayers() == 0 && plan.platform != nil {
		target = image.manifest
	}
	manifest := image.manifest
	if image.lateLayers() > 0 {
		manifest = target
	}
	if !slices.Contains(plan.images, image.ID) {
		plan.images = append(plan.images, image.ID)
	}
	if err := m.planBlobs(ctx, plan, target, image); err != nil {
		return err
	}
	return m.planNames(ctx, plan, target, manifest, tags)
}

// planBlobs adds target and what it refers to. Of an index only what is in the
// store is taken.
func (m *Manager) planBlobs(ctx context.Context, plan *savePlan, target ocispec.Descriptor, image *Image) error {
	if !images.IsIndexType(target.MediaType) {
		return m.planManifest(ctx, plan, target, image)
	}
	plan.add(savedBlob{desc: target})
	var index ocispec.Index
	if err := m.readJSON(ctx, target, &index); err != nil {
		return err
	}
	for _, child := range index.Manifests {
		if _, err := m.content.Info(ctx, child.Digest); errdefs.IsNotFound(err) {
			continue
		} else if err != nil {
			return err
		}
		if err := m.planBlobs(ctx, plan, child, image); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// planManifest adds a manifest with all its blobs, or nothing.
func (m *Manager) planManifest(ctx context.Context, plan *savePlan, target ocispec.Descriptor, image *Image) error {
	var manifest ocispec.Manifest
	if err := m.readJSON(ctx, target, &manifest); err != nil {
		return err
	}
	late := image.lateLayers() > 0
	blobs := []savedBlob{{desc: target}, {desc: manifest.Config}}
	for i, layer := range manifest.Layers {
		blob := savedBlob{desc: layer}
		if late && isLate(image.layers[i]) {
			blob.image, blob.layer = image, i
		}
		blobs = append(blobs, blob)
	}
	for _, blob := range blobs {
		if blob.image != nil {
			continue
		}
		if _, err := m.content.Info(ctx, blob.desc.Digest); err != nil {
			return fmt.Errorf("blob %s of the image: %w", blob.desc.Digest, err)
		}
	}
	for _, blob := range blobs {
		plan.add(blob)
	}
	return nil
}

// planNames adds the image to the archive's two tables of contents.
func (m *Manager) planNames(ctx context.Context, plan *savePlan, target, chosen ocispec.Descriptor, tags []reference.NamedTagged) error {
	var manifest ocispec.Manifest
	if err := m.readJSON(ctx, chosen, &manifest); err != nil {
		return err
	}
	config := blobPath(manifest.Config.Digest)
	at := slices.IndexFunc(plan.manifests, func(d dockerManifest) bool { return d.Config == config })
	if at < 0 {
		entry := dockerManifest{Config: config, Layers: []string{}}
		for _, layer := range manifest.Layers {
			entry.Layers = append(entry.Layers, blobPath(layer.Digest))
		}
		plan.manifests = append(plan.manifests, entry)
		at = len(plan.manifests) - 1
	}
	target.Annotations, target.Platform = nil, nil
	if len(tags) == 0 && !slices.ContainsFunc(plan.index, func(d ocispec.Descriptor) bool { return d.Digest == target.Digest }) {
		plan.index = append(plan.index, target)
	}
	for _, tag := range tags {
		familiar := reference.FamiliarString(tag)
		if slices.Contains(plan.manifests[at].RepoTags, familiar) {
			continue
		}
		plan.manifests[at].RepoTags = append(plan.manifests[at].RepoTags, familiar)
		named := target
		named.Annotations = map[string]string{images.AnnotationImageName: tag.String(), ocispec.AnnotationRefName: tag.Tag()}
		plan.index = append(plan.index, named)
	}
	return nil
}

func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// writeArchive writes the tables of contents first, so that a reader knows what
// it is getting.
func (m *Manager) writeArchive(ctx context.Context, w io.Writer, plan *savePlan) error {
	out := tar.NewWriter(w)
	for _, file := range []struct {
		name  string
		value any
	}{
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{ocispec.ImageIndexFile, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: plan.index}},
		{"manifest.json", plan.manifests},
	} {
		data, err := json.Marshal(file.value)
		if err != nil {
			return err
		}
		if err := writeFile(out, file.name, int64(len(data)), func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(data))
			return err
		}); err != nil {
			return err
		}
	}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	for _, d := range plan.order {
		blob := plan.blobs[d]
		if err := writeFile(out, blobPath(d), blob.desc.Size, func(w io.Writer) error {
			if blob.image != nil {
				return m.sendLayer(ctx, w, blob.image, blob.layer, blob.desc)
			}
			return m.sendBlob(ctx, w, blob.desc)
		}); err != nil {
			return err
		}
	}
	return out.Close()
}

func writeFile(out *tar.Writer, name string, size int64, write func(io.Writer) error) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	return write(out)
}

// sendBlob writes a blob of the content store.
func (m *Manager) sendBlob(ctx context.Context, w io.Writer, desc ocispec.Descriptor) (err error) {
	blob, err := m.content.ReaderAt(ctx, desc)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := blob.Close(); err == nil {
			err = cerr
		}
	}()
	if blob.Size() != desc.Size {
		return fmt.Errorf("blob %s has %d bytes, its descriptor says %d: %w", desc.Digest, blob.Size(), desc.Size, errdefs.ErrDataLoss)
	}
	_, err = io.CopyBuffer(onlyWriter{w}, onlyReader{&ctxReader{ctx: ctx.Err, r: content.NewReader(blob)}}, make([]byte, 1<<20))
	return err
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx func() error
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// onlyReader and onlyWriter hide other methods, so that the copy takes our
// buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
