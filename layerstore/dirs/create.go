package dirs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/errdefs"

	"slipway/internal/failpoint"
	"slipway/internal/treecopy"
)

func (s *Snapshotter) create(ctx context.Context, kind snapshots.Kind, key, parent string, opts []snapshots.Opt) (_ []mount.Mount, err error) {
	from, tree, err := s.source(ctx, key, parent)
	if err != nil {
		return nil, err
	}
	var made string
	if parent == "" || kind == snapshots.KindActive && !has(opts, LabelAlias) {
		of := tree
		if has(opts, LabelEmpty) {
			of = ""
		}
		if made, err = s.makeTree(ctx, of); err != nil {
			return nil, err
		}
	}
	snapshot, err := s.record(ctx, kind, key, parent, made, from, opts)
	if err != nil && made != "" {
		err = errors.Join(err, os.RemoveAll(made))
	}
	if err != nil {
		return nil, err
	}
	failpoint.Hit("dirs.prepare.recorded")
	return s.mounts(snapshot), nil
}

// source returns the id of the parent and of the snapshot that has its directory, ""
// for none. A key that is taken already is an error now and not after the work.
func (s *Snapshotter) source(ctx context.Context, key, parent string) (id, tree string, err error) {
	err = s.store.WithTransaction(ctx, false, func(ctx context.Context) error {
		if _, _, _, err := storage.GetInfo(ctx, key); err == nil {
			return fmt.Errorf("snapshot %s: %w", key, errdefs.ErrAlreadyExists)
		}
		if parent == "" {
			return nil
		}
		var info snapshots.Info
		id, info, _, err = storage.GetInfo(ctx, parent)
		if err == nil && info.Kind != snapshots.KindCommitted {
			return fmt.Errorf("parent %s is not a committed snapshot: %w", parent, errdefs.ErrInvalidArgument)
		}
		for tree = id; err == nil && !s.exists(tree) && info.Parent != ""; { // an alias
			tree, info, _, err = storage.GetInfo(ctx, info.Parent)
		}
		return err
	})
	return id, tree, err
}

// has reports whether the options give a label.
func has(opts []snapshots.Opt, label string) bool {
	var info snapshots.Info
	for _, opt := range opts {
		if opt(&info) != nil {
			return false // is reported when the record is made
		}
	}
	return info.Labels[label] != ""
}

// makeTree makes a directory with a copy of the snapshot from, or with nothing, and
// returns it. After an error there is none.
func (s *Snapshotter) makeTree(ctx context.Context, from string) (_ string, err error) {
	made, err := os.MkdirTemp(filepath.Join(s.root, snapshotsDir), newPrefix)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(made))
		}
	}()
	failpoint.Hit("dirs.prepare.begun")
	tree := filepath.Join(made, treeDir)
	if from == "" {
		//nolint:gosec // the root of a container's files, which all of its users enter
		if err := errors.Join(os.Mkdir(tree, 0o755), os.Chmod(tree, 0o755)); err != nil {
			return "", err
		}
		return made, nil
	}
	if _, err := treecopy.Copy(ctx, s.backend, tree, s.tree(from)); err != nil {
		return "", fmt.Errorf("copying a snapshot: %w", err)
	}
	failpoint.Hit("dirs.prepare.copied")
	return made, nil
}

// record makes the record of a snapshot and gives made, if there is one, its name.
// After an error made is where it was.
func (s *Snapshotter) record(ctx context.Context, kind snapshots.Kind, key, parent, made, from string, opts []snapshots.Opt) (snapshot storage.Snapshot, err error) {
	s.placing.RLock()
	defer s.placing.RUnlock()
	var path string
	err = s.store.WithTransaction(ctx, true, func(ctx context.Context) error {
		snapshot, err = storage.CreateSnapshot(ctx, kind, key, parent, opts...)
		if err != nil {
			return err
		}
		if parent != "" && snapshot.ParentIDs[0] != from {
			return fmt.Errorf("parent %s was replaced while it was copied: %w", parent, errdefs.ErrUnavailable)
		}
		if made == "" {
			return nil
		}
		if err := rename(ctx, made, s.path(snapshot.ID)); err != nil {
			return err
		}
		path = s.path(snapshot.ID)
		failpoint.Hit("dirs.prepare.placed")
		return nil
	})
	if err != nil && path != "" {
		err = errors.Join(err, rename(ctx, path, made))
	}
	return snapshot, err
}

// sweep removes the directories without a record; those that are being made too, if
// nothing is under way.
func (s *Snapshotter) sweep(ctx context.Context, idle bool) error {
	s.placing.Lock()
	defer s.placing.Unlock()
	var known map[string]string
	err := s.store.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		known, err = storage.IDMap(ctx)
		return err
	})
	if err != nil && !errdefs.IsNotFound(err) { // NotFound: nothing was recorded ever
		return err
	}
	entries, err := os.ReadDir(filepath.Join(s.root, snapshotsDir))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if _, ok := known[name]; ok || !idle && strings.HasPrefix(name, newPrefix) {
			continue
		}
		if id := strings.TrimPrefix(name, removePrefix); id != name && idle && known[id] != "" {
			// A removal that was cut before its record was gone.
			if err := rename(ctx, s.path(name), s.path(id)); err != nil {
				return err
			}
			continue
		}
		if err := ignoreInUse(os.RemoveAll(s.path(name))); err != nil {
			return err
		}
	}
	return nil
}

// Usage adds up the sizes of the files below dir.
func Usage(ctx context.Context, dir string) (usage snapshots.Usage, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed while we look
		}
		if err != nil {
			return err
		}
		usage.Inodes++
		if info.Mode().IsRegular() {
			usage.Size += info.Size()
		}
		return nil
	})
	return usage, err
}
