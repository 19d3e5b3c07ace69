package daemon

import (
	"context"
	"strings"
	"time"

	"slipway/clonefs"
	"slipway/layerstore"
	"slipway/volume"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// flatten merges layers made late for [image.Manager].
func flatten(ctx context.Context, layers []string, dst string) error {
	merge := clonefs.NewCopy([]clonefs.Tree{{Layers: layers, KeepWhiteouts: true, Dst: dst}}, clonefs.Options{})
	if _, err := merge.Finish(ctx); err != nil {
		return err
	}
	return merge.Sync(ctx)
}

// cloner copies trees for [volume.Manager].
type cloner struct{}

func (cloner) Clone(ctx context.Context, src, dst string) (reflinked bool, err error) {
	stats, err := clonefs.Clone(ctx, src, dst)
	return stats.Finish.BytesCopied == 0 && stats.Prepare.BytesCopied == 0, err
}

func (cloner) Merge(ctx context.Context, layers []string, dst string) (reflinked bool, err error) {
	stats, err := clonefs.Merge(ctx, layers, dst)
	return stats.Finish.BytesCopied == 0 && stats.Prepare.BytesCopied == 0, err
}

// volumeLayers gives volumes their snapshots, which only their removal ends.
type volumeLayers struct{ client *containerd.Client }

func (l volumeLayers) snapshotter() snapshots.Snapshotter {
	return l.client.SnapshotService(layerstore.Snapshotter)
}

func (l volumeLayers) Prepare(ctx context.Context, key, chain string, labels map[string]string) ([]mount.Mount, error) {
	mounts, err := l.snapshotter().Prepare(ctx, key, chain, snapshots.WithLabels(labels), snapshots.WithLabels(map[string]string{
		"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339),
	}))
	if err != nil {
		return nil, err
	}
	return mounts, layerstore.SyncSnapshot(mounts)
}

func (l volumeLayers) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return l.snapshotter().Mounts(ctx, key)
}

func (l volumeLayers) Stat(ctx context.Context, key string) (volume.Snapshot, error) {
	info, err := l.snapshotter().Stat(ctx, key)
	return volume.Snapshot{Created: info.Created, Chain: info.Parent, Labels: info.Labels}, err
}

func (l volumeLayers) Remove(ctx context.Context, key string) error {
	if err := l.snapshotter().Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

func (l volumeLayers) List(ctx context.Context, prefix string) (keys []string, err error) {
	err = l.snapshotter().Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if strings.HasPrefix(info.Name, prefix) {
			keys = append(keys, info.Name)
		}
		return nil
	})
	return keys, err
}
