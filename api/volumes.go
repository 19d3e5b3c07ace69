package api

import (
	"context"
	"net/http"

	"github.com/containerd/errdefs"
	mobyvolume "github.com/moby/moby/api/types/volume"
)

func (s *Server) listVolumes(ctx context.Context, w *response, r *request) error {
	filters, err := r.query.filters()
	if err != nil {
		return err
	}
	list, err := s.cfg.Volumes.List(ctx, filters)
	if err != nil {
		return err
	}
	list.Volumes = notNil(list.Volumes)
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) inspectVolume(ctx context.Context, w *response, r *request) error {
	vol, err := s.cfg.Volumes.Get(ctx, r.name())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, vol)
}

func (s *Server) createVolume(ctx context.Context, w *response, r *request) error {
	var req mobyvolume.CreateRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	if req.ClusterVolumeSpec != nil && !r.version.before(42) {
		return errNoSwarm
	}
	vol, err := s.cfg.Volumes.Create(ctx, req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, vol)
}

// updateVolume exists for a swarm's volumes only.
func updateVolume(context.Context, *response, *request) error {
	return errdefs.ErrUnavailable.WithMessage("volume update only valid for cluster volumes, but swarm is unavailable")
}

func (s *Server) removeVolume(ctx context.Context, w *response, r *request) error {
	if err := s.cfg.Volumes.Remove(ctx, r.name(), r.query.flag("force")); err != nil {
		return err
	}
	return w.noContent()
}

func (s *Server) pruneVolumes(ctx context.Context, w *response, r *request) error {
	filters, err := r.query.filters()
	if err != nil {
		return err
	}
	if r.version.before(42) { // named volumes were pruned as well
		if filters == nil {
			filters = Filters{}
		}
		filters["all"] = map[string]bool{"true": true}
	}
	report, err := s.cfg.Volumes.Prune(ctx, filters)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
