package api

import (
	"context"
	"fmt"
	"net/http"

	"slipway/container"

	mobycontainer "github.com/moby/moby/api/types/container"
)

func (s *Server) createExec(ctx context.Context, w *response, r *request) error {
	var req mobycontainer.ExecCreateRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	if len(req.Cmd) == 0 {
		return invalidf("No exec command specified")
	}
	if r.version.before(42) {
		req.ConsoleSize = nil
	}
	id, err := s.cfg.Containers.ExecCreate(ctx, r.name(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, mobycontainer.ExecCreateResponse{ID: id})
}

// startExec runs the exec's process on the connection, or detached. Once the
// connection is taken over, an error can only go into the stream.
func (s *Server) startExec(ctx context.Context, w *response, r *request) error {
	var req mobycontainer.ExecStartRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	if r.version.before(42) || !req.Tty {
		req.ConsoleSize = nil
	}
	opts := container.ExecStartOptions{Detach: req.Detach, TTY: req.Tty, ConsoleSize: req.ConsoleSize}
	exec, err := s.cfg.Containers.ExecStart(ctx, r.name(), opts)
	if err != nil {
		return err
	}
	if req.Detach {
		if err := exec.Run(ctx, container.Streams{}); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	sctx, sess, closeSession, err := s.takeOver(ctx, w, r, !req.Tty)
	if err != nil {
		return err
	}
	defer closeSession()
	err = exec.Run(sctx, sess.streams(true, true, true))
	if err != nil && sctx.Err() == nil {
		_, _ = fmt.Fprintf(sess.stdout, "%v\r\n", err) // the client may be gone
	}
	s.report(sctx, r, err)
	return nil
}

func (s *Server) inspectExec(ctx context.Context, w *response, r *request) error {
	exec, err := s.cfg.Containers.ExecInspect(ctx, r.name())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, exec)
}

func (s *Server) resizeExec(ctx context.Context, w *response, r *request) error {
	height, width, err := terminalSize(r)
	if err != nil {
		return err
	}
	if err := s.cfg.Containers.ExecResize(ctx, r.name(), height, width); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
