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
	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"

	"slipway/internal/treecopy"
	"slipway/internal/winpath"
)

// There are no mounts here: a volume is its directory, which the engine places
// beneath a container's root. Nothing has to be taken away again.

func isMounted(string) (bool, error)                                    { return false, nil }
func unmount(string) error                                              { return nil }
func unmountTree(string) error                                          { return nil }
func (m *Manager) unmountAll(string) error                              { return nil }
func (m *Manager) unmountSubpath(string, MountPoint) error              { return nil }
func (m *Manager) sweepRunDir([]Use) error                              { return nil }
func (m *Manager) checkMounts(context.Context, []Use) ([]string, error) { return nil, nil }
func propagates(string) bool                                            { return false }
func recursiveReadonly() bool                                           { return false }

// syncDir does nothing: NTFS and ReFS journal names in their order.
func syncDir(string) error { return nil }

// errNoMounts is for what a volume cannot be on this system, whatever its record
// says.
var errNoMounts = errdefs.ErrNotImplemented.WithMessage("volumes that are mounted are not possible on Windows")

func (m *Manager) mountOptions(record) error                           { return errNoMounts }
func (m *Manager) fillOverlay(context.Context, record, Source) error   { return errNoMounts }
func (m *Manager) mountOverlay(context.Context, record) error          { return errNoMounts }
func (m *Manager) isWhole(string) (bool, error)                        { return false, errNoMounts }
func (m *Manager) overlayUpper(context.Context, record) (Upper, error) { return Upper{}, errNoMounts }

func (m *Manager) recoverOverlay(context.Context, string, Snapshot) (record, error) {
	return record{}, errNoMounts
}

// mountSubpath returns the part of the volume that p asks for, resolved beneath the
// volume.
func (m *Manager) mountSubpath(_ string, p MountPoint) (string, error) {
	sub := p.Spec.VolumeOptions.Subpath
	inside, err := winpath.Inside("/" + filepath.ToSlash(sub))
	if err != nil {
		return "", err
	}
	dir, err := beneath(m.data(p.Name), inside)
	if errors.Is(err, fs.ErrNotExist) {
		return "", invalid("cannot access path %s: no such file or directory", sub)
	}
	return dir, err
}

// beneath returns the path of inside, a path with slashes, in the directory root,
// without links, none of which may lead out of root.
func beneath(root, inside string) (string, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return "", err
	}
	_, err = dir.Stat(filepath.FromSlash(inside))
	if err := errors.Join(err, dir.Close()); err != nil {
		return "", err
	}
	path, err := filepath.EvalSymlinks(filepath.Join(root, filepath.FromSlash(inside)))
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(root); err != nil || !strings.EqualFold(path, real) && !within(strings.ToLower(path), strings.ToLower(real)) {
		return "", errors.Join(err, invalid("%s leads out of %s", inside, root))
	}
	return path, nil
}

// bindSource makes the missing source of a bind if the request allows it.
func (m *Manager) bindSource(p MountPoint) error {
	if p.CreateSource {
		if err := os.MkdirAll(p.Source, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // Windows ignores the mode
			return fmt.Errorf("error while creating mount source path '%s': %w", p.Source, err)
		}
	}
	_, err := os.Stat(p.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return invalid("invalid mount config for type %q: bind source path does not exist: %s", p.Type, p.Source)
	}
	return err
}

// treeSize adds up the sizes of the files below root.
func treeSize(ctx context.Context, root string) (int64, error) {
	var total int64
	err := filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil && ctx.Err() == nil {
			info, err = entry.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed while we look
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total, err
}

// moveNew renames a file and replaces none.
func moveNew(from, to string) error {
	source, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	target, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	if err := windows.MoveFile(source, target); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// replaceEmpty gives dir the place of the empty directory at to. If it is cut
// between the two steps there is nothing at to, and who opens the volume makes it.
func replaceEmpty(dir, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(dir, to)
}

// syncTree makes a copied tree durable.
func syncTree(ctx context.Context, dir string, _ bool) error { return treecopy.Sync(ctx, dir) }

// copyInto copies a directory's content into another, which may be there already
// with files of its own names.
func copyInto(ctx context.Context, dst, src string) error {
	if _, err := os.Lstat(dst); err == nil {
		return nil // only the source's own attributes are left, and they mean nothing
	}
	_, err := treecopy.Copy(ctx, treecopy.Probe(filepath.Dir(dst)), dst, src)
	return err
}

// view is an image's tree: the directory of a snapshot.
type view struct {
	root string
	own  bool // nobody else uses it, and nothing was written to it
}

// found is a file of an image.
type found struct {
	path  string // on the host
	sub   string // in the image, without links
	isDir bool
}

func (m *Manager) openView(mounts []mount.Mount) (*view, error) {
	if len(mounts) != 1 || mounts[0].Type != "bind" {
		return nil, errdefs.ErrNotImplemented.WithMessage("the image's layers are not a directory")
	}
	v := &view{root: mounts[0].Source}
	for _, option := range mounts[0].Options {
		v.own = v.own || option == "rw"
	}
	return v, nil
}

func (v *view) close() error { return nil }

// find resolves a path of the image beneath its root.
func (v *view) find(path string) (found, error) {
	inside, err := winpath.Inside(path)
	if err != nil {
		return found{}, err
	}
	dir, err := beneath(v.root, inside)
	if err != nil {
		return found{}, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return found{}, err
	}
	return found{path: dir, sub: inside, isDir: info.IsDir()}, nil
}

// copyTree fills a volume. The files of a data image are moved out of the container's
// snapshot, which was made as a copy of the image for it alone, and where the volume
// hides them from now on: a database is copied once.
func (m *Manager) copyTree(ctx context.Context, v *view, dir found, filling string, data bool) (reflinked bool, err error) {
	if v.own && data {
		if err := os.Rename(dir.path, filling); err == nil {
			return false, os.Mkdir(dir.path, 0o755) //nolint:gosec // Windows ignores the mode
		}
		// They are on different volumes, or in use: a copy.
	}
	if m.cfg.Cloner == nil {
		return false, copyInto(ctx, filling, dir.path)
	}
	return m.cfg.Cloner.Clone(ctx, dir.path, filling)
}
