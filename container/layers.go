package container

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"slipway/internal/failpoint"
	"slipway/internal/span"
	"slipway/layerstore"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// gcRoot is containerd's label for what its garbage collector must keep.
const gcRoot = "containerd.io/gc.root"

// layers keeps the containers' writable layers: one containerd snapshot for
// each, whose key is the container's id, mounted while something needs its files.
// It is safe for concurrent use.
type layers struct {
	client *containerd.Client
	mounts string // directory of mount points

	mu   sync.Mutex
	refs map[string]rootRef // mounted roots, by id
	busy map[string]*sync.Mutex
}

// rootRef is a root that is mounted.
type rootRef struct {
	users int
	path  string
}

func (l *layers) snapshotter() snapshots.Snapshotter {
	return l.client.SnapshotService(layerstore.Snapshotter)
}

// prepare makes the writable layer of container id on top of the chain. It lasts
// through a loss of power.
func (l *layers) prepare(ctx context.Context, id, chain string) error {
	defer span.Start(ctx, "prepare snapshot")()
	mounts, err := l.snapshotter().Prepare(ctx, id, chain, snapshots.WithLabels(map[string]string{
		gcRoot: time.Now().UTC().Format(time.RFC3339),
	}))
	if err == nil {
		if err = layerstore.SyncSnapshot(mounts); err != nil {
			err = errors.Join(err, l.remove(ctx, id))
		}
	}
	failpoint.Hit("container.layer.prepared")
	return err
}

// remove deletes the writable layer. It is no error if there is none.
func (l *layers) remove(ctx context.Context, id string) error {
	defer span.Start(ctx, "remove snapshot")()
	failpoint.Hit("container.layer.remove")
	if err := l.snapshotter().Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// lockOf serialises mounting and unmounting of one root, so that two users of
// one container do not both mount it, while other containers do not wait.
func (l *layers) lockOf(id string) *sync.Mutex {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs == nil {
		l.refs, l.busy = map[string]rootRef{}, map[string]*sync.Mutex{}
	}
	if l.busy[id] == nil {
		l.busy[id] = new(sync.Mutex)
	}
	return l.busy[id]
}

// mount makes the root of container id available at the returned path until
// release is called as often as mount. A root that a daemon before this one
// mounted is adopted.
func (l *layers) mount(ctx context.Context, id string) (path string, err error) {
	defer span.Start(ctx, "mount root")()
	lock := l.lockOf(id)
	lock.Lock()
	defer lock.Unlock()
	ref := l.ref(id)
	if ref.users == 0 {
		if ref.path, err = l.mountRoot(ctx, id); err != nil {
			return "", fmt.Errorf("mounting the root of container %s: %w", id, err)
		}
	}
	ref.users++
	l.setRef(id, ref)
	return ref.path, nil
}

// release ends one use of the root, and unmounts it after the last.
func (l *layers) release(id string) error {
	lock := l.lockOf(id)
	lock.Lock()
	defer lock.Unlock()
	ref := l.ref(id)
	ref.users = max(ref.users-1, 0)
	l.setRef(id, ref)
	if ref.users > 0 {
		return nil
	}
	return l.unmount(id)
}

// forget unmounts the root whoever uses it, for a container that is removed.
func (l *layers) forget(id string) error {
	lock := l.lockOf(id)
	lock.Lock()
	defer lock.Unlock()
	err := l.unmount(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.refs, id)
	delete(l.busy, id)
	return err
}

// ref and setRef are called with the lock of the root.
func (l *layers) ref(id string) rootRef {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refs[id]
}

func (l *layers) setRef(id string, ref rootRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refs[id] = ref
}

func joinDirs(dirs []string) string { return strings.Join(dirs, ":") }
