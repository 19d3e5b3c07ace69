package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"slipway/internal/span"

	"github.com/moby/moby/api/types/build"
)

// Config is what a [Server] is made of. Pool, Checker and Locks may be nil: their
// endpoints then answer 501. Without Spans nothing is recorded. All other parts are required.
type Config struct {
	Logger *slog.Logger
	// BaseContext returns the context that those of all requests derive from; it
	// carries the containerd namespace. It is called once for each listener.
	BaseContext func() context.Context
	// EngineVersion is the engine's release, for the Server header.
	EngineVersion string
	// Builder is the builder that clients are told to use.
	Builder build.BuilderVersion

	Containers Containers
	Images     Images
	Volumes    Volumes
	Networks   Networks
	Events     Events
	System     System

	Pool    Pool
	Checker Checker
	Locks   Locks
	Spans   *span.Log
}

func (c Config) validate() error {
	for _, part := range []struct {
		name    string
		missing bool
	}{
		{"Logger", c.Logger == nil},
		{"BaseContext", c.BaseContext == nil},
		{"Containers", c.Containers == nil},
		{"Images", c.Images == nil},
		{"Volumes", c.Volumes == nil},
		{"Networks", c.Networks == nil},
		{"Events", c.Events == nil},
		{"System", c.System == nil},
	} {
		if part.missing {
			return fmt.Errorf("api: %s is missing", part.name)
		}
	}
	return nil
}

const (
	// headerTimeout is how long a client may take to send a request's header.
	headerTimeout = 30 * time.Second
	// idleTimeout is how long an unused connection is kept.
	idleTimeout = 5 * time.Minute
	// closeGrace is how long handlers may take to return once their contexts
	// have ended and their connections are closed.
	closeGrace = 5 * time.Second
)

// Server serves the API. It is safe for concurrent use.
type Server struct {
	cfg    Config
	log    *slog.Logger
	mux    *http.ServeMux
	names  resolver
	origin http.CrossOriginProtection
	server http.Server
	calls  tracker
}

// New makes a Server. It serves nothing until [Server.Serve].
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg,
		log: cfg.Logger,
		mux: http.NewServeMux(),
	}
	routes := s.routes()
	s.names = newResolver(routes)
	for _, rt := range routes {
		s.mux.Handle(rt.method+" "+rt.path, s.endpoint(rt))
	}
	s.mux.HandleFunc("/", pageNotFound)
	s.server = http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		BaseContext:       func(net.Listener) context.Context { return cfg.BaseContext() },
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Serve answers requests that come in on a listener until [Server.Shutdown];
// then it returns nil. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	err := s.server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving the API on %s: %w", l.Addr(), err)
}

// Shutdown stops the server in order: it accepts nothing more, ends the streams,
// waits for the other requests until ctx ends, then ends those as well. It
// returns when every handler has returned, at the latest a few seconds after
// ctx; the error says that requests had to be cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.calls.cancel(true)
	err := s.server.Shutdown(ctx)
	if err == nil && wait(ctx, s.calls.empty()) {
		return nil
	}
	cut := fmt.Errorf("requests were cut off: %w", context.Cause(ctx))
	s.calls.cancel(false)
	closeErr := s.server.Close()
	grace, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), closeGrace, errors.New("handlers do not return"))
	defer cancel()
	if !wait(grace, s.calls.empty()) {
		cut = fmt.Errorf("%w: %w", cut, context.Cause(grace))
	}
	return errors.Join(cut, closeErr)
}

// wait reports whether done came before the end of ctx.
func wait(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// tracker knows the requests under way. The zero tracker is ready.
type tracker struct {
	mu    sync.Mutex
	calls map[*tracked]struct{}
	// Set at shutdown: what begins then ends at once.
	streamsEnded, allEnded bool
	idle                   chan struct{} // closed when calls is empty; nil if nobody waits
}

type tracked struct {
	class  Class
	cancel context.CancelCauseFunc
}

// begin derives the context of a request, which ends with the client and at
// shutdown. The returned function must be called when the handler has returned.
func (t *tracker) begin(ctx context.Context, class Class) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	call := &tracked{class: class, cancel: cancel}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls == nil {
		t.calls = map[*tracked]struct{}{}
	}
	t.calls[call] = struct{}{}
	if t.allEnded || t.streamsEnded && class.streams() {
		cancel(errShutdown)
	}
	return ctx, func() {
		cancel(nil)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.calls, call)
		if len(t.calls) == 0 && t.idle != nil {
			close(t.idle)
			t.idle = nil
		}
	}
}

// cancel ends the streams, or all requests.
func (t *tracker) cancel(streamsOnly bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streamsEnded = true
	t.allEnded = t.allEnded || !streamsOnly
	for call := range t.calls {
		if !streamsOnly || call.class.streams() {
			call.cancel(errShutdown)
		}
	}
}

// empty returns a channel that is closed once no request is under way.
func (t *tracker) empty() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	if len(t.calls) == 0 {
		close(t.idle)
		t.idle = nil
	}
	return idle
}
