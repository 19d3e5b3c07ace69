package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"slipway/database"
	"slipway/events"
	"slipway/internal/keylock"
	"slipway/internal/span"
	"slipway/layerstore"
	"slipway/state"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
)

// Config is what a [Manager] is built of. Every field is required unless it says otherwise.
type Config struct {
	DataRoot string // containers' own files lie in its directory "containers"
	ExecRoot string
	Client   *containerd.Client
	State    *state.Store
	Events   *events.Bus
	Logger   *slog.Logger
	Spans    *span.Log // may be nil

	Images   Images
	Networks Networks
	Volumes  Volumes
	Output   Output
	Runtime  Runtime
	Shims    Shims
	// InitBinary is the program behind --init.
	InitBinary string
	// CgroupParent is where containers' cgroups are, unless they say otherwise;
	// empty for the runtime's default.
	CgroupParent string
	// Identity is whose rights containers on Windows have, as [shim.SpecRequest] has it.
	Identity  string
	Pool      Pool
	Databases *database.Catalog
	Defaults  Defaults
}

// Shims are the processes between the engine and its containers.
// [layerstore.Store] implements it.
type Shims interface {
	Shims() ([]layerstore.Shim, error)
	KillShim(s layerstore.Shim) error
	// Bundle is the directory of a task, which is there as long as the task.
	Bundle(id string) string
}

// Pool is asked before a container is made or committed.
type Pool interface {
	// CheckSpace returns a sentence for the user if there is no room for another clone.
	CheckSpace(ctx context.Context) error
}

// Defaults apply where a request says nothing.
type Defaults struct {
	LogDriver  string
	LogOptions map[string]string
	// ShmSize is in bytes; 0 means Docker's 64 MiB.
	ShmSize int64
	Ulimits []*mobycontainer.Ulimit
	// Init is whether containers get an init process.
	Init bool
	// DNS settings of containers on bridge networks.
	DNS                   []netip.Addr
	DNSSearch, DNSOptions []string
}

// Manager owns all containers. It is safe for concurrent use; see the package
// documentation for its locks.
type Manager struct {
	cfg     Config
	records *state.Bucket[Record]
	names   *state.Names
	locks   *keylock.Locker
	layers  *layers
	// unreadable are the ids of containers that Load could not read. They keep
	// their files and names.
	unreadable []string

	pruning atomic.Bool

	mu         sync.RWMutex
	containers map[string]*container
	execs      map[string]*execution
	endedExecs []endedExec // oldest first

	// background is cancelled by Close; supervisors and probes run under it.
	background context.Context //nolint:containedctx // the lifetime of goroutines that no call owns
	stop       context.CancelCauseFunc
	wg         sync.WaitGroup
}

// errClosing is why background work ends when the daemon does.
var errClosing = errors.New("the daemon is shutting down")

// New opens the records. Call [Manager.Restore] before anything else. ctx gives
// its values, the containerd namespace among them, to the background work.
func New(ctx context.Context, cfg Config) (*Manager, error) {
	records, err := state.NewBucket[Record](cfg.State, "containers")
	if err != nil {
		return nil, err
	}
	names, err := state.NewNames(cfg.State, "container")
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Join(cfg.DataRoot, "containers"), filepath.Join(cfg.ExecRoot, "rootfs"), filepath.Join(cfg.ExecRoot, "io"), filepath.Join(cfg.ExecRoot, "views"), filepath.Join(cfg.ExecRoot, "shm")} {
		if err := os.MkdirAll(dir, 0o710); err != nil {
			return nil, err
		}
	}
	background, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	return &Manager{
		cfg:        cfg,
		records:    records,
		names:      names,
		locks:      keylock.New(),
		layers:     &layers{client: cfg.Client, mounts: filepath.Join(cfg.ExecRoot, "rootfs")},
		containers: map[string]*container{},
		execs:      map[string]*execution{},
		background: background,
		stop:       stop,
	}, nil
}

