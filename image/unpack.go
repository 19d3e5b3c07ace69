package image

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"strings"

	"slipway/layerstore"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unpackObserver is told about layers that are being unpacked; its methods may
// be called with any layer of the image.
type unpackObserver interface {
	extracting(layer ocispec.Descriptor, done int64)
	unpacked(layer ocispec.Descriptor)
}

// EnsureUnpacked makes the image's chain of snapshots, if it is not there.
func (m *Manager) EnsureUnpacked(ctx context.Context, image *Image) (err error) {
	if image.ChainID == "" {
		return nil
	}
	if _, err := m.snapshots.Stat(ctx, image.ChainID); err == nil || !errdefs.IsNotFound(err) {
		return err
	}
	ctx, done, err := m.lease(ctx, "unpack")
	if err != nil {
		return err
	}
	defer done(&err)
	if err := m.keep(ctx, image.Target); err != nil {
		return err
	}
	return m.unpack(ctx, image.config, image.layers, image.Spec.RootFS.DiffIDs, nil)
}

// unpack makes the missing snapshots of a chain, under the caller's lease. What is
// there of it already is put under the lease too: until the topmost is made it may
// be another image's alone, which may be removed meanwhile.
func (m *Manager) unpack(ctx context.Context, config ocispec.Descriptor, layers []ocispec.Descriptor, diffIDs []digest.Digest, observer unpackObserver) error {
	if len(layers) != len(diffIDs) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("image has %d layers but its config names %d", len(layers), len(diffIDs)))
	}
	if len(layers) == 0 {
		return nil
	}
	if err := m.label(ctx, config.Digest, m.configLabels(identity.ChainID(diffIDs).String())); err != nil {
		return err
	}
	first := len(layers)
	for ; first > 0; first-- {
		there, err := m.keepSnapshot(ctx, identity.ChainID(diffIDs[:first]).String())
		if err != nil {
			return err
		}
		if there {
			break
		}
	}
	for i := range layers {
		if i >= first {
			if err := m.unpackLayer(ctx, layers[i], diffIDs[:i+1], observer); err != nil {
				return err
			}
		}
		if observer != nil {
			observer.unpacked(layers[i])
		}
	}
	return nil
}

// keepSnapshot tells whether a snapshot is there; if it is, the lease of ctx holds
// it from now on.
func (m *Manager) keepSnapshot(ctx context.Context, chain string) (bool, error) {
	id, ok := leases.FromContext(ctx)
	if !ok {
		return false, errors.New("image: no lease in context")
	}
	resource := leases.Resource{ID: chain, Type: "snapshots/" + m.snapshotter}
	if err := m.leases.AddResource(ctx, leases.Lease{ID: id}, resource); err != nil {
		return false, fmt.Errorf("leasing snapshot %s: %w", chain, err)
	}
	if _, err := m.snapshots.Stat(ctx, chain); err != nil {
		return false, ignoreNotFound(err)
	}
	return true, nil
}

// unpackLayer makes the snapshot of the last of the diff IDs on that of the
// others.
func (m *Manager) unpackLayer(ctx context.Context, layer ocispec.Descriptor, diffIDs []digest.Digest, observer unpackObserver) error {
	chain := identity.ChainID(diffIDs).String()
	unlock, err := m.locks.Lock(ctx, chainKey(chain))
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := m.keepSnapshot(ctx, chain); err != nil || there {
		return err
	}
	if isLate(layer) {
		return fmt.Errorf("the snapshot of layer %s is gone: %w", layer.Digest, errdefs.ErrDataLoss)
	}
	parent := identity.ChainID(diffIDs[:len(diffIDs)-1]).String()
	key := fmt.Sprintf(snapshots.UnpackKeyFormat, rand.Text(), chain)
	mounts, err := m.snapshots.Prepare(ctx, key, parent)
	if err != nil {
		return fmt.Errorf("preparing layer %s: %w", layer.Digest, err)
	}
	if err := m.applyLayer(ctx, layer, diffIDs, key, mounts, observer); err != nil {
		if rerr := m.snapshots.Remove(context.WithoutCancel(ctx), key); rerr != nil && !errdefs.IsNotFound(rerr) {
			m.log.LogAttrs(ctx, slog.LevelWarn, "removing a half unpacked layer", slog.String("key", key), slog.Any("error", rerr))
		}
		return err
	}
	return nil
}

func (m *Manager) applyLayer(ctx context.Context, layer ocispec.Descriptor, diffIDs []digest.Digest, key string,
	mounts []mount.Mount, observer unpackObserver,
) error {
	var opts []diff.ApplyOpt
	if observer != nil {
		opts = append(opts, diff.WithProgress(func(_ ocispec.Descriptor, done int64) { observer.extracting(layer, done) }))
	}
	var applied ocispec.Descriptor
	if err := m.room.during(ctx, func(ctx context.Context) (err error) {
		applied, err = m.client.DiffService().Apply(ctx, layer, mounts, opts...)
		return err
	}); err != nil {
		return applyError(layer, err)
	}
	if want := diffIDs[len(diffIDs)-1]; applied.Digest != want {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"layer %s does not hold what the image's config says: its content is %s, not %s", layer.Digest, applied.Digest, want))
	}
	if err := m.applyRoot(ctx, layer, mounts); err != nil {
		return fmt.Errorf("layer %s: %w", layer.Digest, err)
	}
	err := m.snapshots.Commit(ctx, identity.ChainID(diffIDs).String(), key)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("committing layer %s: %w", layer.Digest, err)
	}
	return nil
}

// applyRoot gives the snapshot's root directory the owner and mode that the layer
// begins with or, if it does not say, the parent's. The differ passes it over.
func (m *Manager) applyRoot(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount) error {
	if err := layerstore.InheritRoot(mounts); err != nil {
		return err
	}
	blob, err := m.content.ReaderAt(ctx, layer)
	if err != nil {
		return err
	}
	defer blob.Close()
	plain, err := decompress(content.NewReader(blob))
	if err != nil {
		return err
	}
	defer plain.Close()
	header, err := tar.NewReader(plain).Next()
	if errors.Is(err, io.EOF) {
		return nil // a layer without files
	}
	if err != nil {
		return err
	}
	if header.Typeflag != tar.TypeDir || path.Clean("/"+header.Name) != "/" {
		return nil
	}
	return applyRoot(mounts, header)
}

// applyError tells a damaged layer, which is the sender's fault, from a disk
// that is full and the like. The differ hands errors over as text.
func applyError(layer ocispec.Descriptor, err error) error {
	for _, sign := range []string{"archive/tar:", "unexpected EOF", "gzip:", "zstd:", "invalid input", "magic number mismatch"} {
		if strings.Contains(err.Error(), sign) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("failed to register layer %s: its content is damaged: %v", layer.Digest, err))
		}
	}
	return fmt.Errorf("failed to register layer %s: %w", layer.Digest, err)
}
