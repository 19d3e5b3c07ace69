package api

import (
	"context"
	"net/http"

	mobynetwork "github.com/moby/moby/api/types/network"
)

func (s *Server) listNetworks(ctx context.Context, w *response, r *request) error {
	filters, err := r.query.filters()
	if err != nil {
		return err
	}
	list, err := s.cfg.Networks.List(ctx, filters)
	if err != nil {
		return err
	}
	return writeShaped(w, r.version, viewNetworkSummary, notNil(list))
}

func (s *Server) inspectNetwork(ctx context.Context, w *response, r *request) error {
	network, err := s.cfg.Networks.Inspect(ctx, r.name())
	if err != nil {
		return err
	}
	return writeShaped(w, r.version, viewNetwork, network)
}

func (s *Server) createNetwork(ctx context.Context, w *response, r *request) error {
	var req mobynetwork.CreateRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	if r.version.before(48) {
		req.EnableIPv4 = nil
	}
	resp, err := s.cfg.Networks.Create(ctx, req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, resp)
}

func (s *Server) connectNetwork(ctx context.Context, w *response, r *request) error {
	var req mobynetwork.ConnectRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	if req.EndpointConfig != nil && r.version.before(54) {
		req.EndpointConfig.MacAddress = nil
	}
	if err := s.cfg.Networks.Connect(ctx, r.name(), req); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) disconnectNetwork(ctx context.Context, w *response, r *request) error {
	var req mobynetwork.DisconnectRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	if err := s.cfg.Networks.Disconnect(ctx, r.name(), req); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) removeNetwork(ctx context.Context, w *response, r *request) error {
	if err := s.cfg.Networks.Remove(ctx, r.name()); err != nil {
		return err
	}
	return w.noContent()
}

func (s *Server) pruneNetworks(ctx context.Context, w *response, r *request) error {
	pruner, ok := s.cfg.Networks.(NetworkPruner)
	if !ok {
		return notImplemented("network prune")
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
