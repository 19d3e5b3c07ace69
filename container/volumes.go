package container

import (
	"context"
	"log/slog"

	"slipway/image"
	"slipway/internal/cleanup"
	"slipway/internal/span"
	"slipway/volume"

	mobycontainer "github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Mount is one resolved mount of a container.
type Mount = volume.MountPoint

// Volumes gives containers their volumes. [volume.Manager] implements it.
type Volumes interface {
	Attach(ctx context.Context, user string, points []volume.MountPoint, source volume.Image) ([]volume.MountPoint, error)
	Detach(ctx context.Context, user string, points []volume.MountPoint, removeAnonymous bool) error
	Mount(ctx context.Context, user string, p volume.MountPoint) (source string, err error)
	Unmount(ctx context.Context, user string, p volume.MountPoint) error
	VolumeContent
}

// VolumeContent is what commits and first starts ask about a volume.
type VolumeContent interface {
	Upper(ctx context.Context, name string) (volume.Upper, bool, error)
	// Fresh reports whether the volume holds a copy of a database that has not
	// been made harmless yet, and which nobody but user runs with.
	Fresh(name, user string) bool
	// Settle ends that.
	Settle(ctx context.Context, name string) error
	// Writers returns the containers other than user that run with the volume and
	// may write to it, and how often there came to be one.
	Writers(name, user string) (others []string, mounts int)
}

// attachVolumes makes and fills the volumes of a new container.
func (m *Manager) attachVolumes(ctx context.Context, r *Record, img *image.Image, undo *cleanup.Stack) error {
	defer span.Start(ctx, "attach volumes")()
	own, err := m.layers.snapshotter().Mounts(ctx, r.ID)
	if err != nil {
		return err
	}
	points, err := m.cfg.Volumes.Attach(ctx, r.ID, r.Mounts, volume.Image{
		Mounts: own, Chain: r.Image.Chain, Parent: img.ID.String(), Data: r.Data != nil,
	})
	if err != nil {
		return err
	}
	undo.Add(func(ctx context.Context) error { return m.cfg.Volumes.Detach(ctx, r.ID, points, true) })
	r.Mounts = points
	return nil
}

// dataIsCopy reports whether the database's files are a copy of an image's that
// has not had its first start: all of its volumes are, or it has none. A volume
// may have been filled for another container, which was removed before it came
// to that.
func (m *Manager) dataIsCopy(r *Record) bool {
	for _, mount := range r.Mounts {
		if !r.isData(mount) {
			continue
		}
		if mount.Type != mobymount.TypeVolume || !m.cfg.Volumes.Fresh(mount.Name, r.ID) {
			return false
		}
	}
	return true
}

// settleData notes in the volumes that the database has had its first start.
func (m *Manager) settleData(ctx context.Context, r *Record) error {
	for _, mount := range r.dataVolumes() {
		if err := m.cfg.Volumes.Settle(ctx, mount.Name); err != nil {
			return err
		}
	}
	return nil
}

// dataVolumes are the volumes that belong to the container's database.
func (r *Record) dataVolumes() []Mount {
	var volumes []Mount
	for _, mount := range r.Mounts {
		if mount.Type == mobymount.TypeVolume && r.isData(mount) {
			volumes = append(volumes, mount)
		}
	}
	return volumes
}

// mountVolumes makes the sources of all mounts ready for a start.
func (m *Manager) mountVolumes(ctx context.Context, r *Record, undo *cleanup.Stack) ([]specs.Mount, error) {
	defer span.Start(ctx, "mount volumes")()
	mounts := make([]specs.Mount, 0, len(r.Mounts))
	for _, p := range r.Mounts {
		source, err := m.cfg.Volumes.Mount(ctx, r.ID, p)
		if err != nil {
			return nil, err
		}
		undo.Add(func(ctx context.Context) error { return m.cfg.Volumes.Unmount(ctx, r.ID, p) })
		mount, err := p.OCI(source)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

func (m *Manager) unmountVolumes(ctx context.Context, c *container, mounts []Mount) {
	for _, p := range mounts {
		if err := m.cfg.Volumes.Unmount(ctx, c.id, p); err != nil {
			m.log(c).WarnContext(ctx, "unmounting a volume failed", slog.String("target", p.Destination), slog.Any("error", err))
		}
	}
}

// mountPoints are mounts as inspect shows them.
func mountPoints(mounts []Mount) []mobycontainer.MountPoint {
	shown := make([]mobycontainer.MountPoint, 0, len(mounts))
	for _, p := range mounts {
		shown = append(shown, p.API())
	}
	return shown
}
