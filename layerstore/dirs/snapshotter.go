package dirs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"

	"slipway/internal/failpoint"
	"slipway/internal/treecopy"
)

const (
	// Name is that of the snapshotter and of the differ among containerd's plugins.
	Name = "dirs"

	// LabelEmpty is a label that, on Prepare, makes the snapshot's directory empty although it has
	// a parent: for a caller that supplies the whole tree. Its prefix is the one
	// that containerd hands on to snapshotters.
	LabelEmpty = "containerd.io/snapshot/slipway.empty"
	// LabelAlias is a label that, on Prepare, makes a snapshot without a directory:
	// its files are the parent's, and not to be written to. It gives a committed
	// snapshot another name at no cost.
	LabelAlias = "containerd.io/snapshot/slipway.alias"

	snapshotsDir = "snapshots"
	treeDir      = "fs"
	newPrefix    = "new-"
	removePrefix = "rm-"
)

// Snapshotter is containerd's [snapshots.Snapshotter] and [snapshots.Cleaner] over
// directories. It is safe for concurrent use; one process may have one on a root.
type Snapshotter struct {
	root    string
	backend treecopy.Backend
	store   *storage.MetaStore
	placing sync.RWMutex
}

var _ interface {
	snapshots.Snapshotter
	snapshots.Cleaner
} = (*Snapshotter)(nil)

// New opens the snapshots in the directory root, which it makes if it is not there,
// and removes what a process that was killed has left. A nil backend means the best
// that works there.
func New(ctx context.Context, root string, backend treecopy.Backend) (*Snapshotter, error) {
	if err := os.MkdirAll(filepath.Join(root, snapshotsDir), 0o700); err != nil {
		return nil, fmt.Errorf("opening the snapshots: %w", err)
	}
	if backend == nil {
		backend = treecopy.Probe(root)
	}
	store, err := storage.NewMetaStore(filepath.Join(root, "metadata.db"))
	if err != nil {
		return nil, fmt.Errorf("opening the snapshots: %w", err)
	}
	s := &Snapshotter{root: root, backend: backend, store: store}
	if err := s.sweep(ctx, true); err != nil {
		return nil, errors.Join(fmt.Errorf("sweeping the snapshots: %w", err), store.Close())
	}
	return s, nil
}

// Method is the name of the back end, as docker info shows it.
func (s *Snapshotter) Method() string { return s.backend.Name() }

// Stat returns what is recorded of a snapshot.
func (s *Snapshotter) Stat(ctx context.Context, key string) (info snapshots.Info, err error) {
	err = s.store.WithTransaction(ctx, false, func(ctx context.Context) error {
		_, info, _, err = storage.GetInfo(ctx, key)
		return err
	})
	return info, err
}

// Update changes the labels of a snapshot.
func (s *Snapshotter) Update(ctx context.Context, info snapshots.Info, fieldpaths ...string) (updated snapshots.Info, err error) {
	err = s.store.WithTransaction(ctx, true, func(ctx context.Context) error {
		updated, err = storage.UpdateInfo(ctx, info, fieldpaths...)
		return err
	})
	return updated, err
}

// Usage returns what a snapshot takes on disk: its whole tree, which it shares with
// no other. That of a committed snapshot was counted when it was committed.
func (s *Snapshotter) Usage(ctx context.Context, key string) (usage snapshots.Usage, err error) {
	var id string
	var info snapshots.Info
	err = s.store.WithTransaction(ctx, false, func(ctx context.Context) error {
		id, info, usage, err = storage.GetInfo(ctx, key)
		return err
	})
	if err != nil || info.Kind != snapshots.KindActive {
		return usage, err
	}
	return Usage(ctx, s.tree(id))
}

// Prepare makes a writable snapshot with a copy of the parent's files. They reach
// the disk with [treecopy.Sync] or when the system likes to write them.
func (s *Snapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.create(ctx, snapshots.KindActive, key, parent, opts)
}

