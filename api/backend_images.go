package api

import (
	"context"
	"io"

	"github.com/distribution/reference"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Images is everything the API needs of the images.
type Images interface {
	ImageStore
	ImageTransfer
}

// ImageListOptions selects images for `docker images`.
type ImageListOptions struct {
	All        bool
	SharedSize bool
	Manifests  bool
	Filters    Filters
}

// ImageInspectOptions selects the platform to show (nil: the host's), or asks
// for all manifests.
type ImageInspectOptions struct {
	Platform  *ocispec.Platform
	Manifests bool
}

// ImageRemoveOptions says how `docker rmi` treats images in use and untagged
// parents.
type ImageRemoveOptions struct {
	Force     bool
	NoPrune   bool
	Platforms []ocispec.Platform
}

// ImageStore reads and names images. A ref is a name or an id.
type ImageStore interface {
	List(ctx context.Context, opts ImageListOptions) ([]mobyimage.Summary, error)
	Inspect(ctx context.Context, ref string, opts ImageInspectOptions) (mobyimage.InspectResponse, error)
	History(ctx context.Context, ref string, platform *ocispec.Platform) ([]mobyimage.HistoryResponseItem, error)
	Tag(ctx context.Context, ref string, target reference.NamedTagged) error
	Remove(ctx context.Context, ref string, opts ImageRemoveOptions) ([]mobyimage.DeleteResponse, error)
}

// Progress receives the messages that a client shows while it waits. It blocks
// while the client does not read, and must not be called concurrently with
// itself or after the operation has returned.
type Progress func(jsonstream.Message)

// PullRequest names an image to pull. Ref has a tag or a digest, or neither: then
// all tags are asked for.
type PullRequest struct {
	Ref      reference.Named
	Platform *ocispec.Platform
	Auth     registry.AuthConfig
}

// ImportRequest describes the image that a tar stream of a root file system
// becomes. Ref is nil for an image without a name.
type ImportRequest struct {
	Ref      reference.NamedTagged
	Platform *ocispec.Platform
	Message  string
	Changes  []string
}

// LoadRequest selects what to load of an archive; without Platforms, all.
type LoadRequest struct {
	Quiet     bool
	Platforms []ocispec.Platform
}

// SaveRequest selects images to write into an archive.
type SaveRequest struct {
	Refs      []string
	Platforms []ocispec.Platform
}

// ImageTransfer moves images in and out. Save writes nothing before it knows that
// all images exist.
type ImageTransfer interface {
	Pull(ctx context.Context, req PullRequest, progress Progress) error
	Import(ctx context.Context, req ImportRequest, tar io.Reader, progress Progress) (id string, err error)
	Load(ctx context.Context, req LoadRequest, archive io.Reader, progress Progress) error
	Save(ctx context.Context, req SaveRequest, w io.Writer) error
}

// PushRequest names an image to push; without a tag, all its tags.
type PushRequest struct {
	Ref      reference.Named
	Platform *ocispec.Platform
	Auth     registry.AuthConfig
}

// ImagePusher sends images to a registry. Optional for [Images].
type ImagePusher interface {
	Push(ctx context.Context, req PushRequest, progress Progress) error
}

// ImagePruner removes unused images. Optional for [Images].
type ImagePruner interface {
	Prune(ctx context.Context, filters Filters) (mobyimage.PruneReport, error)
}
