package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"time"

	"slipway/internal/keylock"

	"github.com/containerd/errdefs"
)

// response is an [http.ResponseWriter] that remembers what became of it.
// Flushing and deadlines go through [http.ResponseController].
type response struct {
	http.ResponseWriter

	status   int // 0 until something was written
	hijacked bool
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// hijack takes the connection over from the HTTP server.
func (w *response) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.hijacked = err == nil
	return conn, rw, err
}

// started reports whether an error can no longer become the answer.
func (w *response) started() bool { return w.status != 0 || w.hijacked }

// noContent answers that all went well.
func (w *response) noContent() error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// ServeHTTP answers one request. It never panics: a handler's panic becomes a
// 500 and a line in the log.
func (s *Server) ServeHTTP(hw http.ResponseWriter, hr *http.Request) {
	w := &response{ResponseWriter: hw}
	defer s.handled(hr, w, time.Now())
	defer func() {
		if p := recover(); p != nil {
			s.recovered(w, hr, p)
		}
	}()
	s.dispatch(w, hr)
}

// handled logs a request. Neither headers nor the query are logged: both can
// carry secrets.
func (s *Server) handled(r *http.Request, w *response, start time.Time) {
	s.log.LogAttrs(r.Context(), slog.LevelDebug, "request handled", slog.String("method", r.Method),
		slog.String("path", r.URL.Path), slog.Int("status", w.status), slog.Duration("duration", time.Since(start)))
}

func (s *Server) recovered(w *response, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // the HTTP server's own way to cut a connection
	}
	s.log.LogAttrs(r.Context(), slog.LevelError, "handler panicked", slog.String("method", r.Method),
		slog.String("path", r.URL.Path), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	if w.started() {
		// The client must not take what it has got for a complete answer.
		if !w.hijacked {
			panic(http.ErrAbortHandler)
		}
		return
	}
	writeError(w, MaxVersion, errdefs.ErrInternal.WithMessage("internal error; the daemon's log has the details"))
}

// dispatch negotiates the version and passes the request to its route.
func (s *Server) dispatch(w *response, hr *http.Request) {
	h := w.Header()
	h.Set("Server", fmt.Sprintf("Slipway/%s (%s)", s.cfg.EngineVersion, runtime.GOOS))
	h.Set("Api-Version", MaxVersion.String())
	h.Set("Ostype", runtime.GOOS)
	h.Set("Docker-Experimental", "false")

	requested, path := cutVersion(hr.URL.Path)
	version, err := negotiate(requested)
	if err != nil {
		writeError(w, version, err)
		return
	}
	// A web page must not act through the browser of somebody who may. Clients
	// that are no browsers do not send what is looked at here.
	if err := s.origin.Check(hr); err != nil {
		writeError(w, version, errdefs.ErrPermissionDenied.WithMessage(err.Error()))
		return
	}
	params, err := url.ParseQuery(hr.URL.RawQuery)
	if err != nil {
		writeError(w, version, invalidf("invalid query: %v", err))
		return
	}
	routed := hr.WithContext(context.WithValue(hr.Context(), requestKey{}, requestInfo{version, query(params)}))
	routed.URL = s.names.resolve(hr.Method, path)
	routed.URL.RawQuery = hr.URL.RawQuery
	s.mux.ServeHTTP(w, routed)
}

// pageNotFound answers for all that is no route.
func pageNotFound(w http.ResponseWriter, r *http.Request) {
	info, _ := r.Context().Value(requestKey{}).(requestInfo)
	writeError(w, info.version, errdefs.ErrNotFound.WithMessage("page not found"))
}

type requestKey struct{}

type requestInfo struct {
	version Version
	query   query
}

// endpoint makes a route's handler an [http.Handler] for the mux.
func (s *Server) endpoint(rt route) http.Handler {
	operation := rt.method + " " + rt.path
	return http.HandlerFunc(func(hw http.ResponseWriter, hr *http.Request) {
		w, ok := hw.(*response)
		if !ok {
			w = &response{ResponseWriter: hw}
		}
		info, _ := hr.Context().Value(requestKey{}).(requestInfo)
		if hr.Method != rt.method { // the mux serves HEAD by GET; Docker does not
			pageNotFound(w, hr)
			return
		}
		ctx, end := s.calls.begin(keylock.WithOperation(hr.Context(), operation), rt.class)
		defer end()
		ctx, done := s.cfg.Spans.Begin(ctx, operation, hr.PathValue("name"))
		defer done()
		r := &request{Request: hr.WithContext(ctx), version: info.version, query: info.query}
		if err := rt.handle(ctx, w, r); err != nil {
			s.failed(ctx, w, r, err)
		}
	})
}

// failed deals with a handler's error.
func (s *Server) failed(ctx context.Context, w *response, r *request, err error) {
	attrs := []slog.Attr{slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Any("error", err)}
	shutdown := errors.Is(context.Cause(ctx), errShutdown)
	switch {
	case ctx.Err() != nil && !shutdown:
		if w.status == 0 {
			w.status = statusClientGone
		}
		s.log.LogAttrs(ctx, slog.LevelDebug, "client went away", attrs...)
		return
	case w.hijacked:
		s.log.LogAttrs(ctx, slog.LevelDebug, "stream ended with an error", attrs...)
		return
	case w.started():
		// Too late for a status. The client learns by the missing end of the
		// answer that it is not complete.
		level := slog.LevelWarn
		if shutdown {
			level = slog.LevelDebug
		}
		s.log.LogAttrs(ctx, level, "answer broken off", attrs...)
		panic(http.ErrAbortHandler)
	}
	if shutdown && ctx.Err() != nil {
		err = errShutdown
	}
	if statusOf(err) == http.StatusInternalServerError {
		s.log.LogAttrs(ctx, slog.LevelError, "request failed", attrs...)
	}
	// What was meant for the answer's body must not describe the error's.
	for _, header := range []string{"Content-Type", "Content-Encoding", "Content-Length", "Trailer"} {
		w.Header().Del(header)
	}
	writeError(w, r.version, err)
}
