package container

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"slipway/state"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// container is one container in memory: its published record, and what exists
// only while the daemon runs.
type container struct {
	id      string
	records *state.Bucket[Record]
	record  atomic.Pointer[Record]
	run     atomic.Pointer[run] // the life of its main process; nil when there is none
	removed chan struct{}       // closed when the container is gone

	starting atomic.Pointer[starting] // the latest start

	files    context.Context //nolint:containedctx // ends when the removal begins to delete the container's files
	cutFiles context.CancelCauseFunc

	mu   sync.Mutex // see the package documentation
	exit *exit      // the next end of the main process; guarded by mu
	ioMu sync.Mutex
	io   *stdio // of the coming or present run; guarded by ioMu
	// restarts counts the calls of Restart that wait for the process to end, which
	// is not the end that an automatic removal waits for.
	restarts atomic.Int32
	// restart is the back-off of the restart policy; guarded by the transition lock.
	restart backoff
}

// exit is an end of the main process that is being waited for.
type exit struct {
	done chan struct{}
	code int // valid when done is closed
}

func newContainer(r *Record, records *state.Bucket[Record]) *container {
	c := &container{id: r.ID, records: records, removed: make(chan struct{}), exit: &exit{done: make(chan struct{})}}
	c.files, c.cutFiles = context.WithCancelCause(context.Background())
	c.record.Store(r)
	return c
}

// update changes the record, stores it durably, and publishes it. change gets a
// copy of the record; it replaces maps and slices and never writes into them.
func (c *container) update(change func(*Record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.record.Load().clone()
	change(r)
	if err := c.records.Put(c.id, *r); err != nil {
		return err
	}
	c.record.Store(r)
	return nil
}

// updateVolatile changes the record as update does, but leaves the storing to
// the next durable change: for what the next start finds out anew.
func (c *container) updateVolatile(change func(*Record)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.record.Load().clone()
	change(r)
	c.record.Store(r)
}

// nextExit returns the end of the main process that comes next.
func (c *container) nextExit() *exit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exit
}

// finish tells those who wait that the main process has ended.
func (c *container) finish(code int) {
	c.mu.Lock()
	ended := c.exit
	c.exit = &exit{done: make(chan struct{})}
	c.mu.Unlock()
	ended.code = code
	close(ended.done)
}

// status is the state for conditions; it is a snapshot.
func (c *container) status() mobycontainer.ContainerState {
	return c.record.Load().State.Status
}

// errFilesCut is why a copy out of or into a container ends when it is removed.
var errFilesCut = errdefs.ErrConflict.WithMessage("the container was removed")

// errStreamsCut is why an attach, exec or copy ends when its container does.
var errStreamsCut = errdefs.ErrConflict.WithMessage("the container was stopped")

func oneOf[S comparable](s S, states ...S) bool {
	return slices.Contains(states, s)
}
