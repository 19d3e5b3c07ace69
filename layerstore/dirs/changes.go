package dirs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Kind is what happened to a file.
type Kind int

// What can have happened to a file between two trees.
const (
	Added Kind = iota
	Modified
	Deleted
)

// Change is one difference between two trees.
type Change struct {
	Path string // beneath the root, separated by slashes
	Kind Kind
	Info fs.FileInfo // in the upper tree; in the lower one of what was deleted
}

// Changes calls fn with the differences between the trees lower and upper in a fixed
// order: of each directory first what was deleted, then the rest by name, a directory
// before what is in it. An empty lower is an empty tree.
//
// A file counts as unchanged if kind, size, time of the last change and attributes
// are the same and, with exact, the content is: a program may write without changing
// the time, which a quick look takes as read. A deleted directory is one change.
// What lies behind a directory junction belongs to no tree.
func Changes(ctx context.Context, lower, upper string, exact bool, fn func(Change) error) error {
	c := &comparer{lower: lower, upper: upper, exact: exact, fn: fn}
	return c.directory(ctx, ".", lower != "")
}

type comparer struct {
	lower, upper string
	exact        bool
	fn           func(Change) error
	buffers      [2][]byte
}

// directory compares the entries of rel, which the lower tree has too if both.
func (c *comparer) directory(ctx context.Context, rel string, both bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	uppers, err := os.ReadDir(c.at(c.upper, rel))
	if err != nil {
		return err
	}
	var lowers []fs.DirEntry
	if both {
		if lowers, err = os.ReadDir(c.at(c.lower, rel)); err != nil {
			return err
		}
	}
	byName := func(entry fs.DirEntry, name string) int { return strings.Compare(entry.Name(), name) }
	for _, entry := range lowers {
		if _, ok := slices.BinarySearchFunc(uppers, entry.Name(), byName); ok {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if err := c.fn(Change{Path: path.Join(rel, entry.Name()), Kind: Deleted, Info: info}); err != nil {
			return err
		}
	}
	for _, entry := range uppers {
		var old fs.DirEntry
		if i, ok := slices.BinarySearchFunc(lowers, entry.Name(), byName); ok {
			old = lowers[i]
		}
		if err := c.entry(ctx, path.Join(rel, entry.Name()), old, entry); err != nil {
			return err
		}
	}
	return nil
}

// entry compares what the trees have at rel; old is nil if the lower has nothing.
func (c *comparer) entry(ctx context.Context, rel string, old, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	junction := isJunction(info)
	if old == nil {
		if err := c.fn(Change{Path: rel, Kind: Added, Info: info}); err != nil {
			return err
		}
		if !info.IsDir() || junction {
			return nil
		}
		return c.directory(ctx, rel, false)
	}
	if junction && old.IsDir() {
		return nil // what is mounted hides what is there
	}
	oldInfo, err := old.Info()
	if err != nil {
		return err
	}
	same, err := c.same(ctx, rel, oldInfo, info)
	if err != nil {
		return err
	}
	if !same {
		if err := c.fn(Change{Path: rel, Kind: Modified, Info: info}); err != nil {
			return err
		}
	}
	if !info.IsDir() || junction {
		return nil
	}
	return c.directory(ctx, rel, oldInfo.IsDir())
}

func (c *comparer) at(tree, rel string) string { return filepath.Join(tree, filepath.FromSlash(rel)) }

func (c *comparer) same(ctx context.Context, rel string, old, info fs.FileInfo) (bool, error) {
	if old.Mode() != info.Mode() || !sameAttributes(old, info) {
		return false, nil
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		was, err := os.Readlink(c.at(c.lower, rel))
		if err != nil {
			return false, err
		}
		is, err := os.Readlink(c.at(c.upper, rel))
		return was == is, err
	case !info.Mode().IsRegular():
		return true, nil
	case old.Size() != info.Size() || !old.ModTime().Equal(info.ModTime()):
		return false, nil
	case !c.exact || info.Size() == 0:
		return true, nil
	}
	return c.sameContent(ctx, rel)
}

func (c *comparer) sameContent(ctx context.Context, rel string) (same bool, err error) {
	if c.buffers[0] == nil {
		c.buffers = [2][]byte{make([]byte, 256<<10), make([]byte, 256<<10)}
	}
	lower, err := os.Open(c.at(c.lower, rel))
	if err != nil {
		return false, err
	}
	defer lower.Close()
	upper, err := os.Open(c.at(c.upper, rel))
	if err != nil {
		return false, err
	}
	defer upper.Close()
	for {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		n, err := io.ReadFull(lower, c.buffers[0])
		m, otherErr := io.ReadFull(upper, c.buffers[1])
		if !bytes.Equal(c.buffers[0][:n], c.buffers[1][:m]) {
			return false, nil
		}
		if isEnd(err) && isEnd(otherErr) {
			return true, nil
		}
		if err := errors.Join(err, otherErr); err != nil {
			return false, err
		}
	}
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
