package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	mobyvolume "github.com/moby/moby/api/types/volume"

	"slipway/events"
	"slipway/internal/keylock"
	"slipway/state"
)

const (
	// Driver is the name of the only volume driver.
	Driver = "local"
	// AnonymousLabel marks volumes that nobody named.
	AnonymousLabel = "com.docker.volume.anonymous"

	scope     = "local"
	dataDir   = "_data"
	layerDir  = "layer"
	fillDir   = ".filling"
	stageDir  = ".slipway-filling"
	keyPrefix = "volume-"
)

// How a volume was filled from a data image, as [Manager.Method] says.
const (
	MethodOverlay = "overlay"
	MethodReflink = "reflink"
	MethodCopy    = "copy"
)

// Layers gives out writable snapshots on an image's layers. A snapshot lives
// until it is removed, whatever garbage collection does, and holds its parents.
type Layers interface {
	// Prepare makes a snapshot called key on the layers of chain, which then lasts
	// through a loss of power, labels included. It is an AlreadyExists error if
	// there is one.
	Prepare(ctx context.Context, key, chain string, labels map[string]string) ([]mount.Mount, error)
	// Mounts returns the mounts of the snapshot, or a NotFound error.
	Mounts(ctx context.Context, key string) ([]mount.Mount, error)
	// Stat returns what the snapshot was made of, or a NotFound error.
	Stat(ctx context.Context, key string) (Snapshot, error)
	// Remove deletes the snapshot. It is no error if there is none.
	Remove(ctx context.Context, key string) error
}

// Snapshot is what is kept of a snapshot beside its files.
type Snapshot struct {
	Created time.Time
	Chain   string // of the layers that it is on
	Labels  map[string]string
}

// LayerLister is implemented by [Layers] that can tell which snapshots there
// are; [Manager.CheckLeaks] finds left-over ones by it.
type LayerLister interface {
	// List returns the keys that begin with prefix.
	List(ctx context.Context, prefix string) ([]string, error)
}

// Cloner copies directory trees with all their attributes, by reflink where the
// file system can. dst does not exist, or is an empty directory, and takes on
// the source's owner, mode, times and attributes.
type Cloner interface {
	// Clone copies the tree src.
	Clone(ctx context.Context, src, dst string) (reflinked bool, err error)
	// Merge copies what overlayfs would show of the directories, top first.
	Merge(ctx context.Context, layers []string, dst string) (reflinked bool, err error)
}

// Config is what a [Manager] is made of. Layers and Cloner may be nil: volumes
// are then filled by copying.
type Config struct {
	Root   string // absolute directory of the volumes, in the pool
	RunDir string // absolute directory for mounts that a reboot ends
	State  *state.Store
	Events *events.Bus
	Logger *slog.Logger
	Layers Layers
	Cloner Cloner
}

// Manager keeps the volumes. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	records *state.Bucket[record]
	locks   *keylock.Locker

	mu      sync.Mutex
	volumes map[string]*volume
	pruning bool
}

// record is what is durable of a volume.
type record struct {
	Name      string            `json:"name"`
	Created   time.Time         `json:"created"`
	Anonymous bool              `json:"anonymous,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`
	// Filling is set while an overlay is being made: what there is of it is
	// thrown away after a crash.
	Filling bool `json:"filling,omitempty"`
	// Copy says how far a copy of an image's files has come that is not settled:
	// copyPartial, copyComplete, or "".
	Copy string `json:"copy,omitempty"`
	// Filled says how the volume was filled from a data image, or will be when
	// Copy is settled.
	Filled *filled `json:"filled,omitempty"`

	// damaged is set, in memory only, if what is stored cannot be read: the name
	// is all that is known.
	damaged bool
}

const (
	// copyPartial is set before files are copied into the volume itself, beneath
	// stageDir. Beside a volume's data there is nothing to note: fillDir is enough.
	copyPartial = "partial"
	// copyComplete is set before a complete and durable copy gets its place.
	copyComplete = "complete"
)

type filled struct {
	Method  string `json:"method"`
	Chain   string `json:"chain"`              // the image's layers
	Parent  string `json:"parent,omitempty"`   // the image, for people
	SubPath string `json:"sub_path,omitempty"` // in the image, without symbolic links
	// Fresh is set until a container's database has had its first start here.
	Fresh bool `json:"fresh,omitempty"`
}

// volume is a record in memory, with its users. Everything is guarded by the
// Manager's mutex; the record is replaced, never changed in place.
type volume struct {
	record
	users  map[string]struct{} // ids of containers that name it
	active map[string]bool     // mounts of running containers, by useKey, and whether they may write
	writes int                 // how many mounts that may write there have been
}

// New opens the volumes below cfg.Root. [Manager.Restore] must follow before any
// other call.
func New(ctx context.Context, cfg Config) (*Manager, error) {
	if !hasMounts {
		cfg.Layers = nil
	}
	for name, dir := range map[string]string{"Root": cfg.Root, "RunDir": cfg.RunDir} {
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("volume %s %q must be an absolute path: %w", name, dir, errdefs.ErrInvalidArgument)
		}
	}
	//nolint:gosec // users other than root reach volumes through it, but cannot list them
	if err := errors.Join(os.MkdirAll(cfg.Root, 0o701), os.MkdirAll(cfg.RunDir, 0o700)); err != nil {
		return nil, fmt.Errorf("making the volumes' directories: %w", err)
	}
	// The kernel names mounts by paths without symbolic links.
	var rootErr, runErr error
	cfg.Root, rootErr = filepath.EvalSymlinks(cfg.Root)
	cfg.RunDir, runErr = filepath.EvalSymlinks(cfg.RunDir)
	if err := errors.Join(rootErr, runErr); err != nil {
		return nil, fmt.Errorf("finding the volumes' directories: %w", err)
	}
	records, err := state.NewBucket[record](cfg.State, "volumes")
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, records: records, locks: keylock.New(), volumes: map[string]*volume{}}
	return m, m.load(ctx)
}

