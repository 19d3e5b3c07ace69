package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"slipway/internal/keylock"
	"slipway/layerstore"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
)

// DefaultMaxChain is how many layers made late may lie on each other before a
// commit flattens them into one.
const DefaultMaxChain = 24

// Publisher receives what happened to images. [slipway/events.Bus] is one.
type Publisher interface {
	Publish(typ events.Type, action events.Action, actorID string, attributes map[string]string)
}

// FlattenFunc merges overlayfs upper directories, newest first, into the empty
// directory dst so that dst can replace them all above the same parent: files
// by reflink, whiteouts and opaque directories kept.
type FlattenFunc func(ctx context.Context, layers []string, dst string) error

// User is a container that was made from an image.
type User struct {
	ID      string
	Running bool
}

// InUseFunc returns the containers made from the image with the given public
// ID. It must not call the Manager.
type InUseFunc func(id digest.Digest) []User

// Config is what New needs.
type Config struct {
	// Client is containerd's client. Required.
	Client *containerd.Client
	// Snapshotter is the name of the snapshotter; the system's if empty.
	Snapshotter string
	// Root is a directory on the file system that holds containerd's content
	// and snapshots: it is synced before an image's record is written. Required.
	Root string
	// Events receives image events; may be nil.
	Events Publisher
	// Space is asked as images come in, again and again; if nil there is always
	// room.
	Space Space
	// Flatten merges layers; if nil, chains grow without limit.
	Flatten FlattenFunc
	// MaxChain is the longest chain of layers made late; DefaultMaxChain if 0.
	MaxChain int
	// InsecureRegistries lists host[:port] and CIDR entries to which plain HTTP
	// and unverified TLS are allowed. Loopback always is.
	InsecureRegistries []string
	// Logger is required.
	Logger *slog.Logger
}

// Manager is the image store. Its methods are safe for concurrent use.
type Manager struct {
	client      *containerd.Client
	content     content.Store
	images      images.Store
	leases      leases.Manager
	snapshots   snapshots.Snapshotter
	snapshotter string
	whole       bool // see layout.go
	root        string
	platform    platforms.MatchComparer
	events      Publisher
	flatten     FlattenFunc
	room        *room
	maxChain    int
	registries  *registryRules
	locks       *keylock.Locker
	active      activeLeases
	log         *slog.Logger
}

// New returns a Manager over containerd's stores.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.Root == "" || cfg.Logger == nil {
		return nil, errors.New("image: Client, Root and Logger are required")
	}
	if cfg.Snapshotter == "" {
		cfg.Snapshotter = layerstore.Snapshotter
	}
	if cfg.MaxChain <= 0 {
		cfg.MaxChain = DefaultMaxChain
	}
	rules, err := parseRegistryRules(cfg.InsecureRegistries)
	if err != nil {
		return nil, err
	}
	return &Manager{
		client:      cfg.Client,
		content:     cfg.Client.ContentStore(),
		images:      cfg.Client.ImageService(),
		leases:      cfg.Client.LeasesService(),
		snapshots:   cfg.Client.SnapshotService(cfg.Snapshotter),
		snapshotter: cfg.Snapshotter,
		whole:       isWhole(cfg.Snapshotter),
		root:        cfg.Root,
		platform:    hostPlatform(),
		events:      cfg.Events,
		flatten:     cfg.Flatten,
		room:        &room{space: cfg.Space},
		maxChain:    cfg.MaxChain,
		registries:  rules,
		locks:       keylock.New(),
		active:      activeLeases{ids: map[string]struct{}{}},
		log:         cfg.Logger,
	}, nil
}

// Restore drops what operations of an earlier process left half made. It must
// run once, before any other operation.
func (m *Manager) Restore(ctx context.Context) error {
	left, err := m.leases.List(ctx, fmt.Sprintf("labels.%q", labelOperation))
	if err != nil {
		return fmt.Errorf("listing leases of images: %w", err)
	}
	for i, lease := range left {
		m.log.LogAttrs(ctx, slog.LevelInfo, "dropping an unfinished image operation",
			slog.String("lease", lease.ID), slog.String("operation", lease.Labels[labelOperation]))
		var opts []leases.DeleteOpt
		if i == len(left)-1 {
			opts = append(opts, leases.SynchronousDelete)
		}
		if err := m.leases.Delete(ctx, lease, opts...); err != nil {
			return fmt.Errorf("dropping lease %s: %w", lease.ID, err)
		}
	}
	return nil
}

// activeLeases knows the leases that this process is using.
type activeLeases struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

func (a *activeLeases) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids[id] = struct{}{}
}

func (a *activeLeases) remove(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.ids, id)
}

func (a *activeLeases) has(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.ids[id]
	return ok
}

// lease returns a context under which everything that is written is kept from
// garbage collection until done is called. Done takes the operation's result:
// after a failure, and after a load, it waits until what is of no use is gone.
func (m *Manager) lease(ctx context.Context, operation string) (_ context.Context, done func(err *error), err error) {
	id := "slipway-image-" + operation + "-" + rand.Text()
	m.active.add(id)
	lease, err := m.leases.Create(ctx, leases.WithID(id), leases.WithLabel(labelOperation, operation))
	if err != nil {
		m.active.remove(id)
		return nil, nil, fmt.Errorf("creating a lease: %w", err)
	}
	done = func(err *error) {
		defer m.active.remove(id)
		var opts []leases.DeleteOpt
		// A load may leave archives of layers that are there already, as large as
		// they are; by itself the collector comes only after many more changes.
		if *err != nil || operation == "load" {
			opts = append(opts, leases.SynchronousDelete)
		}
		if lerr := m.leases.Delete(context.WithoutCancel(ctx), lease, opts...); lerr != nil {
			m.log.LogAttrs(ctx, slog.LevelWarn, "image operation left a lease", slog.String("lease", id), slog.Any("error", lerr))
		}
	}
	return leases.WithLease(ctx, id), done, nil
}

func (m *Manager) publish(action events.Action, actor string, attributes map[string]string) {
	if m.events != nil {
		m.events.Publish(events.ImageEventType, action, actor, attributes)
	}
}
