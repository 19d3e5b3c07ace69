package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// spaceStep is how many bytes come in between two looks at the space that is
	// left, well below the least that a pool keeps for running containers.
	spaceStep = 64 << 20
	// spacePause is the time between two looks while a layer is unpacked: how many
	// bytes that writes is known only when it is done.
	spacePause = 50 * time.Millisecond
)

// Space knows whether there is room. [slipway/clonefs.Pool] is one.
type Space interface {
	// CheckSpace fails, with a sentence for the user, when what is left is kept for
	// running containers.
	CheckSpace(ctx context.Context) error
}

// room lets images come in while there is space for them. An archive does not say
// beforehand what it will take, and a registry need not be believed.
type room struct {
	space Space        // may be nil
	bytes atomic.Int64 // written by all operations since the last look
}

func (r *room) check(ctx context.Context) error {
	if r.space == nil {
		return nil
	}
	return r.space.CheckSpace(ctx)
}

// take is told that n bytes are being written.
func (r *room) take(ctx context.Context, n int) error {
	if r.bytes.Add(int64(n)) < spaceStep {
		return nil
	}
	r.bytes.Store(0)
	return r.check(ctx)
}

// during ends do when space gets short, and then returns the reason.
func (r *room) during(ctx context.Context, do func(context.Context) error) error {
	if err := r.check(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var short error
	var watcher sync.WaitGroup
	done := make(chan struct{})
	watcher.Go(func() {
		ticker := time.NewTicker(spacePause)
		defer ticker.Stop()
		for short == nil {
			select {
			case <-done:
				return
			case <-ticker.C:
				short = r.check(ctx)
			}
		}
		cancel(short)
	})
	err := do(ctx)
	close(done)
	watcher.Wait()
	if err != nil && short != nil {
		return short
	}
	return err
}

// store copies what an archive holds into the content store. A failure to read is
// the archive's, a failure to write is not.
func (m *Manager) store(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	from := &source{r: r}
	to := roomyWriter{w: w, take: func(n int) error { return m.room.take(ctx, n) }}
	n, err := io.CopyBuffer(to, from, make([]byte, 1<<20))
	if err != nil && from.err != nil && errors.Is(err, from.err) {
		return n, invalidArchive(err)
	}
	if err != nil {
		return n, fmt.Errorf("storing the archive's content: %w", err)
	}
	return n, nil
}

// source remembers why it could not be read.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// roomyWriter asks for room first.
type roomyWriter struct {
	w    io.Writer
	take func(n int) error
}

func (w roomyWriter) Write(p []byte) (int, error) {
	if err := w.take(len(p)); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}