// load reads the records. A volume whose record cannot be read keeps its name and
// all that it has; Restore tries to make its record again.
func (m *Manager) load(ctx context.Context) error {
	all, err := m.records.All()
	if err != nil && !errdefs.IsDataLoss(err) {
		return err
	}
	if err != nil {
		m.cfg.Logger.ErrorContext(ctx, "volume records are damaged", slog.String("error", err.Error()))
	}
	names, err := m.records.IDs()
	if err != nil {
		return err
	}
	for _, name := range names {
		r, ok := all[name]
		if !ok {
			r = record{Name: name, damaged: true}
		}
		m.volumes[name] = newVolume(r)
	}
	return nil
}

func newVolume(r record) *volume {
	return &volume{record: r, users: map[string]struct{}{}, active: map[string]bool{}}
}

func (m *Manager) dir(name string) string   { return filepath.Join(m.cfg.Root, name) }
func (m *Manager) data(name string) string  { return filepath.Join(m.cfg.Root, name, dataDir) }
func (m *Manager) layer(name string) string { return filepath.Join(m.cfg.Root, name, layerDir) }

// key is the name of the snapshot that an overlay volume is made of.
func (r *record) key() string { return keyPrefix + r.Name }

func (r *record) isOverlay() bool { return r.Filled != nil && r.Filled.Method == MethodOverlay }

// lookup returns a copy of the volume's record and how many containers use it.
func (m *Manager) lookup(name string) (r record, users, active int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.volumes[name]
	if !ok {
		return record{}, 0, 0, false
	}
	return v.record, len(v.users), len(v.active), true
}

// replace stores r durably and publishes it. The lock of its name is held.
func (m *Manager) replace(r record) error {
	if err := m.records.Put(r.Name, r); err != nil {
		return fmt.Errorf("recording volume %s: %w", r.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.volumes[r.Name]; ok {
		v.record = r
	} else {
		m.volumes[r.Name] = newVolume(r)
	}
	return nil
}

// Get returns the volume as `docker volume inspect` shows it.
func (m *Manager) Get(_ context.Context, name string) (mobyvolume.Volume, error) {
	r, _, _, ok := m.lookup(name)
	if !ok {
		return mobyvolume.Volume{}, errNoSuchVolume(name)
	}
	return m.api(r), nil
}

// Method says how the volume was filled from a data image: [MethodOverlay],
// [MethodReflink], [MethodCopy], or "" if it was not.
func (m *Manager) Method(name string) string {
	r, _, _, _ := m.lookup(name)
	if r.Filled == nil {
		return ""
	}
	return r.Filled.Method
}

// Fresh reports whether the volume holds a copy of a data image's files that no
// database has finished a first start with, while nobody but user runs with it.
func (m *Manager) Fresh(name, user string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.volumes[name]
	if !ok || v.Filled == nil || !v.Filled.Fresh {
		return false
	}
	for key := range v.active {
		if !strings.HasPrefix(key, useKey(user, MountPoint{})) {
			return false
		}
	}
	return true
}

// Writers returns the containers other than user that run with the volume and
// may write to it, sorted. The volume's content holds still for as long as there
// are none, user does nothing, and mounts, which counts how often somebody came to
// be one, stays the same.
func (m *Manager) Writers(name, user string) (others []string, mounts int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.volumes[name]
	if !ok {
		return nil, 0
	}
	for key, writes := range v.active {
		if other, _, _ := strings.Cut(key, ":"); writes && other != user {
			others = append(others, other)
		}
	}
	slices.Sort(others)
	return slices.Compact(others), v.writes
}

// Settle records that a database has had its first start with the volume.
func (m *Manager) Settle(ctx context.Context, name string) error {
	unlock, err := m.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	r, _, _, ok := m.lookup(name)
	if !ok {
		return errNoSuchVolume(name)
	}
	if r.Filled == nil || !r.Filled.Fresh {
		return nil
	}
	settled := *r.Filled
	settled.Fresh = false
	r.Filled = &settled
	return m.replace(r)
}

func (m *Manager) api(r record) mobyvolume.Volume {
	v := mobyvolume.Volume{
		Name:       r.Name,
		Driver:     Driver,
		Scope:      scope,
		CreatedAt:  r.Created.UTC().Format(time.RFC3339),
		Mountpoint: m.data(r.Name),
		Labels:     r.Labels,
		Options:    r.Options,
	}
	if r.Filled != nil {
		v.Status = map[string]any{"method": r.Filled.Method, "parent": r.Filled.Parent}
	}
	if r.damaged {
		v.Status = map[string]any{"error": errDamaged(r.Name).Error()}
	}
	return v
}

func errNoSuchVolume(name string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("get %s: no such volume", name))
}

func errDamaged(name string) error {
	return errdefs.ErrDataLoss.WithMessage(fmt.Sprintf(
		"the record of volume %[1]s cannot be read: its data is kept and cannot be used; docker volume rm %[1]s removes it", name))
}
