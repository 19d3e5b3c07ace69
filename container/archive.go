package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"slipway/container/rootfs"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// view is a container's file tree opened for copying: the running container's
// own view with its volumes, or the mounted root of a stopped one.
type view struct {
	root    *rootfs.Root
	release func() error
	ctx     context.Context //nolint:containedctx // ends with the request, and with the run or the container
	cancel  context.CancelCauseFunc
	unwatch func() bool
}

// open gives access to the container's files. The container's lock is held only
// while it is opened, so that stop and rm do not wait for a slow client.
func (m *Manager) open(ctx context.Context, c *container) (_ *view, err error) {
	unlock, err := m.share(ctx, c, "cp")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if run := c.run.Load(); run != nil {
		if root, release, err := m.openRunning(ctx, c, run); err == nil {
			return newView(ctx, run.streams, root, release), nil
		}
	}
	root, release, err := m.openStopped(ctx, c)
	if err != nil {
		return nil, err
	}
	return newView(ctx, c.files, root, release), nil
}

// newView makes a view that ends with life, too.
func newView(ctx, life context.Context, root *rootfs.Root, release func() error) *view {
	v := &view{root: root, release: release}
	v.ctx, v.cancel = context.WithCancelCause(ctx)
	v.unwatch = context.AfterFunc(life, func() { v.cancel(context.Cause(life)) })
	return v
}

func (v *view) close() error {
	v.unwatch()
	v.cancel(nil)
	return errors.Join(v.root.Close(), v.release())
}

// ArchiveStat describes a path in the container.
func (m *Manager) ArchiveStat(ctx context.Context, ref, path string) (stat mobycontainer.PathStat, err error) {
	c, err := m.find(ref)
	if err != nil {
		return stat, err
	}
	v, err := m.open(ctx, c)
	if err != nil {
		return stat, err
	}
	stat, err = v.root.Stat(path)
	return stat, errors.Join(missing(err, path, ref), v.close())
}

// ArchiveGet returns a tar stream of a path in the container. Its reader must be closed.
func (m *Manager) ArchiveGet(ctx context.Context, ref, path string) (io.ReadCloser, mobycontainer.PathStat, error) {
	c, err := m.find(ref)
	if err != nil {
		return nil, mobycontainer.PathStat{}, err
	}
	v, err := m.open(ctx, c)
	if err != nil {
		return nil, mobycontainer.PathStat{}, err
	}
	stat, err := v.root.Stat(path)
	if err != nil {
		return nil, stat, errors.Join(missing(err, path, ref), v.close())
	}
	r, w := io.Pipe()
	stop := context.AfterFunc(v.ctx, func() { _ = w.CloseWithError(context.Cause(v.ctx)) })
	done := make(chan error, 1)
	go func() {
		err := v.root.Archive(v.ctx, path, w)
		_ = w.CloseWithError(err)
		stop()
		done <- v.close()
	}()
	return &archiveReader{PipeReader: r, done: done}, stat, nil
}

// archiveReader ends the archiving when it is closed, and waits for it.
type archiveReader struct {
	*io.PipeReader
	done <-chan error
}

func (a *archiveReader) Close() error {
	return errors.Join(a.PipeReader.Close(), <-a.done)
}

// ArchivePut extracts a tar stream into a directory of the container.
func (m *Manager) ArchivePut(ctx context.Context, ref, path string, tar io.Reader, noOverwriteDirNonDir, copyUIDGID bool) (err error) {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	v, err := m.open(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	r := c.record.Load()
	if err := v.root.Writable(path); err != nil {
		return missing(err, path, ref)
	}
	opts := rootfs.ExtractOptions{NoOverwriteDirNonDir: noOverwriteDirNonDir}
	if copyUIDGID && r.Config.User != "" {
		if opts.Owner, err = ownerOf(v.root, r.Config.User); err != nil {
			return err
		}
	}
	return missing(v.root.Extract(v.ctx, path, tar, opts), path, ref)
}

func missing(err error, path, ref string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("Could not find the file %s in container %s", path, ref))
	}
	return err
}

// Changes lists what the container changed in its image's files.
func (m *Manager) Changes(ctx context.Context, ref string) ([]mobycontainer.FilesystemChange, error) {
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	unlock, err := m.share(ctx, c, "diff")
	if err != nil {
		return nil, err
	}
	defer unlock()
	exclude := slices.Clone(ownFiles)
	for _, mount := range c.record.Load().Mounts {
		exclude = append(exclude, mount.Destination)
	}
	return m.changes(ctx, c, exclude)
}
