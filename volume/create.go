package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/containerd/errdefs"
	mobyevents "github.com/moby/moby/api/types/events"
	mobyvolume "github.com/moby/moby/api/types/volume"

	"slipway/internal/failpoint"
)

// Create makes a volume, or returns the one that has the name already, whatever
// its options, as Docker does. Without a name it makes an anonymous volume. When
// it returns, the volume is durable.
func (m *Manager) Create(ctx context.Context, req mobyvolume.CreateRequest) (mobyvolume.Volume, error) {
	if req.ClusterVolumeSpec != nil {
		return mobyvolume.Volume{}, errdefs.ErrUnavailable.WithMessage("This node is not a swarm manager: cluster volumes are not supported")
	}
	r, _, err := m.create(ctx, req, "", false)
	if err != nil {
		return mobyvolume.Volume{}, err
	}
	return m.api(r), nil
}

// create makes the volume if it is not there, and adds user to its users unless
// user is empty, in one step that no removal can come between. filling is set
// by a caller that is about to make an overlay of it.
func (m *Manager) create(ctx context.Context, req mobyvolume.CreateRequest, user string, filling bool) (r record, created bool, err error) {
	r = record{
		Name: req.Name, Created: time.Now(), Filling: filling,
		Labels: maps.Clone(req.Labels), Options: maps.Clone(req.DriverOpts),
	}
	if r.Name == "" {
		r.Name, r.Anonymous = randomName(), true
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[AnonymousLabel] = ""
	}
	wrap := func(err error) error { return fmt.Errorf("create %s: %w", r.Name, err) }
	if err := validateName(r.Name); err != nil {
		return record{}, false, wrap(err)
	}
	if req.Driver != "" && req.Driver != Driver {
		return record{}, false, wrap(errdefs.ErrNotFound.WithMessage(
			fmt.Sprintf("error looking up volume plugin %[1]s: plugin %[1]q not found", req.Driver)))
	}
	unlock, err := m.locks.Lock(ctx, r.Name)
	if err != nil {
		return record{}, false, wrap(err)
	}
	defer unlock()
	if known, _, _, ok := m.lookup(r.Name); ok {
		if known.damaged {
			return record{}, false, wrap(errDamaged(r.Name))
		}
		m.use(r.Name, user)
		return known, false, nil
	}
	if err := validateOptions(r.Options); err != nil {
		return record{}, false, wrap(err)
	}
	if err := m.makeDirs(r.Name); err != nil {
		return record{}, false, wrap(err)
	}
	failpoint.Hit("volume.create.directory")
	if err := m.replace(r); err != nil {
		return record{}, false, errors.Join(wrap(err), m.dropEmpty(r.Name))
	}
	failpoint.Hit("volume.create.record")
	m.use(r.Name, user)
	m.cfg.Events.Publish(mobyevents.VolumeEventType, mobyevents.ActionCreate, r.Name, map[string]string{"driver": Driver})
	return r, true, nil
}

// use adds user to the volume's users, if both are there.
func (m *Manager) use(name, user string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.volumes[name]; ok && user != "" {
		v.users[user] = struct{}{}
	}
}

// makeDirs makes the volume's directories, those that are not there. They need
// not be durable: Restore makes those of a recorded volume again.
func (m *Manager) makeDirs(name string) error {
	//nolint:gosec // users other than root reach their data through it, but cannot list it
	if err := os.Mkdir(m.dir(name), 0o701); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	//nolint:gosec // the root directory of a container's file system, Docker's mode
	if err := os.Mkdir(m.data(name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// dropEmpty removes the directories of a volume that has no record. It leaves
// them if there is anything in them.
func (m *Manager) dropEmpty(name string) error {
	for _, dir := range []string{m.data(name), m.layer(name), m.dir(name)} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func randomName() string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
