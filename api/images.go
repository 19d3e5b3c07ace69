package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
)

func (s *Server) listImages(ctx context.Context, w *response, r *request) error {
	filters, err := r.query.filters()
	if err != nil {
		return err
	}
	// Parameters are ignored in versions that did not have them.
	opts := ImageListOptions{
		All:        r.query.flag("all"),
		SharedSize: !r.version.before(42) && r.query.flag("shared-size"),
		Manifests:  !r.version.before(47) && r.query.flag("manifests"),
		Filters:    filters,
	}
	if filter := r.query.get("filter"); filter != "" && r.version.before(41) {
		if _, ok := filters["reference"]; !ok {
			filters["reference"] = map[string]bool{filter: true}
		}
	}
	list, err := s.cfg.Images.List(ctx, opts)
	if err != nil {
		return err
	}
	if list == nil {
		list = []mobyimage.Summary{}
	}
	for i := range list {
		list[i].RepoTags = notNil(list[i].RepoTags)
		list[i].RepoDigests = notNil(list[i].RepoDigests)
	}
	return writeShaped(w, r.version, viewImageSummary, list)
}

// notNil makes an empty list appear as [] instead of null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *Server) inspectImage(ctx context.Context, w *response, r *request) error {
	opts := ImageInspectOptions{Manifests: !r.version.before(48) && r.query.flag("manifests")}
	if !r.version.before(49) && r.query.get("platform") != "" {
		var err error
		if opts.Platform, err = r.query.onePlatform("platform"); err != nil {
			return err
		}
	}
	if opts.Manifests && opts.Platform != nil {
		return invalidf("conflicting options: manifests and platform options cannot both be set")
	}
	img, err := s.cfg.Images.Inspect(ctx, r.name(), opts)
	if err != nil {
		return err
	}
	img.RepoTags, img.RepoDigests = notNil(img.RepoTags), notNil(img.RepoDigests)
	return writeShaped(w, r.version, viewImage, img)
}

func (s *Server) imageHistory(ctx context.Context, w *response, r *request) error {
	q := r.query
	if r.version.before(48) || q.get("platform") == "" {
		q = nil
	}
	platform, err := q.onePlatform("platform")
	if err != nil {
		return err
	}
	history, err := s.cfg.Images.History(ctx, r.name(), platform)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, notNil(history))
}

func (s *Server) tagImage(ctx context.Context, w *response, r *request) error {
	ref, err := r.query.repoTag()
	switch {
	case err != nil:
		return err
	case ref == nil:
		return invalidf("the repository name of the new tag is missing")
	case reference.FamiliarName(ref) == string(digest.Canonical):
		return invalidf("refusing to create an ambiguous tag using digest algorithm as name")
	}
	if err := s.cfg.Images.Tag(ctx, r.name(), ref); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Server) removeImage(ctx context.Context, w *response, r *request) error {
	if strings.TrimSpace(r.name()) == "" {
		return invalidf("image name cannot be blank")
	}
	opts := ImageRemoveOptions{Force: r.query.flag("force"), NoPrune: r.query.flag("noprune")}
	if !r.version.before(50) {
		var err error
		if opts.Platforms, err = r.query.platforms("platforms"); err != nil {
			return err
		}
	}
	removed, err := s.cfg.Images.Remove(ctx, r.name(), opts)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, notNil(removed))
}

func (s *Server) pruneImages(ctx context.Context, w *response, r *request) error {
	pruner, ok := s.cfg.Images.(ImagePruner)
	if !ok {
		return notImplemented("image prune")
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
