package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"slipway/internal/failpoint"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LoadOptions refine Load.
type LoadOptions struct {
	// Platform fails the load if an image of the archive does not have it.
	Platform *ocispec.Platform
	// Quiet leaves out the progress of layers.
	Quiet bool
	// Progress is told what was loaded.
	Progress Progress
}

// Load takes in an archive that Save, docker save or an OCI tool has written,
// compressed or not. A damaged archive gives errdefs.ErrInvalidArgument, one for
// which there is no room what [Space] says, and nothing of either stays.
func (m *Manager) Load(ctx context.Context, r io.Reader, opts LoadOptions) (err error) {
	if err := m.room.check(ctx); err != nil {
		return err
	}
	ctx, done, err := m.lease(ctx, "load")
	if err != nil {
		return err
	}
	defer done(&err)
	report := newReporter(opts.Progress)
	defer report.close()
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	archive := &archive{m: m, files: map[string]archived{}, links: map[string]string{}}
	if err := archive.read(ctx, plain); err != nil {
		return err
	}
	failpoint.Hit("image.load.ingested")
	found, err := archive.images(ctx)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errdefs.ErrInvalidArgument.WithMessage("invalid archive: it holds no image")
	}
	for i := range found {
		if err := m.prepareLoaded(ctx, &found[i], opts, report); err != nil {
			return err
		}
	}
	failpoint.Hit("image.load.unpacked")
	if err := syncFS(m.root); err != nil {
		return fmt.Errorf("syncing the images: %w", err)
	}
	failpoint.Hit("image.load.synced")
	for _, image := range found {
		if err := m.recordLoaded(ctx, image, report); err != nil {
			return err
		}
	}
	failpoint.Hit("image.load.recorded")
	return nil
}

// loaded is an image that an archive held.
type loaded struct {
	target ocispec.Descriptor
	names  []reference.NamedTagged
}

// prepareLoaded checks the image, ties its blobs together and unpacks the
// manifest that this host would run.
func (m *Manager) prepareLoaded(ctx context.Context, image *loaded, opts LoadOptions, report *reporter) error {
	if err := m.tie(ctx, image.target); err != nil {
		return err
	}
	present, err := m.presentManifests(ctx, image.target, 0)
	if err != nil {
		return err
	}
	if len(present) == 0 {
		return errdefs.ErrInvalidArgument.WithMessage("invalid archive: no complete image manifest in it")
	}
	who, err := m.identify(ctx, image.target)
	if err != nil {
		return err
	}
	whole, err := m.load(ctx, who, opts.Platform)
	if errdefs.IsNotFound(err) && opts.Platform != nil {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with platform %s was not found in the archive", platforms.FormatAll(*opts.Platform)))
	}
	if err != nil {
		return invalidArchive(err)
	}
	if !m.platform.Match(platforms.Normalize(whole.Spec.Platform)) {
		return nil // kept, but of no use on this host until it is saved or pushed
	}
	var observer unpackObserver
	if !opts.Quiet {
		observer = loadObserver{report}
	}
	if err := m.unpack(ctx, whole.config, whole.layers, whole.Spec.RootFS.DiffIDs, observer); err != nil {
		return fmt.Errorf("unpacking the image: %w", err)
	}
	return nil
}

// loadObserver shows layers as docker load does.
type loadObserver struct{ report *reporter }

func (o loadObserver) extracting(layer ocispec.Descriptor, done int64) {
	o.report.bar(shortID(layer.Digest), "Loading layer", min(done, layer.Size), layer.Size)
}

func (o loadObserver) unpacked(ocispec.Descriptor) {}

// tie labels a manifest or index so that the garbage collector keeps what it
// refers to, and checks that this is all there. A manifest whose local twin is
// known refers to the twin instead of to layers that can be made again.
func (m *Manager) tie(ctx context.Context, target ocispec.Descriptor) error {
	if images.IsIndexType(target.MediaType) {
		var index ocispec.Index
		if err := m.readJSON(ctx, target, &index); err != nil {
			return invalidArchive(err)
		}
		labels := map[string]string{}
		for i, child := range index.Manifests {
			if _, err := m.content.Info(ctx, child.Digest); errdefs.IsNotFound(err) {
				continue // another platform's
			} else if err != nil {
				return err
			}
			labels[fmt.Sprintf("%s.m.%d", labelGCContent, i)] = child.Digest.String()
			if err := m.tie(ctx, child); err != nil {
				return err
			}
		}
		return m.label(ctx, target.Digest, labels)
	}
	var manifest ocispec.Manifest
	if err := m.readJSON(ctx, target, &manifest); err != nil {
		return invalidArchive(err)
	}
	who, err := m.identify(ctx, target)
	if err != nil {
		return err
	}
	layers := manifest.Layers
	if who.late {
		twin, err := m.load(ctx, who, nil)
		if err != nil {
			return err
		}
		layers = layers[:len(layers)-twin.lateLayers()]
	}
	for _, blob := range append([]ocispec.Descriptor{manifest.Config}, layers...) {
		info, err := m.content.Info(ctx, blob.Digest)
		if errdefs.IsNotFound(err) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: blob %s is missing", blob.Digest))
		}
		if err != nil {
			return err
		}
		if info.Size != blob.Size {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid archive: blob %s has %d bytes, expected %d", blob.Digest, info.Size, blob.Size))
		}
	}
	return m.label(ctx, target.Digest, manifestLabels(manifest.Config, layers))
}

func (m *Manager) recordLoaded(ctx context.Context, image loaded, report *reporter) error {
	if len(image.names) == 0 {
		who, err := m.identify(ctx, image.target)
		if err != nil {
			return err
		}
		if _, err := m.group(ctx, who.id); errdefs.IsNotFound(err) {
			if _, err := m.name(ctx, danglingName(who.id), image.target); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		report.stream("Loaded image ID: %s", who.id)
		m.publish(events.ActionLoad, who.id.String(), map[string]string{"name": who.id.String()})
		return nil
	}
	for _, name := range image.names {
		id, err := m.name(ctx, name.String(), image.target)
		if err != nil {
			return err
		}
		familiar := reference.FamiliarString(name)
		report.stream("Loaded image: %s", familiar)
		m.publish(events.ActionLoad, id.String(), map[string]string{"name": familiar})
	}
	return nil
}

func invalidArchive(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errdefs.ErrInvalidArgument.WithMessage("invalid archive: " + err.Error())
}
