package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	continuity "github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"

	"slipway/internal/failpoint"
)

const viewPrefix = "view-"

// populate fills the volume r, whose lock is held. inUse says that a running
// container sees it.
func (m *Manager) populate(ctx context.Context, r record, inUse bool, source Source) (err error) {
	if isMount(r.Options) {
		if err := m.mountOptions(r); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.unmountIdle(r)) }()
	}
	if r, err = m.settleCopy(ctx, r); err != nil {
		return err
	}
	entries, err := os.ReadDir(m.data(r.Name))
	if err != nil || len(entries) > 0 {
		return err
	}
	if source.Data && r.Anonymous && m.cfg.Layers != nil && !inUse && !isMount(r.Options) {
		return m.fillOverlay(ctx, r, source)
	}
	view, err := m.openView(source.Mounts)
	if err != nil {
		return fmt.Errorf("opening the image: %w", err)
	}
	defer func() { err = errors.Join(err, view.close()) }()
	dir, err := view.find(source.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !dir.isDir {
		if r.Anonymous {
			return invalid("cannot mount volume over existing file, file exists %s", source.Path)
		}
		return nil
	}
	if inUse || isMount(r.Options) {
		return m.fillInside(ctx, r, dir, source)
	}
	return m.fillCopy(ctx, r, view, dir, source)
}

// fillCopy copies the directory, by reflink where that is possible, beside the
// volume's data and puts it in place when it is complete.
func (m *Manager) fillCopy(ctx context.Context, r record, view *view, dir found, source Source) error {
	filling := filepath.Join(m.dir(r.Name), fillDir)
	if err := os.RemoveAll(filling); err != nil {
		return err
	}
	reflinked, err := m.copyTree(ctx, view, dir, filling)
	if err == nil {
		failpoint.Hit("volume.populate.copied")
		err = syncTree(filling, reflinked)
	}
	if err == nil && source.Data {
		failpoint.Hit("volume.populate.synced")
		// Else, after a crash, the copy would be taken for a database that has had
		// its first start, and would not be made harmless.
		r, err = m.recordCopy(r, source.filled(copyMethod(reflinked), dir.sub))
	}
	if err == nil {
		failpoint.Hit("volume.populate.pending")
		err = m.putInPlace(r.Name, filling)
	}
	if err != nil {
		_, settleErr := m.settleCopy(ctx, r)
		return errors.Join(fmt.Errorf("copying %s: %w", source.Path, err), settleErr, os.RemoveAll(filling))
	}
	failpoint.Hit("volume.populate.renamed")
	if _, err := m.copied(r, r.Filled); err != nil {
		return err
	}
	failpoint.Hit("volume.populate.settled")
	return nil
}

func copyMethod(reflinked bool) string {
	if reflinked {
		return MethodReflink
	}
	return MethodCopy
}

func (m *Manager) copyTree(ctx context.Context, view *view, dir found, filling string) (reflinked bool, err error) {
	if m.cfg.Cloner == nil {
		return false, copyInto(filling, dir.path)
	}
	layers, err := view.layersAt(dir.sub)
	if errors.Is(err, errNotLayers) {
		return m.cfg.Cloner.Clone(ctx, dir.path, filling)
	}
	if err != nil {
		return false, err
	}
	return m.cfg.Cloner.Merge(ctx, layers, filling)
}

// putInPlace makes the complete copy the volume's data.
func (m *Manager) putInPlace(name, filling string) error {
	if err := unix.Rename(filling, m.data(name)); err != nil { // replaces the empty directory
		return &os.LinkError{Op: "rename", Old: filling, New: m.data(name), Err: err}
	}
	return syncDir(m.dir(name))
}

// syncTree makes a copied tree durable. What was reflinked on XFS has its bytes
// on disk already, and one directory's sync writes out the whole log: that does
// not wait for what other databases have in memory.
func syncTree(dir string, reflinked bool) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &stat); err != nil {
		return &fs.PathError{Op: "fstatfs", Path: dir, Err: err}
	}
	if reflinked && stat.Type == unix.XFS_SUPER_MAGIC {
		return f.Sync()
	}
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// copyInto copies a directory's attributes and content.
func copyInto(dst, src string) error {
	return continuity.CopyDir(dst, src, continuity.WithXAttrErrorHandler(func(_, _, _ string, err error) error {
		if errors.Is(err, unix.ENOTSUP) {
			return nil // the volume's file system has no such attribute
		}
		return err
	}))
}

