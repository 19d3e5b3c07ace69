package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"slipway/internal/cleanup"
	"slipway/internal/failpoint"
)

// fillOverlay makes the volume an overlay on the image's layers. If the image
// has no such directory the volume stays as it is.
func (m *Manager) fillOverlay(ctx context.Context, r record, source Source) (err error) {
	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	if !r.Filling {
		r.Filling = true
		if err := m.replace(r); err != nil {
			return err
		}
	}
	failpoint.Hit("volume.populate.intent")
	undo.Add(func(ctx context.Context) error { return m.unfill(ctx, r) })
	mounts, err := m.cfg.Layers.Prepare(ctx, r.key(), source.Chain, source.labels())
	if errdefs.IsAlreadyExists(err) {
		// Left by a crash of an earlier volume with this name; nothing is in it
		// that anybody was told of.
		if err := m.cfg.Layers.Remove(ctx, r.key()); err != nil {
			return err
		}
		mounts, err = m.cfg.Layers.Prepare(ctx, r.key(), source.Chain, source.labels())
	}
	if err != nil {
		return fmt.Errorf("preparing a snapshot: %w", err)
	}
	failpoint.Hit("volume.populate.prepared")
	if err := m.mountLayer(r.Name, mounts); err != nil {
		return err
	}
	sub, err := m.bindLayer(r.Name, source.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return m.unfill(ctx, r)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("volume.populate.mounted")
	r.Filling = false
	r.Filled = source.filled(MethodOverlay, sub)
	if err := m.replace(r); err != nil {
		return err
	}
	failpoint.Hit("volume.populate.recorded")
	return nil
}

// unfill takes back an overlay that was not finished: the volume is empty.
func (m *Manager) unfill(ctx context.Context, r record) error {
	if err := m.unmountAll(r.Name); err != nil {
		return err
	}
	if m.cfg.Layers != nil {
		if err := m.cfg.Layers.Remove(ctx, r.key()); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing an unfinished snapshot: %w", err)
		}
	}
	r.Filling, r.Filled = false, nil
	return m.replace(r)
}

func (m *Manager) mountLayer(name string, mounts []mount.Mount) error {
	layer := m.layer(name)
	if err := os.Mkdir(layer, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := mount.All(mounts, layer); err != nil {
		return fmt.Errorf("mounting the image's layers: %w", err)
	}
	return nil
}

// bindLayer mounts the directory at path in the volume's layer as its data, and
// returns that path without symbolic links.
func (m *Manager) bindLayer(name, path string) (sub string, err error) {
	dir, sub, err := m.openLayer(name, path)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	return sub, bindAt(dir, m.data(name))
}

// openLayer opens the directory at path in the volume's layer, and returns that
// path without symbolic links.
func (m *Manager) openLayer(name, path string) (_ *os.File, sub string, err error) {
	dir, err := openIn(m.layer(name), path)
	if err != nil {
		return nil, "", err
	}
	ok, err := isDir(dir)
	if err == nil && !ok {
		err = invalid("cannot mount volume over existing file, file exists %s", path)
	}
	if err == nil {
		sub, err = realPath(dir, m.layer(name))
	}
	if err != nil {
		return nil, "", errors.Join(err, dir.Close())
	}
	return dir, sub, nil
}

// ensureMounted mounts the volume if it needs that and is not mounted: at a
// container's start, after a reboot, or after somebody unmounted it. What was
// not settled of a copy is.
func (m *Manager) ensureMounted(ctx context.Context, r record) (err error) {
	if r.damaged {
		return errDamaged(r.Name)
	}
	if err := m.makeDirs(r.Name); err != nil {
		return err
	}
	if isMount(r.Options) {
		if err := m.mountOptions(r); err != nil {
			return err
		}
	}
	if r, err = m.settleCopy(ctx, r); err != nil {
		return err
	}
	if !r.isOverlay() {
		return nil
	}
	whole, err := m.isWhole(r.Name)
	if err != nil || whole {
		return err
	}
	mounts, err := m.snapshot(ctx, r)
	if errdefs.IsNotFound(err) {
		return errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("the snapshot of volume %s is missing", r.Name))
	}
	if err != nil {
		return err
	}
	if err := m.unmountAll(r.Name); err != nil {
		return err
	}
	if err := m.mountLayer(r.Name, mounts); err != nil {
		return err
	}
	if _, err := m.bindLayer(r.Name, r.Filled.SubPath); err != nil {
		return errors.Join(err, m.unmountAll(r.Name))
	}
	return nil
}

// snapshot returns the mounts of an overlay's snapshot, or a NotFound error.
func (m *Manager) snapshot(ctx context.Context, r record) ([]mount.Mount, error) {
	if m.cfg.Layers == nil {
		return nil, errdefs.ErrNotFound
	}
	return m.cfg.Layers.Mounts(ctx, r.key())
}

// isWhole reports whether both mounts of an overlay are there and belong together.
func (m *Manager) isWhole(name string) (bool, error) {
	for _, path := range []string{m.layer(name), m.data(name)} {
		if mounted, err := isMounted(path); err != nil || !mounted {
			return false, err
		}
	}
	var layer, data unix.Stat_t
	if err := unix.Stat(m.layer(name), &layer); err != nil {
		return false, &fs.PathError{Op: "stat", Path: m.layer(name), Err: err}
	}
	if err := unix.Stat(m.data(name), &data); err != nil {
		return false, &fs.PathError{Op: "stat", Path: m.data(name), Err: err}
	}
	return layer.Dev == data.Dev, nil
}

// Upper returns, of a volume that is an overlay, what a commit takes; ok is false
// for any other volume.
func (m *Manager) Upper(ctx context.Context, name string) (u Upper, ok bool, err error) {
	r, _, _, found := m.lookup(name)
	if !found {
		return Upper{}, false, errNoSuchVolume(name)
	}
	if r.damaged {
		return Upper{}, false, errDamaged(name) // what its directory shows may not be all
	}
	if !r.isOverlay() {
		return Upper{}, false, nil
	}
	mounts, err := m.snapshot(ctx, r)
	if err != nil {
		return Upper{}, false, fmt.Errorf("volume %s: %w", name, err)
	}
	layers, err := layersOf(mounts)
	if err != nil {
		return Upper{}, false, fmt.Errorf("volume %s: %w", name, err)
	}
	u = Upper{Dir: layers[0], Chain: r.Filled.Chain, SubPath: r.Filled.SubPath}
	if u.Layers, err = (&view{layers: layers}).layersAt(u.SubPath); err != nil {
		return Upper{}, false, fmt.Errorf("volume %s: %w", name, err)
	}
	return u, true, nil
}

// errNotLayers says that a snapshot is not made of directories.
var errNotLayers = errors.New("the snapshot is not a stack of directories")

// layersOf returns the directories that a snapshot's mounts stack, top first.
func layersOf(mounts []mount.Mount) ([]string, error) {
	if len(mounts) != 1 {
		return nil, errNotLayers
	}
	switch mounts[0].Type {
	case "bind":
		return []string{mounts[0].Source}, nil
	case "overlay":
	default:
		return nil, errNotLayers
	}
	var upper, lower []string
	for _, option := range mounts[0].Options {
		if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
			upper = []string{dir}
		}
		if dirs, ok := strings.CutPrefix(option, "lowerdir="); ok {
			lower = strings.Split(dirs, ":")
		}
	}
	layers := append(upper, lower...)
	if len(layers) == 0 {
		return nil, errNotLayers
	}
	return layers, nil
}
