package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"slipway/internal/pipe"
	"slipway/internal/relay"
)

const (
	// inputPatience is how long the engine may take until it listens for a process's input.
	inputPatience = 30 * time.Second
	// drainPatience is how long the rest of an output may take to be stored after its process has
	// ended; the log keeper may be on its way to be replaced.
	drainPatience = 10 * time.Second
	// logPatience is how long one line of the shim's own log may take.
	logPatience = 100 * time.Millisecond
)

// streams are the standard streams of one process: pipes of the system at the process's end, named
// pipes at the other, and copying between them.
type streams struct {
	log    *slog.Logger
	stop   context.CancelCauseFunc
	copies sync.WaitGroup // outputs
	input  sync.WaitGroup

	// What the process inherits; closed here once it has them.
	stdin, stdout, stderr *os.File

	mu    sync.Mutex
	write *os.File // our end of the input, nil once closed
	sizes *os.File // our end of what tells a console its size, nil once closed
	read  []*os.File
}

// newStreams makes the streams for the named pipes; an empty name is no stream.
func newStreams(ctx context.Context, log *slog.Logger, p *process) (_ *streams, err error) {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &streams{log: log, stop: stop}
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	if p.stdin != "" {
		if s.stdin, s.write, err = os.Pipe(); err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		s.input.Go(func() { s.copyInput(ctx, p.stdin) })
	}
	if s.stdout, err = s.output(ctx, p.stdout); err != nil {
		return nil, err
	}
	if p.spec.Terminal {
		if s.stderr, s.sizes, err = os.Pipe(); err != nil {
			return nil, fmt.Errorf("sizes of the terminal: %w", err)
		}
		return s, nil
	}
	s.stderr, err = s.output(ctx, p.stderr)
	return s, err
}

// output makes one output and returns the process's end of it.
func (s *streams) output(ctx context.Context, path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("standard output: %w", err)
	}
	s.read = append(s.read, read)
	sender := relay.NewSender(ctx, func(ctx context.Context) (net.Conn, error) { return pipe.Dial(ctx, path) })
	s.copies.Go(func() {
		_, err := io.Copy(sender, read)
		if err != nil && !errors.Is(err, os.ErrClosed) {
			s.log.WarnContext(ctx, "reading a process's output failed", slog.Any("error", err))
		}
		ctx, cancel := context.WithTimeoutCause(ctx, drainPatience, errors.New("nobody takes it"))
		defer cancel()
		if err := sender.Close(ctx); err != nil {
			s.log.ErrorContext(ctx, "output of the container is lost", slog.String("pipe", path), slog.Any("error", err))
		}
	})
	return write, nil
}

// copyInput copies what the engine sends until its connection ends, which is the input's end.
func (s *streams) copyInput(ctx context.Context, path string) {
	defer s.closeInput()
	conn, err := dialPatiently(ctx, path)
	if err != nil {
		s.log.WarnContext(ctx, "the process gets no input", slog.Any("error", err))
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	s.mu.Lock()
	to := s.write
	s.mu.Unlock()
	if to != nil {
		_, _ = io.Copy(to, conn) // ends with the process, too
	}
	_ = conn.Close()
}

// dialPatiently waits for a pipe that may not be there yet.
func dialPatiently(ctx context.Context, path string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, inputPatience, errors.New("nobody listens"))
	defer cancel()
	for {
		conn, err := pipe.Dial(ctx, path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// closeInput ends the process's input. Further calls do nothing.
func (s *streams) closeInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.write != nil {
		_ = s.write.Close()
		s.write = nil
	}
}

// resize tells the process the size of its terminal. Without a terminal it is
// errdefs.ErrFailedPrecondition.
func (s *streams) resize(width, height uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sizes == nil {
		return fmt.Errorf("the process has no terminal: %w", errdefs.ErrFailedPrecondition)
	}
	return writeSize(s.sizes, width, height)
}

// interrupt types Ctrl-C at the process's terminal, and reports whether it has one.
func (s *streams) interrupt() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sizes == nil || s.write == nil {
		return false, nil
	}
	_, err := s.write.Write([]byte{3})
	return true, err
}

// handedOver closes the process's ends, which it has now.
func (s *streams) handedOver() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// drain waits until the outputs have ended and are stored, for a while: something that the process
// has left may hold them open.
func (s *streams) drain() {
	done := make(chan struct{})
	go func() { s.copies.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(drainPatience):
	}
	s.abandon()
	<-done
}

// abandon ends all copying.
func (s *streams) abandon() {
	s.handedOver()
	s.closeInput()
	s.stop(errors.New("the streams are closed"))
	s.mu.Lock()
	for _, f := range s.read {
		_ = f.Close()
	}
	if s.sizes != nil {
		_ = s.sizes.Close()
		s.sizes = nil
	}
	s.mu.Unlock()
	s.copies.Wait()
	s.input.Wait()
}
