package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	mobyevents "github.com/moby/moby/api/types/events"
	mobymount "github.com/moby/moby/api/types/mount"
	mobyvolume "github.com/moby/moby/api/types/volume"

	"slipway/internal/cleanup"
)

// Image is where a new volume's content comes from.
type Image struct {
	// Mounts are those of a snapshot on the image's layers that nothing has
	// been written to: the new container's own.
	Mounts []mount.Mount
	// Chain is the chain id of the layers, for [Layers].
	Chain string
	// Parent is how people know the image.
	Parent string
	// Data says that it is a data image, whose content is not copied but shared.
	Data bool
}

// Attach makes the volumes that points name, or does not name, adds the
// container user to the users of each, and fills empty ones from the image. It
// returns the points with names and paths. If it fails, nothing that it made is
// left.
func (m *Manager) Attach(ctx context.Context, user string, points []MountPoint, image Image) (_ []MountPoint, err error) {
	attached := make([]MountPoint, len(points))
	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	for i, p := range points {
		if p.Type == mobymount.TypeVolume {
			if p, err = m.attach(ctx, user, p, image, &undo); err != nil {
				return nil, err
			}
		}
		attached[i] = p
	}
	return attached, nil
}

func (m *Manager) attach(ctx context.Context, user string, p MountPoint, image Image, undo *cleanup.Stack) (MountPoint, error) {
	req := mobyvolume.CreateRequest{Name: p.Name, Driver: p.Driver}
	if o := p.Spec.VolumeOptions; o != nil {
		req.Labels = maps.Clone(o.Labels)
		if o.DriverConfig != nil {
			req.DriverOpts = o.DriverConfig.Options
		}
	}
	asOverlay := p.Name == "" && p.CopyData && image.Data && m.cfg.Layers != nil && len(req.DriverOpts) == 0
	r, created, err := m.create(ctx, req, user, asOverlay)
	if err != nil {
		return MountPoint{}, err
	}
	undo.Add(func(ctx context.Context) error {
		m.release(user, r.Name)
		if !created {
			return nil
		}
		if err := m.Remove(ctx, r.Name, true); err != nil && !errdefs.IsConflict(err) {
			return err // a Conflict: another container has found the volume meanwhile
		}
		return nil
	})
	p.Name, p.Source, p.Driver = r.Name, m.data(r.Name), Driver
	if !p.CopyData {
		return p, nil
	}
	if err := m.Populate(ctx, r.Name, Source{Image: image, Path: p.Destination}); err != nil {
		return MountPoint{}, fmt.Errorf("failed to populate volume: %w", err)
	}
	return p, nil
}

