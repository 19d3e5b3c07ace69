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

// Labels of the snapshot of an overlay, from which its record is made again.
const (
	pathLabel   = "io.slipway.volume.path"   // Source.Path
	parentLabel = "io.slipway.volume.parent" // Image.Parent

	// maxLabel is what containerd takes for a name and value, and some less.
	maxLabel = 4000
)

// labels are what a snapshot remembers of the source.
func (s *Source) labels() map[string]string {
	labels := map[string]string{parentLabel: s.Parent}
	if len(s.Path) <= maxLabel {
		labels[pathLabel] = s.Path
	}
	return labels
}

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

// mountOverlay mounts both parts of an overlay unless they are.
func (m *Manager) mountOverlay(ctx context.Context, r record) error {
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

// recoverOverlay returns the record of an overlay by its snapshot. Whether a
// database has been started with it is not known. The safe guess is that none
// has: the containers that did start one know it themselves, and in another the
// copy is made harmless.
func (m *Manager) recoverOverlay(ctx context.Context, name string, snapshot Snapshot) (r record, err error) {
	path, ok := snapshot.Labels[pathLabel]
	if !ok {
		return record{}, errdefs.ErrDataLoss.WithMessage("its snapshot does not tell which of its directories the volume is")
	}
	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	if err := m.makeDirs(name); err != nil {
		return record{}, err
	}
	// Containers that run have this mount. A second one of the same snapshot would
	// not agree with it.
	mounted, err := isMounted(m.layer(name))
	if err != nil {
		return record{}, err
	}
	r = record{
		Name: name, Created: snapshot.Created, Anonymous: true, Labels: map[string]string{AnonymousLabel: ""},
		Filled: &filled{Method: MethodOverlay, Chain: snapshot.Chain, Parent: snapshot.Labels[parentLabel], Fresh: true},
	}
	if !mounted {
		mounts, err := m.cfg.Layers.Mounts(ctx, r.key())
		if err != nil {
			return record{}, err
		}
		undo.Add(func(context.Context) error { return m.unmountAll(name) })
		if err := m.mountLayer(name, mounts); err != nil {
			return record{}, err
		}
	}
	dir, sub, err := m.openLayer(name, path)
	if err != nil {
		return record{}, fmt.Errorf("finding the volume in its snapshot: %w", err)
	}
	r.Filled.SubPath = sub
	return r, dir.Close()
}

// overlayUpper returns the parts of an overlay.
func (m *Manager) overlayUpper(ctx context.Context, r record) (Upper, error) {
	mounts, err := m.snapshot(ctx, r)
	if err != nil {
		return Upper{}, err
	}
	layers, err := layersOf(mounts)
	if err != nil {
		return Upper{}, err
	}
	u := Upper{Dir: layers[0], Chain: r.Filled.Chain, SubPath: r.Filled.SubPath}
	u.Layers, err = (&view{layers: layers}).layersAt(u.SubPath)
	return u, err
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
