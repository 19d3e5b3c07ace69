package image

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"

	"slipway/internal/failpoint"
	"slipway/layerstore"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layerFormat is the version of the bytes that writeLayer makes. It stands in
// the labels of layers made late: a digest that was recorded for another format
// is not used.
const layerFormat = "2"

// Materialise makes the image's portable manifest, the one that save and push
// hand out, and returns it. The layers made late are read once to learn their
// archives' digests; the archives themselves are not stored but written anew
// whenever they are sent. For an image that has no such layers the result is
// its own manifest or index.
func (m *Manager) Materialise(ctx context.Context, image *Image, progress Progress) (ocispec.Descriptor, error) {
	report := newReporter(progress)
	defer report.close()
	return m.materialise(ctx, image, report)
}

func (m *Manager) materialise(ctx context.Context, image *Image, report *reporter) (_ ocispec.Descriptor, err error) {
	late := image.lateLayers()
	if late == 0 {
		return image.Target, nil
	}
	ctx, done, err := m.lease(ctx, "materialise")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer done(&err)
	if err := m.keep(ctx, image.Target); err != nil {
		return ocispec.Descriptor{}, err
	}
	layers, err := m.portableLayers(ctx, image, report)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	spec := image.Spec
	spec.RootFS.DiffIDs = slices.Clone(spec.RootFS.DiffIDs)
	for i := len(layers) - late; i < len(layers); i++ {
		spec.RootFS.DiffIDs[i] = layers[i].Digest // uncompressed
	}
	return m.writePortable(ctx, image, &spec, layers)
}

// portableLayers returns the image's layers with the digests of the late ones'
// archives.
func (m *Manager) portableLayers(ctx context.Context, image *Image, report *reporter) ([]ocispec.Descriptor, error) {
	layers := slices.Clone(image.layers)
	for i := len(layers) - image.lateLayers(); i < len(layers); i++ {
		archived, err := m.describeLate(ctx, identity.ChainID(image.Spec.RootFS.DiffIDs[:i+1]).String(), report)
		if err != nil {
			return nil, err
		}
		layers[i] = archived
	}
	return layers, nil
}

// describeLate returns what the archive of the late layer on top of the chain
// will be, computing it if that was not done before.
func (m *Manager) describeLate(ctx context.Context, chain string, report *reporter) (ocispec.Descriptor, error) {
	unlock, err := m.locks.Lock(ctx, chainKey(chain))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer unlock()
	info, err := m.snapshots.Stat(ctx, chain)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("layer made late: %w", err)
	}
	archived := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}
	if info.Labels[labelLate] == layerFormat {
		size, serr := strconv.ParseInt(info.Labels[labelLayerSize], 10, 64)
		known, derr := digest.Parse(info.Labels[labelLayerDigest])
		if serr == nil && derr == nil {
			archived.Digest, archived.Size = known, size
			return archived, nil
		}
	}
	total, err := m.usage(ctx, chain)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	id := chain[len("sha256:") : len("sha256:")+12]
	hashed := &hashedWriter{hash: digest.Canonical.Hash()}
	hashed.advance = func(n int64) { report.bar(id, "Preparing", min(n, total), total) }
	if err := m.writeLate(ctx, hashed, chain); err != nil {
		return ocispec.Descriptor{}, err
	}
	archived.Digest, archived.Size = digest.NewDigest(digest.Canonical, hashed.hash), hashed.n
	report.layer(id, "Prepared")
	return archived, m.labelSnapshot(ctx, chain, map[string]string{
		labelLate:        layerFormat,
		labelLayerDigest: archived.Digest.String(),
		labelLayerSize:   strconv.FormatInt(archived.Size, 10),
	})
}

// writePortable stores the portable manifest and config, ties them and the
// image to each other, and gives the snapshot its portable name as well: an
// empty layer on top, so that the image, coming back from elsewhere, is
// unpacked already.
func (m *Manager) writePortable(ctx context.Context, image *Image, spec *Spec, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	chain := identity.ChainID(spec.RootFS.DiffIDs).String()
	config, err := m.writeJSON(ctx, ocispec.MediaTypeImageConfig, spec, m.configLabels(chain))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	failpoint.Hit("image.materialise.config")
	// After the config, which keeps an alias that is there already.
	if err := m.alias(ctx, chain, image.ChainID); err != nil {
		return ocispec.Descriptor{}, err
	}
	failpoint.Hit("image.materialise.aliased")
	// No reference to the archives made late: should one come into the store
	// with a load of this very image, it is not kept twice.
	labels := manifestLabels(config, layers[:len(layers)-image.lateLayers()])
	labels[labelLocal], labels[labelGCLocal] = image.ID.String(), image.ID.String()
	portable, err := m.writeJSON(ctx, ocispec.MediaTypeImageManifest, newManifest(config, layers), labels)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := syncFS(m.root); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("syncing the portable manifest: %w", err)
	}
	failpoint.Hit("image.materialise.written")
	err = m.label(ctx, image.ID, map[string]string{
		labelPortable: portable.Digest.String(), labelGCPortable: portable.Digest.String(),
	})
	failpoint.Hit("image.materialise.recorded")
	return portable, err
}

func (m *Manager) alias(ctx context.Context, name, chain string) error {
	if _, err := m.snapshots.Stat(ctx, name); err == nil || !errdefs.IsNotFound(err) {
		return err
	}
	key := "slipway-alias-" + rand.Text()
	mounts, err := m.snapshots.Prepare(ctx, key, chain, m.aliasOpts()...)
	if err != nil {
		return fmt.Errorf("preparing an alias of %s: %w", chain, err)
	}
	if err := layerstore.InheritRoot(mounts); err != nil {
		return fmt.Errorf("preparing an alias of %s: %w", chain, err)
	}
	if err := m.snapshots.Commit(ctx, name, key); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("committing an alias of %s: %w", chain, err)
	}
	return nil
}

// sendLayer writes the archive of one of the image's layers; want is what the
// portable manifest says of it.
func (m *Manager) sendLayer(ctx context.Context, w io.Writer, image *Image, i int, want ocispec.Descriptor) error {
	if !isLate(image.layers[i]) {
		return m.sendBlob(ctx, w, want)
	}
	hashed := &hashedWriter{hash: digest.Canonical.Hash(), to: w}
	if err := m.writeLate(ctx, hashed, identity.ChainID(image.Spec.RootFS.DiffIDs[:i+1]).String()); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.Canonical, hashed.hash); got != want.Digest || hashed.n != want.Size {
		return fmt.Errorf("the archive of layer %s came out as %s with %d bytes: %w", want.Digest, got, hashed.n, errdefs.ErrDataLoss)
	}
	return nil
}

// hashedWriter hashes and counts what is written, and passes it on.
type hashedWriter struct {
	hash    hash.Hash
	to      io.Writer         // may be nil
	advance func(total int64) // may be nil
	n       int64
}

func (w *hashedWriter) Write(p []byte) (int, error) {
	n := len(p)
	if w.to != nil {
		var err error
		if n, err = w.to.Write(p); err != nil {
			return n, err
		}
	}
	w.hash.Write(p[:n])
	w.n += int64(n)
	if w.advance != nil {
		w.advance(w.n)
	}
	return n, nil
}