// Detach undoes Attach when the container is removed: it is no longer a user of
// its volumes, and with removeAnonymous the volumes that were made for it
// without a name are removed unless others use them.
func (m *Manager) Detach(ctx context.Context, user string, points []MountPoint, removeAnonymous bool) error {
	var failed []error
	for _, p := range points {
		if p.Type != mobymount.TypeVolume {
			continue
		}
		m.release(user, p.Name)
		if !removeAnonymous || !p.IsAnonymous() {
			continue
		}
		if err := m.Remove(ctx, p.Name, true); err != nil && !errdefs.IsConflict(err) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// release takes user from the volume's users.
func (m *Manager) release(user, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.volumes[name]; ok {
		delete(v.users, user)
	}
}

// useKey is one mount of one container.
func useKey(user string, p MountPoint) string { return user + ":" + p.Destination }

// Mount makes the mount's source ready for the container user, which is about to
// start, and returns its path, "" for a tmpfs. A missing source of a bind is made
// or refused as the request says. Mounting twice is no error.
func (m *Manager) Mount(ctx context.Context, user string, p MountPoint) (source string, err error) {
	switch p.Type {
	case mobymount.TypeBind:
		return p.Source, m.bindSource(p)
	case mobymount.TypeVolume:
		source, err := m.mountVolume(ctx, user, p)
		if err != nil {
			return "", fmt.Errorf("error while mounting volume '%s': %w", p.Name, err)
		}
		m.cfg.Events.Publish(mobyevents.VolumeEventType, mobyevents.ActionMount, p.Name, map[string]string{
			"driver": Driver, "container": user, "destination": p.Destination,
			"read/write": strconv.FormatBool(p.RW), "propagation": string(p.Propagation),
		})
		return source, nil
	default:
		return "", nil
	}
}

func (m *Manager) mountVolume(ctx context.Context, user string, p MountPoint) (string, error) {
	unlock, err := m.locks.Lock(ctx, p.Name)
	if err != nil {
		return "", err
	}
	defer unlock()
	r, _, _, ok := m.lookup(p.Name)
	if !ok {
		return "", errNoSuchVolume(p.Name)
	}
	if err := m.ensureMounted(ctx, r); err != nil {
		return "", errors.Join(err, m.unmountIdle(r))
	}
	source := m.data(r.Name)
	if o := p.Spec.VolumeOptions; o != nil && o.Subpath != "" {
		if source, err = m.mountSubpath(user, p); err != nil {
			return "", errors.Join(err, m.unmountIdle(r))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.volumes[r.Name].activate(user, p)
	return source, nil
}

// activate notes one mount. The Manager's mutex is held.
func (v *volume) activate(user string, p MountPoint) {
	v.active[useKey(user, p)] = p.RW
	if p.RW {
		v.writes++
	}
}

// Unmount undoes Mount when the container user has stopped. Unmounting what is
// not mounted is no error.
func (m *Manager) Unmount(ctx context.Context, user string, p MountPoint) error {
	if p.Type != mobymount.TypeVolume {
		return nil
	}
	unlock, err := m.locks.Lock(ctx, p.Name)
	if err != nil {
		return fmt.Errorf("error unmounting volume %s: %w", p.Name, err)
	}
	defer unlock()
	if !m.deactivate(user, p) {
		return nil
	}
	r, _, _, ok := m.lookup(p.Name)
	if !ok {
		return nil
	}
	if err := errors.Join(m.unmountSubpath(user, p), m.unmountIdle(r)); err != nil {
		return fmt.Errorf("error unmounting volume %s: %w", p.Name, err)
	}
	m.cfg.Events.Publish(mobyevents.VolumeEventType, mobyevents.ActionUnmount, p.Name,
		map[string]string{"driver": Driver, "container": user})
	return nil
}

// deactivate forgets one mount and reports whether there was one.
func (m *Manager) deactivate(user string, p MountPoint) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.volumes[p.Name]
	if !ok {
		return false
	}
	_, was := v.active[useKey(user, p)]
	delete(v.active, useKey(user, p))
	return was
}

// unmountIdle unmounts what the volume's options have mounted once no container
// runs with it. An overlay stays, so that its content can be seen.
func (m *Manager) unmountIdle(r record) error {
	if _, _, active, _ := m.lookup(r.Name); active > 0 || !isMount(r.Options) {
		return nil
	}
	return unmount(m.data(r.Name))
}

// Use is a container's use of volumes.
type Use struct {
	ID      string
	Points  []MountPoint
	Running bool
}

// register makes the volumes' users and mounts those of uses, and no others.
func (m *Manager) register(ctx context.Context, uses []Use) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.volumes {
		clear(v.users)
		clear(v.active)
	}
	for _, use := range uses {
		for _, p := range use.Points {
			if p.Type != mobymount.TypeVolume {
				continue
			}
			v, ok := m.volumes[p.Name]
			if !ok {
				m.cfg.Logger.ErrorContext(ctx, "a container's volume is missing",
					slog.String("container", use.ID), slog.String("volume", p.Name))
				continue
			}
			v.users[use.ID] = struct{}{}
			if use.Running {
				v.activate(use.ID, p)
			}
		}
	}
}
