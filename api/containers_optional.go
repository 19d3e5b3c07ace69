package api

import (
	"context"
	"encoding/json"
	"net/http"

	mobycontainer "github.com/moby/moby/api/types/container"
)

func (s *Server) containerTop(ctx context.Context, w *response, r *request) error {
	top, ok := s.cfg.Containers.(ContainerTop)
	if !ok {
		return notImplemented("top")
	}
	list, err := top.Top(ctx, r.name(), r.query.get("ps_args"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) containerStats(ctx context.Context, w *response, r *request) error {
	stats, ok := s.cfg.Containers.(ContainerStats)
	if !ok {
		return notImplemented("stats")
	}
	w.Header().Set("Content-Type", "application/json")
	out := newStreamWriter(ctx, w, true)
	defer out.close()
	enc := json.NewEncoder(out)
	oneShot := !r.version.before(41) && r.query.flag("one-shot")
	return stats.Stats(ctx, r.name(), r.query.flagUnlessOff("stream"), oneShot, func(sample mobycontainer.StatsResponse) error {
		if r.version.before(52) {
			sample.OSType = ""
		}
		return enc.Encode(sample)
	})
}

func (s *Server) updateContainer(ctx context.Context, w *response, r *request) error {
	updater, ok := s.cfg.Containers.(ContainerUpdater)
	if !ok {
		return notImplemented("update")
	}
	var cfg mobycontainer.UpdateConfig
	if err := readJSON(w, r.Request, &cfg); err != nil {
		return err
	}
	if err := checkNulls(cfg.Resources); err != nil {
		return err
	}
	if r.version.before(55) { // ignored there before
		cfg.BlkioWeightDevice = nil
		cfg.BlkioDeviceReadBps, cfg.BlkioDeviceWriteBps = nil, nil
		cfg.BlkioDeviceReadIOps, cfg.BlkioDeviceWriteIOps = nil, nil
	}
	if cfg.PidsLimit != nil && *cfg.PidsLimit < 0 {
		*cfg.PidsLimit = 0 // both mean unlimited
	}
	resp, err := updater.Update(ctx, r.name(), cfg)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resp)
}

func (s *Server) exportContainer(ctx context.Context, w *response, r *request) error {
	exporter, ok := s.cfg.Containers.(ContainerExporter)
	if !ok {
		return notImplemented("export")
	}
	w.Header().Set("Content-Type", "application/x-tar")
	out := newStreamWriter(ctx, w, false)
	defer out.close()
	return exporter.Export(ctx, r.name(), out)
}

func (s *Server) pruneContainers(ctx context.Context, w *response, r *request) error {
	pruner, ok := s.cfg.Containers.(ContainerPruner)
	if !ok {
		return notImplemented("container prune")
	}
	filters, err := r.query.filters()
	if err != nil {
		return err
	}
	report, err := pruner.Prune(ctx, filters)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