// Close ends the background work and waits for it. Containers keep running.
func (m *Manager) Close() {
	m.stop(errClosing)
	m.wg.Wait()
}

// Locks shows who holds and who waits for containers' locks.
func (m *Manager) Locks() []keylock.Info {
	return m.locks.Snapshot()
}

// find resolves a full id, a name, or an unambiguous beginning of an id, in
// this order, as Docker does.
func (m *Manager) find(ref string) (*container, error) {
	if ref == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("No container name or ID supplied")
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if c := m.containers[ref]; c != nil {
		return c, nil
	}
	name := strings.TrimPrefix(ref, "/")
	var found *container
	for id, c := range m.containers {
		if c.record.Load().Name == name {
			return c, nil
		}
		if !strings.HasPrefix(id, ref) {
			continue
		}
		if found != nil {
			// Not final: a container may still have this as its name.
			found = ambiguous
			continue
		}
		found = c
	}
	switch found {
	case nil:
		return nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	case ambiguous:
		return nil, errdefs.ErrInvalidArgument.WithMessage("multiple IDs found with provided prefix: " + ref)
	}
	return found, nil
}

// ambiguous stands for more than one container in a search by prefix.
var ambiguous = new(container)

// all returns the containers, newest first.
func (m *Manager) all() []*container {
	m.mu.RLock()
	list := make([]*container, 0, len(m.containers))
	for _, c := range m.containers {
		list = append(list, c)
	}
	m.mu.RUnlock()
	slices.SortFunc(list, func(a, b *container) int {
		return cmp.Or(b.record.Load().Created.Compare(a.record.Load().Created), cmp.Compare(a.id, b.id))
	})
	return list
}

// transition takes the container's lock for a change of its state. It fails if
// the container is gone by the time the lock is had.
func (m *Manager) transition(ctx context.Context, c *container, operation string) (unlock func(), err error) {
	unlock, err = m.locks.Lock(keylock.WithOperation(ctx, operation), c.id)
	if err != nil {
		return nil, err
	}
	return m.ifPresent(c, unlock)
}

// share takes the container's lock so that its state does not change meanwhile.
func (m *Manager) share(ctx context.Context, c *container, operation string) (unlock func(), err error) {
	unlock, err = m.locks.RLock(keylock.WithOperation(ctx, operation), c.id)
	if err != nil {
		return nil, err
	}
	return m.ifPresent(c, unlock)
}

func (m *Manager) ifPresent(c *container, unlock func()) (func(), error) {
	select {
	case <-c.removed:
		unlock()
		return nil, errdefs.ErrNotFound.WithMessage("No such container: " + c.id)
	default:
		return unlock, nil
	}
}

// publish sends a container event with the attributes that Docker gives it: the
// labels, the image, the name, and those of the event.
func (m *Manager) publish(c *container, action mobyevents.Action, extra map[string]string) {
	r := c.record.Load()
	attributes := make(map[string]string, len(r.Config.Labels)+len(extra)+2)
	maps.Copy(attributes, r.Config.Labels)
	attributes["image"] = r.Config.Image
	attributes["name"] = r.Name
	maps.Copy(attributes, extra)
	m.cfg.Events.Publish(mobyevents.ContainerEventType, action, c.id, attributes)
}

// log returns a logger for one container.
func (m *Manager) log(c *container) *slog.Logger {
	return m.cfg.Logger.With(slog.String("container", c.id[:12]), slog.String("name", c.record.Load().Name))
}

// dir is where the container's own files lie.
func (m *Manager) dir(id string) string {
	return filepath.Join(m.cfg.DataRoot, "containers", id)
}

// after runs f in the background after d unless the manager is closed first.
func (m *Manager) after(ctx context.Context, d time.Duration, f func(context.Context)) {
	m.wg.Go(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			f(ctx)
		case <-ctx.Done():
		}
	})
}

func notRunning(c *container) error {
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is not running", c.id))
}
