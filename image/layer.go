package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/identity"
)

// layerDirs returns the directories of a chain's layers, topmost first.
func (m *Manager) layerDirs(ctx context.Context, chain string) (_ []string, err error) {
	key := "slipway-view-" + rand.Text()
	mounts, err := m.snapshots.View(ctx, key, chain)
	if err != nil {
		return nil, fmt.Errorf("viewing snapshot %s: %w", chain, err)
	}
	defer func() {
		// The directories belong to the chain, not to the view.
		if rerr := m.snapshots.Remove(context.WithoutCancel(ctx), key); rerr != nil && !errdefs.IsNotFound(rerr) {
			m.log.LogAttrs(ctx, slog.LevelWarn, "removing a view of a snapshot", slog.String("key", key), slog.Any("error", rerr))
		}
	}()
	return m.lowerDirs(mounts)
}

// usage returns what the snapshot's own layer takes on disk, in bytes, or 0 if
// it is not unpacked.
func (m *Manager) usage(ctx context.Context, chain string) (int64, error) {
	info, err := m.snapshots.Stat(ctx, chain)
	if errdefs.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if info.Labels[labelLate] == "" {
		usage, err := m.snapshots.Usage(ctx, chain)
		return usage.Size, ignoreNotFound(err)
	}
	if size, err := strconv.ParseInt(info.Labels[labelLayerUsage], 10, 64); err == nil {
		return size, nil
	}
	dirs, err := m.layerDirs(ctx, chain)
	if err != nil {
		return 0, ignoreNotFound(err)
	}
	size, err := m.layerSize(ctx, dirs[0])
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // removed meanwhile
	}
	if err != nil {
		return 0, fmt.Errorf("counting layer %s: %w", chain, err)
	}
	err = m.labelSnapshot(ctx, chain, map[string]string{labelLayerUsage: strconv.FormatInt(size, 10)})
	return size, ignoreNotFound(err)
}

func (m *Manager) labelSnapshot(ctx context.Context, name string, labels map[string]string) error {
	fields := make([]string, 0, len(labels))
	for key := range labels {
		fields = append(fields, "labels."+key)
	}
	if _, err := m.snapshots.Update(ctx, snapshots.Info{Name: name, Labels: labels}, fields...); err != nil {
		return fmt.Errorf("labelling snapshot %s: %w", name, err)
	}
	return nil
}

// layerUsages returns what each layer of the image takes on disk.
func (m *Manager) layerUsages(ctx context.Context, image *Image) ([]int64, error) {
	sizes := make([]int64, len(image.layers))
	for i, layer := range image.layers {
		if size, err := strconv.ParseInt(layer.Annotations[annotationUsage], 10, 64); err == nil && isLate(layer) {
			sizes[i] = size
			continue
		}
		var err error
		if sizes[i], err = m.usage(ctx, identity.ChainID(image.Spec.RootFS.DiffIDs[:i+1]).String()); err != nil {
			return nil, err
		}
	}
	m.ownSizes(sizes)
	return sizes, nil
}
