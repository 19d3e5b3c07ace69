package api

import (
	"context"
	"net/http"
	"strconv"

	"slipway/internal/keylock"
	"slipway/internal/span"
)

// What these endpoints answer is for Slipway's own client and is not part of
// Docker's API.

// CheckReport is the answer to GET /debug/check.
type CheckReport struct {
	Problems []Problem `json:"problems"`
}

// LocksReport is the answer to GET /debug/locks.
type LocksReport struct {
	Locks []keylock.Info `json:"locks"`
}

// SpansReport is the answer to GET /debug/spans.
type SpansReport struct {
	Operations []span.Operation `json:"operations"`
}

// TrimReport is the answer to POST /pool/trim.
type TrimReport struct {
	Freed int64 `json:"freed"` // bytes given back to the host
}

func (s *Server) debugCheck(ctx context.Context, w *response, _ *request) error {
	if s.cfg.Checker == nil {
		return notImplemented("checking")
	}
	problems, err := s.cfg.Checker.Check(ctx)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, CheckReport{Problems: notNil(problems)})
}

func (s *Server) debugLocks(_ context.Context, w *response, _ *request) error {
	if s.cfg.Locks == nil {
		return notImplemented("showing locks")
	}
	return writeJSON(w, http.StatusOK, LocksReport{Locks: notNil(s.cfg.Locks.Snapshot())})
}

func (s *Server) debugSpans(_ context.Context, w *response, _ *request) error {
	return writeJSON(w, http.StatusOK, SpansReport{Operations: notNil(s.cfg.Spans.Operations())})
}

func (s *Server) pool() (Pool, error) {
	if s.cfg.Pool == nil {
		return nil, notImplemented("a pool")
	}
	return s.cfg.Pool, nil
}

func (s *Server) poolStatus(ctx context.Context, w *response, _ *request) error {
	pool, err := s.pool()
	if err != nil {
		return err
	}
	status, err := pool.Status(ctx)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, status)
}

func (s *Server) growPool(ctx context.Context, w *response, r *request) error {
	pool, err := s.pool()
	if err != nil {
		return err
	}
	size, err := strconv.ParseInt(r.query.get("size"), 10, 64)
	if err != nil || size <= 0 {
		return invalidf("invalid value for size: %q is not a number of bytes", r.query.get("size"))
	}
	if err := pool.Grow(ctx, size); err != nil {
		return err
	}
	return s.poolStatus(ctx, w, r)
}

func (s *Server) trimPool(ctx context.Context, w *response, _ *request) error {
	pool, err := s.pool()
	if err != nil {
		return err
	}
	freed, err := pool.Trim(ctx)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, TrimReport{Freed: freed})
}
