package clonefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	spans "slipway/internal/span"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	defPasses = 4
	// shortPass is a pass after which Prepare has nothing more to gain.
	shortPass = 100 * time.Millisecond
)

// Copy clones several trees as of one moment. Its methods are called one after
// the other: Prepare (optional), Finish, Sync; Discard at any point. It is not
// safe for concurrent use.
type Copy struct {
	opts    Options
	trees   []*tree
	begun   bool
	done    bool
	failed  error
	passes  int
	prepare Work
}

// NewCopy returns a copy of the given trees; nothing is touched yet.
func NewCopy(trees []Tree, opts Options) *Copy {
	if opts.MaxPasses <= 0 {
		opts.MaxPasses = defPasses
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Copy{opts: opts}
	for _, t := range trees {
		c.trees = append(c.trees, newTree(t))
	}
	return c
}

// Prepare clones the trees beside their writers, again and again until little
// changes between two passes, so that little is left for Finish. After an
// error the copy is good for Discard only.
func (c *Copy) Prepare(ctx context.Context) error {
	if err := c.begin(); err != nil {
		return err
	}
	last := time.Duration(1<<63 - 1)
	for range c.opts.MaxPasses {
		if err := c.writeBack(ctx); err != nil {
			return err
		}
		start := time.Now()
		work, err := c.pass(ctx, true)
		if err != nil {
			return err
		}
		work.Duration = time.Since(start)
		c.prepare.add(work)
		if work.Duration < shortPass || work.Duration > last/2 {
			break
		}
		last = work.Duration
	}
	return nil
}

// writeBack writes what the writers have changed, so that the pass after it finds
// it on the disk.
func (c *Copy) writeBack(ctx context.Context) error {
	defer spans.Start(ctx, "write back")()
	for _, t := range c.trees {
		t.trust.synced = t.trust.now()
	}
	written := map[uint64]bool{} // by device
	for _, t := range c.trees {
		dir := t.sources()[0] // layers below are at rest
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return c.fail(fmt.Errorf("sync %s: %w", dir, err))
		}
		if written[st.Dev] {
			continue
		}
		if err := Sync(ctx, dir); err != nil {
			return c.fail(err)
		}
		written[st.Dev] = true
	}
	return nil
}

// Finish makes the clones equal to the trees as they are now. The caller keeps
// all writers frozen during the call. Without Prepare it does all the work.
func (c *Copy) Finish(ctx context.Context) (Stats, error) {
	if err := c.begin(); err != nil {
		return Stats{}, err
	}
	start := time.Now()
	work, err := c.pass(ctx, false)
	if err != nil {
		return Stats{}, err
	}
	work.Duration = time.Since(start)
	c.done = true
	out := Stats{Prepare: c.prepare, Finish: work}
	for _, t := range c.trees {
		out.Files += t.stats.Files
		out.Directories += t.stats.Directories + 1 // the root
		out.Others += t.stats.Others
		out.HardLinks += t.stats.HardLinks
		out.Bytes += t.stats.Bytes
	}
	return out, nil
}

// Sync makes the clones durable. It is called after the thaw: it may take long.
func (c *Copy) Sync(ctx context.Context) error {
	if c.failed != nil {
		return c.failed
	}
	if !c.done {
		return errdefs.ErrFailedPrecondition.WithMessage("the copy is not finished")
	}
	for _, t := range c.trees {
		if err := Sync(ctx, t.spec.Dst); err != nil {
			return err
		}
	}
	return nil
}

// Discard removes all that the copy has made. It can be called again.
func (c *Copy) Discard(context.Context) error {
	c.failed = errdefs.ErrFailedPrecondition.WithMessage("the copy was discarded")
	if !c.begun {
		return nil
	}
	var err error
	for _, t := range c.trees {
		if t.begun {
			err = errors.Join(err, t.discard())
		}
	}
	return err
}

func (c *Copy) begin() error {
	switch {
	case c.failed != nil:
		return c.failed
	case c.done:
		return errdefs.ErrFailedPrecondition.WithMessage("the copy is finished already")
	case c.begun:
		return nil
	}
	c.begun = true
	for _, t := range c.trees {
		if err := t.begin(); err != nil {
			return c.fail(err)
		}
	}
	return nil
}

func (c *Copy) fail(err error) error {
	c.failed = err
	return err
}

// pass runs one pass over all trees.
func (c *Copy) pass(ctx context.Context, sliced bool) (Work, error) {
	defer spans.Start(ctx, "clone pass")()
	c.passes++
	var sum Work
	for _, t := range c.trees {
		t.work = Work{}
		if err := t.run(ctx, passMode{number: c.passes, sliced: sliced}); err != nil {
			return sum, c.fail(err)
		}
		sum.add(t.work)
	}
	sum.Passes = 1
	c.opts.Logger.LogAttrs(ctx, slog.LevelDebug, "clone pass", slog.Int("number", c.passes), slog.Int64("inspected", sum.Inspected),
		slog.Int64("created", sum.Created), slog.Int64("ranges", sum.Ranges), slog.Int64("bytes_cloned", sum.BytesCloned), slog.Int64("bytes_copied", sum.BytesCopied))
	return sum, nil
}

// Clone clones the tree src to dst, which must be empty or absent, in one pass.
// It is not durable before [Sync]. If it fails it leaves nothing behind.
func Clone(ctx context.Context, src, dst string) (Stats, error) {
	return once(ctx, Tree{Src: src, Dst: dst})
}

// Merge clones the tree that overlayfs would show of the layers, top first, to
// dst, which must be empty or absent. Layers with redirected directories or
// metadata-only files are errdefs.ErrFailedPrecondition. It is not durable
// before [Sync]. If it fails it leaves nothing behind.
func Merge(ctx context.Context, layers []string, dst string) (Stats, error) {
	if len(layers) == 0 {
		return Stats{}, errdefs.ErrInvalidArgument.WithMessage("no layers to merge")
	}
	return once(ctx, Tree{Layers: layers, Dst: dst})
}

func once(ctx context.Context, t Tree) (Stats, error) {
	c := NewCopy([]Tree{t}, Options{})
	stats, err := c.Finish(ctx)
	if err != nil {
		return Stats{}, errors.Join(err, c.Discard(ctx))
	}
	return stats, nil
}

// Sync writes back everything of the file system that holds path.
func Sync(ctx context.Context, path string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	fd, err := openAt(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	defer closeFD(fd)
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

func (w *Work) add(o Work) {
	w.Duration += o.Duration
	w.Passes += o.Passes
	w.Inspected += o.Inspected
	w.Created += o.Created
	w.Compared += o.Compared
	w.BytesCloned += o.BytesCloned
	w.BytesCopied += o.BytesCopied
	w.Ranges += o.Ranges
	w.Extents += o.Extents
	w.Refreshed += o.Refreshed
}
