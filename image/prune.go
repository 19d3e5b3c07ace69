package image

import (
	"context"
	"log/slog"
	"slices"
	"strconv"

	"slipway/internal/filter"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	mobyimage "github.com/moby/moby/api/types/image"
)

// PruneOptions refine Prune.
type PruneOptions struct {
	// Filters: dangling (true if absent), label, label!, until.
	Filters Filters
	// InUse tells which containers use an image; nil means none.
	InUse InUseFunc
}

// Prune removes images that no container uses: those without a name or, with
// dangling=false, all. Images that somebody is using at the moment are skipped.
func (m *Manager) Prune(ctx context.Context, opts PruneOptions) (mobyimage.PruneReport, error) {
	report := mobyimage.PruneReport{}
	want, err := m.newSelection(ctx, opts.Filters, "dangling", "label", "label!", "until")
	if err != nil {
		return report, err
	}
	onlyDangling := want.dangling == nil || *want.dangling
	want.dangling = nil
	all, err := m.groups(ctx)
	if err != nil {
		return report, err
	}
	before, err := m.DiskUsage(ctx)
	if err != nil {
		return report, err
	}
	// Newest first, so that children go before their parents.
	for _, g := range slices.Backward(all) {
		image, err := m.load(ctx, g.identified, nil)
		if err != nil {
			continue // being removed
		}
		_, _, ok, err := want.match(g, image)
		if err != nil {
			return report, err
		}
		if !ok || !filter.Prunable(image.Spec.Config.Labels, opts.Filters) {
			continue
		}
		removed, err := m.pruneOne(ctx, g, onlyDangling, opts.InUse)
		if err != nil {
			m.log.LogAttrs(ctx, slog.LevelWarn, "pruning an image", slog.String("image", g.id.String()), slog.Any("error", err))
		}
		report.ImagesDeleted = append(report.ImagesDeleted, removed...)
	}
	after, err := m.DiskUsage(ctx)
	if err != nil {
		return report, err
	}
	report.SpaceReclaimed = uint64(max(0, before-after))
	m.publish(events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return report, nil
}

func (m *Manager) pruneOne(ctx context.Context, g *group, onlyDangling bool, inUse InUseFunc) ([]mobyimage.DeleteResponse, error) {
	unlock, ok := m.locks.TryLock(imageKey(g.id))
	if !ok {
		return nil, nil
	}
	defer unlock()
	all, err := m.groups(ctx)
	if err != nil {
		return nil, err
	}
	var now *group
	hasChild := false
	for _, other := range all {
		hasChild = hasChild || other.parent == g.id
		if other.id == g.id {
			now = other
		}
	}
	if now == nil || onlyDangling && (hasChild || len(now.tags()) > 0) || len(now.users(inUse)) > 0 {
		return nil, nil
	}
	return m.deleteImage(ctx, now)
}

// DiskUsage is the sum of all images' blobs and snapshots, each counted once, in
// bytes.
func (m *Manager) DiskUsage(ctx context.Context) (int64, error) {
	all, err := m.groups(ctx)
	if err != nil {
		return 0, err
	}
	var total int64
	seen := map[string]bool{}
	for _, g := range all {
		image, err := m.load(ctx, g.identified, nil)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		sizes, err := m.layerUsages(ctx, image)
		if err != nil {
			return 0, err
		}
		for n, chain := range image.chains() {
			if !seen[chain] {
				seen[chain] = true
				total += sizes[n]
			}
		}
		for _, layer := range image.layers {
			// The first chain of an archive that is not compressed has its digest, too.
			key := "blob " + layer.Digest.String()
			if info, err := m.content.Info(ctx, layer.Digest); err == nil && !seen[key] {
				seen[key] = true
				total += info.Size
			}
		}
	}
	return total, nil
}