// view is an image's layers, and a place where they are seen as one tree.
type view struct {
	root    string
	layers  []string // nil: unknown
	mounted string   // to be unmounted and removed
}

// found is a file of an image.
type found struct {
	path  string // on the host
	sub   string // in the image, without symbolic links
	isDir bool
}

// openView makes the image's tree readable. One layer is a tree by itself.
func (m *Manager) openView(mounts []mount.Mount) (*view, error) {
	layers, err := layersOf(mounts)
	if err != nil && !errors.Is(err, errNotLayers) {
		return nil, err
	}
	if len(layers) == 1 {
		root, err := filepath.EvalSymlinks(layers[0])
		return &view{root: root, layers: layers}, err
	}
	at, err := os.MkdirTemp(m.cfg.RunDir, viewPrefix)
	if err != nil {
		return nil, err
	}
	if layers != nil {
		mounts = []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"ro", "lowerdir=" + strings.Join(layers, ":")}}}
	} else {
		mounts = readonly(mounts)
	}
	if err := mount.All(mounts, at); err != nil {
		return nil, errors.Join(err, os.Remove(at))
	}
	v := &view{root: at, layers: layers, mounted: at}
	if v.root, err = filepath.EvalSymlinks(at); err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

func readonly(mounts []mount.Mount) []mount.Mount {
	ro := make([]mount.Mount, len(mounts))
	for i, m := range mounts {
		m.Options = append([]string{"ro"}, m.Options...)
		ro[i] = m
	}
	return ro
}

func (v *view) close() error {
	if v.mounted == "" {
		return nil
	}
	return dropMountpoint(v.mounted)
}

func dropMountpoint(dir string) error {
	if err := unmount(dir); err != nil {
		return err
	}
	return os.Remove(dir)
}

// find resolves a path of the image beneath its root.
func (v *view) find(path string) (found, error) {
	f, err := openIn(v.root, path)
	if err != nil {
		return found{}, err
	}
	defer f.Close()
	dir, err := isDir(f)
	if err != nil {
		return found{}, err
	}
	sub, err := realPath(f, v.root)
	if err != nil {
		return found{}, err
	}
	return found{path: filepath.Join(v.root, sub), sub: sub, isDir: dir}, nil
}

// layersAt returns the directories of the layers that the directory sub is
// merged from, top first. It is errNotLayers if only the kernel can tell.
func (v *view) layersAt(sub string) ([]string, error) {
	if v.layers == nil {
		return nil, errNotLayers
	}
	var dirs []string
	for _, layer := range v.layers {
		dir, hidesLower, err := descend(layer, sub)
		if err != nil {
			return nil, err
		}
		if dir != "" {
			dirs = append(dirs, dir)
		}
		if hidesLower {
			break
		}
	}
	if len(dirs) == 0 {
		return nil, errNotLayers
	}
	return dirs, nil
}

// descend follows sub in one layer. dir is "" if the layer does not have it;
// hidesLower says that what lower layers have of it cannot be seen.
func descend(layer, sub string) (dir string, hidesLower bool, err error) {
	dir = layer
	for name := range strings.SplitSeq(sub, "/") {
		dir = filepath.Join(dir, name)
		var stat unix.Stat_t
		err := unix.Lstat(dir, &stat)
		switch {
		case errors.Is(err, unix.ENOENT):
			return "", hidesLower, nil
		case err != nil:
			return "", false, &fs.PathError{Op: "lstat", Path: dir, Err: err}
		case stat.Mode&unix.S_IFMT != unix.S_IFDIR:
			return "", true, nil // a whiteout, or a file in the place of a lower directory
		}
		if attribute(dir, "trusted.overlay.redirect") != "" {
			return "", false, errNotLayers
		}
		if attribute(dir, "trusted.overlay.opaque") == "y" {
			hidesLower = true
		}
	}
	return dir, hidesLower, nil
}

// attribute returns a short extended attribute, "" if there is none.
func attribute(path, name string) string {
	value := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, value)
	if errors.Is(err, unix.ERANGE) {
		return string(value)
	}
	if err != nil {
		return ""
	}
	return string(value[:n])
}
