package image

import (
	"context"
	"io"

	"slipway/internal/treecopy"
	"slipway/layerstore/dirs"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
)

// There are two ways in which snapshotters keep layers, and they differ in what the
// directory of one layer has: with overlayfs what the layer changes, whiteouts
// included; with the snapshotter of plain directories the whole tree that it and the
// layers below make. A layer made late is one or the other, too. The differences are
// in this file.

// isWhole reports whether the snapshotter of this name keeps whole trees.
func isWhole(snapshotter string) bool { return snapshotter == dirs.Name }

// upperDir returns the directory into which an active snapshot is written.
func (m *Manager) upperDir(mounts []mount.Mount) (string, error) {
	if m.whole {
		return dirs.Tree(mounts)
	}
	return upperDir(mounts)
}

// lowerDirs returns the layers of a view of a snapshot, topmost first; of whole trees
// the topmost is enough.
func (m *Manager) lowerDirs(mounts []mount.Mount) ([]string, error) {
	if m.whole {
		dir, err := dirs.Tree(mounts)
		return []string{dir}, err
	}
	return lowerDirs(mounts)
}

// lateOpts are the options with which the snapshot of a layer made late is prepared:
// who supplies a whole tree needs no copy of the layers below.
func (m *Manager) lateOpts() []snapshots.Opt {
	if !m.whole {
		return nil
	}
	return []snapshots.Opt{snapshots.WithLabels(map[string]string{dirs.LabelEmpty: "true"})}
}

// aliasOpts are the options with which another name for a snapshot is prepared.
func (m *Manager) aliasOpts() []snapshots.Opt {
	if !m.whole {
		return nil
	}
	return []snapshots.Opt{snapshots.WithLabels(map[string]string{dirs.LabelAlias: "true"})}
}

// syncLate makes the files of a layer made late last through a loss of power, where
// [syncFS] does not do it for all.
func (m *Manager) syncLate(ctx context.Context, dir string) error {
	if !m.whole {
		return nil
	}
	return treecopy.Sync(ctx, dir)
}

// writeLate writes the archive of the late layer on top of the chain.
func (m *Manager) writeLate(ctx context.Context, w io.Writer, chain string) error {
	own, err := m.layerDirs(ctx, chain)
	if err != nil {
		return err
	}
	if !m.whole {
		return writeLayer(ctx, w, own[0])
	}
	info, err := m.snapshots.Stat(ctx, chain)
	if err != nil {
		return err
	}
	var parent string
	if info.Parent != "" {
		below, err := m.layerDirs(ctx, info.Parent)
		if err != nil {
			return err
		}
		parent = below[0]
	}
	return dirs.WriteLayer(ctx, w, parent, own[0])
}

// importable returns an archive of a root file system as the snapshotter's layers
// have it.
func (m *Manager) importable(plain io.Reader) io.ReadCloser {
	if m.whole {
		return dirs.Wrap(plain)
	}
	return io.NopCloser(plain)
}

// layerSize returns what a layer's directory takes, in bytes.
func (m *Manager) layerSize(ctx context.Context, dir string) (int64, error) {
	if !m.whole {
		return diskUsage(ctx, dir)
	}
	// As the snapshotter counts.
	usage, err := dirs.Usage(ctx, dir)
	return usage.Size, err
}

// ownSizes makes of the sizes of trees, lowest layer first, those of what each layer
// adds.
func (m *Manager) ownSizes(sizes []int64) {
	if !m.whole {
		return
	}
	for i := len(sizes) - 1; i > 0; i-- {
		sizes[i] = max(sizes[i]-sizes[i-1], 0)
	}
}
