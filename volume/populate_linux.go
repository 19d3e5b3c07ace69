package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	continuity "github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"
)

func (m *Manager) copyTree(ctx context.Context, view *view, dir found, filling string, _ bool) (reflinked bool, err error) {
	if m.cfg.Cloner == nil {
		return false, copyInto(ctx, filling, dir.path)
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

// replaceEmpty gives dir the place of the empty directory at to.
func replaceEmpty(dir, to string) error {
	if err := unix.Rename(dir, to); err != nil {
		return &os.LinkError{Op: "rename", Old: dir, New: to, Err: err}
	}
	return nil
}

// syncTree makes a copied tree durable. What was reflinked on XFS has its bytes
// on disk already, and one directory's sync writes out the whole log: that does
// not wait for what other databases have in memory.
func syncTree(_ context.Context, dir string, reflinked bool) error {
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
func copyInto(_ context.Context, dst, src string) error {
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
