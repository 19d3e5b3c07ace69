package clonefs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"

	"slipway/internal/treecopy"
)

// Sync makes the tree at dir last through a loss of power.
func Sync(ctx context.Context, dir string) error { return treecopy.Sync(ctx, dir) }

// Measure adds up the sizes of the tree at dir. What of it shares blocks with others
// is not known.
func Measure(ctx context.Context, dir string) (Usage, error) {
	var u Usage
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		u.Files++
		if fi.Mode().IsRegular() {
			u.Apparent += fi.Size()
		}
		return nil
	})
	u.Allocated, u.Unique = u.Apparent, u.Apparent
	return u, err
}

// Copy copies plain trees. Its methods are called one after the other: Prepare,
// Finish, Sync; Discard at any point.
type Copy struct{ trees []Tree }

// NewCopy returns a copy of the given trees; nothing is touched yet.
func NewCopy(trees []Tree, _ Options) *Copy { return &Copy{trees: trees} }

// Prepare does nothing: a file cannot be copied while it is written to.
func (c *Copy) Prepare(context.Context) error { return nil }

// Finish copies the trees. A tree of Layers may have one, which is a whole tree;
// more are errdefs.ErrNotImplemented. A file that is in use in a way that forbids
// reading it is errdefs.ErrFailedPrecondition.
func (c *Copy) Finish(ctx context.Context) (Stats, error) {
	var total Stats
	start := time.Now()
	for _, t := range c.trees {
		src := t.Src
		switch len(t.Layers) {
		case 0:
		case 1:
			src = t.Layers[0]
		default:
			return Stats{}, errdefs.ErrNotImplemented.WithMessage("layers cannot be merged on Windows")
		}
		copied, err := treecopy.Copy(ctx, treecopy.Probe(filepath.Dir(t.Dst)), t.Dst, src)
		if err != nil {
			return Stats{}, err
		}
		total.Files += copied.Files
		total.Directories += copied.Directories
		total.Others += copied.Links
		total.Bytes += copied.Bytes()
		total.Finish.BytesCloned += copied.Shared
		total.Finish.BytesCopied += copied.Copied
		total.Finish.Created += copied.Files + copied.Directories + copied.Links
	}
	total.Finish.Inspected = total.Finish.Created
	total.Finish.Passes = 1
	total.Finish.Duration = time.Since(start)
	return total, nil
}

// Sync makes the copies last through a loss of power.
func (c *Copy) Sync(ctx context.Context) error {
	for _, t := range c.trees {
		if err := treecopy.Sync(ctx, t.Dst); err != nil {
			return err
		}
	}
	return nil
}

// Discard removes the destinations.
func (c *Copy) Discard(context.Context) error {
	var err error
	for _, t := range c.trees {
		err = errors.Join(err, os.RemoveAll(t.Dst))
	}
	return err
}

// Clone copies the tree src to dst. If it fails it leaves nothing behind.
func Clone(ctx context.Context, src, dst string) (Stats, error) {
	c := NewCopy([]Tree{{Src: src, Dst: dst}}, Options{})
	stats, err := c.Finish(ctx)
	if err != nil {
		return Stats{}, errors.Join(err, c.Discard(ctx))
	}
	return stats, nil
}

// Merge copies the one layer that there may be.
func Merge(ctx context.Context, layers []string, dst string) (Stats, error) {
	c := NewCopy([]Tree{{Layers: layers, Dst: dst}}, Options{})
	stats, err := c.Finish(ctx)
	if err != nil {
		return Stats{}, errors.Join(err, c.Discard(ctx))
	}
	return stats, nil
}
