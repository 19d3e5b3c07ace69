package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"slipway/clonefs"
	"slipway/container/rootfs"
	"slipway/internal/span"

	"github.com/containerd/errdefs"
)

// part is one volume's content on its way into an image's layer.
type part struct {
	destination string // in the container
	tree        clonefs.Tree
	// whole says that the tree is everything there is at the destination, so
	// that it hides what the layers below have there.
	whole bool
	// place is where it came to lie in the image, without symbolic links.
	place string
}

// dataParts plans how the volumes of a data image are taken into a commit. Each
// goes to a directory beside the layer's first, as it has its place only when
// the layer is complete.
func (m *Manager) dataParts(ctx context.Context, r *Record, upper string) ([]part, error) {
	var parts []part
	for i, mount := range r.dataVolumes() {
		if o := mount.Spec.VolumeOptions; o != nil && o.Subpath != "" {
			return nil, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(
				"a container whose database at %s is in a sub path of volume %s cannot be committed yet", mount.Destination, mount.Name))
		}
		p := part{destination: mount.Destination, whole: true}
		p.tree = clonefs.Tree{Src: mount.Source, Dst: filepath.Join(filepath.Dir(upper), "volume-"+strconv.Itoa(i))}
		u, ok, err := m.cfg.Volumes.Upper(ctx, mount.Name)
		if err != nil {
			return nil, err
		}
		switch {
		case !ok:
		case u.Chain == r.Image.Chain && u.SubPath == strings.TrimPrefix(filepath.Clean(mount.Destination), "/"):
			// The volume has the layers below in common with the image to be made,
			// so its changes are all that is needed.
			p.whole = false
			p.tree.Src = filepath.Join(u.Dir, u.SubPath)
			if _, err := os.Lstat(p.tree.Src); errors.Is(err, fs.ErrNotExist) {
				continue // nothing was changed
			}
		default:
			p.tree.Src, p.tree.Layers = "", u.Layers
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// ownData makes sure that no other running container writes to the volumes of the
// container's database: only its own processes stand still for a commit. The
// returned function says, after the copy, whether it stayed so.
func (m *Manager) ownData(r *Record) (still func() error, err error) {
	begun := map[string]int{}
	for _, mount := range r.dataVolumes() {
		others, mounts := m.cfg.Volumes.Writers(mount.Name, r.ID)
		if len(others) > 0 {
			return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf(
				"volume %s at %s is written to by container %s as well, which does not stand still for a commit of %s: commit that one, stop it, or let it mount the volume read-only",
				mount.Name, mount.Destination, strings.Join(m.namesOf(others), ", "), r.Name))
		}
		begun[mount.Name] = mounts
	}
	return func() error {
		for name, mounts := range begun {
			if _, now := m.cfg.Volumes.Writers(name, r.ID); now != mounts {
				return errdefs.ErrConflict.WithMessage(fmt.Sprintf(
					"another container was started with volume %s while container %s was committed: commit it again", name, r.Name))
			}
		}
		return nil
	}, nil
}

// namesOf returns what people call the users of a volume: containers, and the
// views of those that a copy is made of (viewUser).
func (m *Manager) namesOf(users []string) []string {
	names := make([]string, 0, len(users))
	for _, user := range users {
		id, _, isView := strings.Cut(user, "-")
		if c, err := m.find(id); err == nil {
			id = c.record.Load().Name
		}
		if isView {
			id += " (docker cp)"
		}
		names = append(names, id)
	}
	return names
}

// placeParts moves the volumes' content to its place in the new layer.
func (m *Manager) placeParts(ctx context.Context, c *container, parts []part, upper string) error {
	if len(parts) == 0 {
		return nil
	}
	defer span.Start(ctx, "place volumes")()
	merged, err := m.layers.mount(ctx, c.id)
	if err != nil {
		return err
	}
	defer func() { m.logged(ctx, c, "unmounting the root failed", m.layers.release(c.id)) }()
	root, err := rootfs.Open(merged)
	if err != nil {
		return err
	}
	for i, p := range parts {
		if err := placePart(root, merged, &parts[i], parts[:i], upper); err != nil {
			return errors.Join(fmt.Errorf("taking the volume at %s into the image: %w", p.destination, err), root.Close())
		}
	}
	return root.Close()
}

// placePart moves one volume's content; those that it may lie in are placed.
func placePart(root *rootfs.Root, merged string, p *part, placed []part, upper string) (err error) {
	if p.place, err = findPlace(root, merged, p.destination, placed, upper); err != nil {
		return err
	}
	target := upper
	for name := range strings.SplitSeq(strings.Trim(filepath.Dir(p.place), "/"), "/") {
		if name == "" {
			continue
		}
		target = filepath.Join(target, name)
		if err := copyUpDir(root, strings.TrimPrefix(target, upper), target); err != nil {
			return err
		}
	}
	target = filepath.Join(upper, p.place)
	if target == upper {
		return errdefs.ErrInvalidArgument.WithMessage("a volume over the whole root cannot be committed")
	}
	// The mount point of the volume, and what is hidden under it.
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := os.Rename(p.tree.Dst, target); err != nil {
		return err
	}
	if p.whole {
		return setOpaque(target)
	}
	return nil
}

// findPlace returns where in the image a volume's mount point is. It may be in
// another volume, or nowhere yet, if the container was never started.
func findPlace(root *rootfs.Root, merged, destination string, placed []part, upper string) (string, error) {
	for _, outer := range slices.Backward(placed) {
		if !beneath(destination, outer.destination) {
			continue
		}
		rel, err := filepath.Rel(outer.destination, destination)
		if err != nil {
			return "", err
		}
		if isPlainDir(filepath.Join(upper, outer.place), rel) {
			return filepath.Join(outer.place, rel), nil
		}
	}
	place, err := resolve(root, merged, destination)
	if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(destination) == destination {
		return place, err
	}
	parent, err := findPlace(root, merged, filepath.Dir(destination), placed, upper)
	return filepath.Join(parent, filepath.Base(destination)), err
}

// isPlainDir reports whether rel is a directory in dir that no symbolic link
// leads to.
func isPlainDir(dir, rel string) bool {
	for name := range strings.SplitSeq(strings.Trim(rel, "/"), "/") {
		dir = filepath.Join(dir, name)
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}
