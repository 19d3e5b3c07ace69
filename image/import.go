package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"slipway/internal/failpoint"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ImportRequest says what Import makes an image of.
type ImportRequest struct {
	// Layer is a tar archive of a root file system, compressed or not.
	Layer io.Reader
	// Source is where it came from, for the history: "-" or a URL.
	Source string
	// Ref is the name the image gets, repository[:tag], or empty for none.
	Ref string
	// Message is the history's comment.
	Message string
	// Changes are Dockerfile instructions as ApplyChanges takes them.
	Changes []string
	// Platform is the host's if nil.
	Platform *ocispec.Platform
}

// Import makes an image with one layer.
func (m *Manager) Import(ctx context.Context, req ImportRequest) (_ *Image, err error) {
	var tag reference.NamedTagged
	if req.Ref != "" {
		if tag, err = parseTag(req.Ref); err != nil {
			return nil, err
		}
	}
	d := &draft{}
	if err := ApplyChanges(&d.spec.Config, req.Changes); err != nil {
		return nil, err
	}
	if err := m.room.check(ctx); err != nil {
		return nil, err
	}
	ctx, done, err := m.lease(ctx, "import")
	if err != nil {
		return nil, err
	}
	defer done(&err)
	layer, err := m.importLayer(ctx, req.Layer)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("image.import.ingested")
	if req.Message == "" {
		req.Message = "Imported from " + req.Source
	}
	now := time.Now().UTC()
	d.spec.Created, d.spec.Platform = &now, platforms.DefaultSpec()
	if req.Platform != nil {
		d.spec.Platform = platforms.Normalize(*req.Platform)
	}
	d.spec.RootFS.Type = "layers"
	d.spec.RootFS.DiffIDs = append(d.spec.RootFS.DiffIDs, layer.Digest)
	d.spec.History = []ocispec.History{{Created: &now, Comment: req.Message}}
	d.layers = []ocispec.Descriptor{layer}
	target, err := m.writeLocal(ctx, d)
	if err != nil {
		return nil, err
	}
	var manifest ocispec.Manifest
	if err := m.readJSON(ctx, target, &manifest); err != nil {
		return nil, err
	}
	if err := m.unpack(ctx, manifest.Config, d.layers, d.spec.RootFS.DiffIDs, nil); err != nil {
		return nil, err
	}
	image, err := m.recordCommit(ctx, target, tag)
	if err != nil {
		return nil, err
	}
	m.publish(events.ActionImport, image.ID.String(), map[string]string{"name": image.ID.String()})
	return image, nil
}

// importLayer stores the archive uncompressed: its digest is then the layer's
// diff ID too.
func (m *Manager) importLayer(ctx context.Context, r io.Reader) (_ ocispec.Descriptor, err error) {
	plain, err := decompress(r)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer plain.Close()
	layerArchive := m.importable(plain)
	defer layerArchive.Close()
	ref := "slipway-import-" + rand.Text()
	w, err := content.OpenWriter(ctx, m.content, content.WithRef(ref))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("storing the layer: %w", err)
	}
	defer func() {
		cerr := w.Close()
		if err != nil {
			err = errors.Join(err, ignoreNotFound(m.content.Abort(context.WithoutCancel(ctx), ref)))
		} else {
			err = cerr
		}
	}()
	size, err := m.store(ctx, w, &ctxReader{ctx: ctx.Err, r: layerArchive})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if size == 0 {
		return ocispec.Descriptor{}, errdefs.ErrInvalidArgument.WithMessage("invalid archive: it is empty")
	}
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: w.Digest(), Size: size}
	labels := content.WithLabels(map[string]string{labelUncompressed: layer.Digest.String()})
	if err := w.Commit(ctx, size, layer.Digest, labels); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, fmt.Errorf("storing the layer: %w", err)
	}
	return layer, nil
}
