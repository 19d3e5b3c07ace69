package api

import (
	"context"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
)

// ping tells clients with headers what they are talking to. It works also while
// the rest of the engine is busy.
func (s *Server) ping(_ context.Context, w *response, r *request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", string(swarm.LocalNodeStateInactive))
	if s.cfg.Builder != "" {
		h.Set("Builder-Version", string(s.cfg.Builder))
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := io.WriteString(w, "OK")
	return err
}

func (s *Server) getVersion(ctx context.Context, w *response, _ *request) error {
	version, err := s.cfg.System.Version(ctx)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, version)
}

func (s *Server) getInfo(ctx context.Context, w *response, r *request) error {
	info, err := s.cfg.System.Info(ctx)
	if err != nil {
		return err
	}
	return writeShaped(w, r.version, viewInfo, info)
}

func (s *Server) postAuth(ctx context.Context, w *response, r *request) error {
	authenticator, ok := s.cfg.System.(Authenticator)
	if !ok {
		return notImplemented("logging in to a registry")
	}
	var auth registry.AuthConfig
	if err := decodeJSON(http.MaxBytesReader(w, r.Body, maxBody), &auth); err != nil {
		return err
	}
	token, err := authenticator.Authenticate(ctx, auth)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, registry.AuthResponse{Status: "Login Succeeded", IdentityToken: token})
}

// diskUsage is the answer with the fields of old clients beside those of new
// ones.
type diskUsage struct {
	*legacyDiskUsage
	*system.DiskUsage
}

type legacyDiskUsage struct {
	LayersSize int64 `json:"LayersSize,omitempty"`
	Images     any   `json:"Images,omitempty"`
	Containers any   `json:"Containers,omitempty"`
	Volumes    any   `json:"Volumes,omitempty"`
	BuildCache any   `json:"BuildCache,omitempty"`
}

func (s *Server) getDiskUsage(ctx context.Context, w *response, r *request) error {
	measurer, ok := s.cfg.System.(DiskUsage)
	if !ok {
		return notImplemented("system df")
	}
	opts := DiskUsageOptions{Containers: true, Images: true, Volumes: true, BuildCache: true}
	if kinds, ok := r.query["type"]; ok && !r.version.before(42) {
		opts = DiskUsageOptions{}
		for _, kind := range kinds {
			switch system.DiskUsageObject(kind) {
			case system.ContainerObject:
				opts.Containers = true
			case system.ImageObject:
				opts.Images = true
			case system.VolumeObject:
				opts.Volumes = true
			case system.BuildCacheObject:
				opts.BuildCache = true
			default:
				return invalidf("unknown object type: %s", kind)
			}
		}
	}
	// A client that asks for the verbose form knows the new fields; all others
	// get the old ones, which list every object.
	verbose := !r.version.before(52) && r.query.flag("verbose")
	opts.Verbose = true
	usage, err := measurer.DiskUsage(ctx, opts)
	if err != nil {
		return err
	}
	answer := diskUsage{}
	if !verbose {
		answer.legacyDiskUsage = legacyUsage(usage)
		usage = sumsOnly(usage)
	}
	if !r.version.before(52) {
		answer.DiskUsage = &usage
	}
	return writeShaped(w, r.version, viewDiskUsage, answer)
}

// sumsOnly leaves out the single objects.
func sumsOnly(usage system.DiskUsage) system.DiskUsage {
	if u := usage.ImageUsage; u != nil {
		sums := *u
		sums.Items, usage.ImageUsage = nil, &sums
	}
	if u := usage.ContainerUsage; u != nil {
		sums := *u
		sums.Items, usage.ContainerUsage = nil, &sums
	}
	if u := usage.VolumeUsage; u != nil {
		sums := *u
		sums.Items, usage.VolumeUsage = nil, &sums
	}
	if u := usage.BuildCacheUsage; u != nil {
		sums := *u
		sums.Items, usage.BuildCacheUsage = nil, &sums
	}
	return usage
}

func legacyUsage(usage system.DiskUsage) *legacyDiskUsage {
	var legacy legacyDiskUsage
	if usage.ImageUsage != nil {
		legacy.LayersSize = usage.ImageUsage.TotalSize
		legacy.Images = notNil(usage.ImageUsage.Items)
	}
	if usage.ContainerUsage != nil {
		legacy.Containers = notNil(usage.ContainerUsage.Items)
	}
	if usage.VolumeUsage != nil {
		legacy.Volumes = notNil(usage.VolumeUsage.Items)
	}
	if usage.BuildCacheUsage != nil {
		legacy.BuildCache = notNil(usage.BuildCacheUsage.Items)
	}
	return &legacy
}