// View makes a snapshot through which the parent's files are seen. Nothing keeps
// anybody from writing to them.
func (s *Snapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.create(ctx, snapshots.KindView, key, parent, opts)
}

// Mounts returns the mount of an active snapshot or a view.
func (s *Snapshotter) Mounts(ctx context.Context, key string) (mounts []mount.Mount, err error) {
	err = s.store.WithTransaction(ctx, false, func(ctx context.Context) error {
		snapshot, err := storage.GetSnapshot(ctx, key)
		mounts = s.mounts(snapshot)
		return err
	})
	if err != nil {
		return nil, err
	}
	return mounts, nil
}

// Commit makes an active snapshot one that others can be made of.
func (s *Snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	var id string
	err := s.store.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		id, _, _, err = storage.GetInfo(ctx, key)
		return err
	})
	if err != nil {
		return err
	}
	usage, err := Usage(ctx, s.tree(id))
	if err != nil {
		return fmt.Errorf("counting snapshot %s: %w", key, err)
	}
	return s.store.WithTransaction(ctx, true, func(ctx context.Context) error {
		_, err := storage.CommitActive(ctx, key, name, usage, opts...)
		return err
	})
}

// Remove deletes a snapshot that has no children. If files in it are in use in a way
// that keeps them, it is a FailedPrecondition error and the snapshot stays whole.
func (s *Snapshotter) Remove(ctx context.Context, key string) error {
	removed, err := s.putAside(ctx, key)
	if err != nil {
		return fmt.Errorf("removing snapshot %s: %w", key, err)
	}
	failpoint.Hit("dirs.remove.recorded")
	// What is left now, because it is in use, is for Cleanup.
	return ignoreInUse(os.RemoveAll(removed))
}

// putAside removes the record of a snapshot and gives its directory a name by which
// it is known for removed. After an error both are as they were.
func (s *Snapshotter) putAside(ctx context.Context, key string) (removed string, err error) {
	s.placing.RLock()
	defer s.placing.RUnlock()
	var path string
	isAside := false
	err = s.store.WithTransaction(ctx, true, func(ctx context.Context) error {
		id, _, err := storage.Remove(ctx, key)
		if err != nil {
			return err
		}
		path = s.path(id)
		removed = filepath.Join(s.root, snapshotsDir, removePrefix+id)
		err = rename(ctx, path, removed)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a view has none
		}
		isAside = err == nil
		failpoint.Hit("dirs.remove.renamed")
		return err
	})
	if err != nil && isAside {
		err = errors.Join(err, rename(ctx, removed, path))
	}
	return removed, err
}

// Walk calls fn with what is recorded of each snapshot.
func (s *Snapshotter) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return s.store.WithTransaction(ctx, false, func(ctx context.Context) error {
		return storage.WalkInfo(ctx, fn, filters...)
	})
}

// Cleanup removes the directories of no snapshot: what removals had to leave.
func (s *Snapshotter) Cleanup(ctx context.Context) error { return s.sweep(ctx, false) }

// Close closes the records.
func (s *Snapshotter) Close() error { return s.store.Close() }

func (s *Snapshotter) path(id string) string { return filepath.Join(s.root, snapshotsDir, id) }
func (s *Snapshotter) exists(id string) bool {
	_, err := os.Lstat(s.path(id))
	return err == nil
}

func (s *Snapshotter) tree(id string) string { return filepath.Join(s.path(id), treeDir) }

// mounts returns the mount of the first directory that there is, of the snapshot and
// its parents: a view and an alias have none.
func (s *Snapshotter) mounts(snapshot storage.Snapshot) []mount.Mount {
	id, access := snapshot.ID, "rw"
	if snapshot.Kind == snapshots.KindView {
		access = "ro"
	}
	for _, parent := range snapshot.ParentIDs {
		if s.exists(id) {
			break
		}
		id = parent
	}
	return []mount.Mount{{Type: "bind", Source: s.tree(id), Options: []string{"rbind", access}}}
}
