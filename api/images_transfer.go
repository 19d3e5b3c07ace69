package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// createImage is both pull and import.
func (s *Server) createImage(ctx context.Context, w *response, r *request) error {
	platform, err := r.query.platform("platform")
	if err != nil {
		return err
	}
	if name := r.query.get("fromImage"); name != "" {
		ref, err := pullReference(name, r.query.get("tag"))
		if err != nil {
			return err
		}
		progress := newProgressStream(ctx, w)
		return progress.finish(s.cfg.Images.Pull(ctx, PullRequest{Ref: ref, Platform: platform, Auth: s.registryAuth(ctx, r)}, progress.send))
	}
	return s.importImage(ctx, w, r, platform)
}

func (s *Server) importImage(ctx context.Context, w *response, r *request, platform *ocispec.Platform) error {
	source := r.query.get("fromSrc")
	switch source {
	case "-":
	case "":
		return invalidf("either fromImage or fromSrc is required")
	default:
		return notImplemented("importing an image from a URL")
	}
	ref, err := r.query.repoTag()
	if err != nil {
		return err
	}
	req := ImportRequest{Ref: ref, Platform: platform, Message: r.query.get("message"), Changes: r.query["changes"]}
	if req.Message == "" {
		req.Message = "Imported from " + source
	}
	progress := newProgressStream(ctx, w)
	id, err := s.cfg.Images.Import(ctx, req, r.Body, progress.send)
	if err == nil {
		progress.send(jsonstream.Message{Status: id})
	}
	return progress.finish(err)
}

// pullReference joins a name with a tag, which can also be a digest. Without
// one, all tags are meant, which Docker's client marks with a final colon.
func pullReference(name, tag string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(strings.TrimSuffix(name, ":"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument.WithMessage("invalid image name"), err)
	}
	if tag != "" {
		if dgst, dgstErr := digest.Parse(tag); dgstErr == nil {
			ref, err = reference.WithDigest(reference.TrimNamed(ref), dgst)
		} else {
			ref, err = reference.WithTag(ref, tag)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument.WithMessage("invalid tag"), err)
		}
	}
	if reference.FamiliarName(ref) == "scratch" {
		return nil, errdefs.ErrPermissionDenied.WithMessage("'scratch' is a reserved name")
	}
	return ref, nil
}

// registryAuth reads the credentials for a registry. As with Docker, a header
// that cannot be read means none: clients send all sorts of things there.
func (s *Server) registryAuth(ctx context.Context, r *request) registry.AuthConfig {
	auth, err := parseAuth(r.Header.Get(registry.AuthHeader))
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelDebug, "registry credentials ignored", slog.Any("error", err))
	}
	return auth
}

// parseAuth decodes the header X-Registry-Auth: JSON in base64url, from some
// clients without padding. The error does not quote it.
func parseAuth(header string) (registry.AuthConfig, error) {
	var auth registry.AuthConfig
	if header == "" {
		return auth, nil
	}
	doc, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(header, "="))
	if err != nil {
		return auth, invalidf("invalid X-Registry-Auth header: must be a valid base64url-encoded string")
	}
	if err := json.Unmarshal(doc, &auth); err != nil {
		return registry.AuthConfig{}, invalidf("invalid X-Registry-Auth header: invalid JSON")
	}
	return auth, nil
}

func (s *Server) pushImage(ctx context.Context, w *response, r *request) error {
	pusher, ok := s.cfg.Images.(ImagePusher)
	if !ok {
		return notImplemented("push")
	}
	req := PushRequest{Auth: s.registryAuth(ctx, r)}
	if tag := r.query.get("tag"); tag != "" {
		ref, err := parseRepoTag(r.name(), tag)
		if err != nil {
			return err
		}
		req.Ref = ref
	} else {
		ref, err := reference.ParseNormalizedNamed(r.name())
		if err != nil {
			return fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument.WithMessage("invalid image name"), err)
		}
		req.Ref = ref
	}
	if !r.version.before(46) && r.query.get("platform") != "" {
		var err error
		if req.Platform, err = r.query.onePlatform("platform"); err != nil {
			return err
		}
	}
	progress := newProgressStream(ctx, w)
	return progress.finish(pusher.Push(ctx, req, progress.send))
}

// transferPlatforms reads the platforms for save and load.
func transferPlatforms(r *request) ([]ocispec.Platform, error) {
	if r.version.before(48) {
		return nil, nil
	}
	if len(r.query["platform"]) > 1 && r.version.before(52) {
		return nil, invalidf("multiple platform parameters are not supported in this API version; use API version 1.52 or later")
	}
	return r.query.platforms("platform")
}

func (s *Server) loadImages(ctx context.Context, w *response, r *request) error {
	platforms, err := transferPlatforms(r)
	if err != nil {
		return err
	}
	req := LoadRequest{Quiet: r.query.flagUnlessOff("quiet"), Platforms: platforms}
	progress := newProgressStream(ctx, w)
	return progress.finish(s.cfg.Images.Load(ctx, req, r.Body, progress.send))
}

// saveImages answers for one image in the path as well as for several in the
// query.
func (s *Server) saveImages(ctx context.Context, w *response, r *request) error {
	platforms, err := transferPlatforms(r)
	if err != nil {
		return err
	}
	req := SaveRequest{Refs: r.query["names"], Platforms: platforms}
	if name := r.name(); name != "" {
		req.Refs = []string{name}
	}
	if len(req.Refs) == 0 {
		return invalidf("no image to save: the parameter names is missing")
	}
	w.Header().Set("Content-Type", "application/x-tar")
	out := newStreamWriter(ctx, w, false)
	defer out.close()
	return s.cfg.Images.Save(ctx, req, out)
}
