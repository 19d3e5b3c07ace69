package daemon

import (
	"context"
	"io"

	"slipway/api"
	"slipway/clonefs"
	"slipway/container"
	"slipway/image"
	"slipway/internal/keylock"
	"slipway/network"
	"slipway/volume"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	mobyimage "github.com/moby/moby/api/types/image"
	mobynetwork "github.com/moby/moby/api/types/network"
	mobyvolume "github.com/moby/moby/api/types/volume"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The types of this file fit the parts to the API's interfaces, where their own
// signatures differ.

// containers returns sessions as the interfaces that the API declares.
type containers struct{ *container.Manager }

func (c containers) Attach(ctx context.Context, ref string, opts container.AttachOptions) (api.Attachment, error) {
	return c.Manager.Attach(ctx, ref, opts)
}

func (c containers) ExecStart(ctx context.Context, id string, opts container.ExecStartOptions) (api.ExecSession, error) {
	return c.Manager.ExecStart(ctx, id, opts)
}

type locks struct{ *container.Manager }

func (l locks) Snapshot() []keylock.Info { return l.Locks() }

// images asks the containers who uses an image.
type images struct {
	*image.Manager
	containers *container.Manager
}

func (i images) users(id digest.Digest) []image.User {
	var users []image.User
	for _, u := range i.containers.UsersOf(id.String()) {
		users = append(users, image.User(u))
	}
	return users
}

func (i images) List(ctx context.Context, opts api.ImageListOptions) ([]mobyimage.Summary, error) {
	return i.Manager.List(ctx, image.ListOptions{
		All: opts.All, SharedSize: opts.SharedSize, Manifests: opts.Manifests, Filters: opts.Filters, Containers: i.users,
	})
}

func (i images) Inspect(ctx context.Context, ref string, opts api.ImageInspectOptions) (mobyimage.InspectResponse, error) {
	return i.Manager.Inspect(ctx, ref, image.InspectOptions{Platform: opts.Platform, Manifests: opts.Manifests})
}

func (i images) Tag(ctx context.Context, ref string, target reference.NamedTagged) error {
	return i.Manager.Tag(ctx, ref, reference.FamiliarString(target))
}

func (i images) Remove(ctx context.Context, ref string, opts api.ImageRemoveOptions) ([]mobyimage.DeleteResponse, error) {
	if len(opts.Platforms) > 0 {
		return nil, errdefs.ErrNotImplemented.WithMessage("removing single platforms of an image is not supported: leave out --platform")
	}
	return i.Manager.Remove(ctx, ref, image.RemoveOptions{Force: opts.Force, NoPrune: opts.NoPrune, InUse: i.users})
}

func (i images) Pull(ctx context.Context, req api.PullRequest, progress api.Progress) error {
	auth := req.Auth
	return i.Manager.Pull(ctx, reference.FamiliarString(req.Ref), image.PullOptions{
		Platform: req.Platform, Auth: &auth, AllTags: reference.IsNameOnly(req.Ref), Progress: image.Progress(progress),
	})
}

func (i images) Push(ctx context.Context, req api.PushRequest, progress api.Progress) error {
	auth := req.Auth
	return i.Manager.Push(ctx, reference.FamiliarString(req.Ref), image.PushOptions{
		Platform: req.Platform, Auth: &auth, Progress: image.Progress(progress),
	})
}

func (i images) Import(ctx context.Context, req api.ImportRequest, tar io.Reader, _ api.Progress) (string, error) {
	request := image.ImportRequest{Layer: tar, Message: req.Message, Changes: req.Changes, Platform: req.Platform}
	if req.Ref != nil {
		request.Ref = reference.FamiliarString(req.Ref)
	}
	img, err := i.Manager.Import(ctx, request)
	if err != nil {
		return "", err
	}
	return img.ID.String(), nil
}

func (i images) Load(ctx context.Context, req api.LoadRequest, archive io.Reader, progress api.Progress) error {
	platform, err := onePlatform(req.Platforms)
	if err != nil {
		return err
	}
	return i.Manager.Load(ctx, archive, image.LoadOptions{Platform: platform, Quiet: req.Quiet, Progress: image.Progress(progress)})
}

func (i images) Save(ctx context.Context, req api.SaveRequest, w io.Writer) error {
	platform, err := onePlatform(req.Platforms)
	if err != nil {
		return err
	}
	return i.Manager.Save(ctx, req.Refs, w, image.SaveOptions{Platform: platform})
}

func (i images) Prune(ctx context.Context, filters api.Filters) (mobyimage.PruneReport, error) {
	return i.Manager.Prune(ctx, image.PruneOptions{Filters: filters, InUse: i.users})
}

func onePlatform(platforms []ocispec.Platform) (*ocispec.Platform, error) {
	switch len(platforms) {
	case 0:
		return nil, nil
	case 1:
		return &platforms[0], nil
	}
	return nil, errdefs.ErrNotImplemented.WithMessage("more than one --platform is not supported")
}

type volumes struct{ *volume.Manager }

func (v volumes) List(ctx context.Context, filters api.Filters) (mobyvolume.ListResponse, error) {
	list, err := v.Manager.List(ctx, filters)
	return mobyvolume.ListResponse{Volumes: list, Warnings: []string{}}, err
}

func (v volumes) Prune(ctx context.Context, filters api.Filters) (mobyvolume.PruneReport, error) {
	return v.Manager.Prune(ctx, filters)
}

// networks asks the containers to change what they are connected to.
type networks struct {
	*network.Manager
	containers *container.Manager
}

func (n networks) Create(ctx context.Context, req mobynetwork.CreateRequest) (mobynetwork.CreateResponse, error) {
	id, warning, err := n.Manager.Create(ctx, req)
	return mobynetwork.CreateResponse{ID: id, Warning: warning}, err
}

func (n networks) Inspect(_ context.Context, ref string) (mobynetwork.Inspect, error) {
	return n.Get(ref)
}

func (n networks) List(_ context.Context, filters api.Filters) ([]mobynetwork.Summary, error) {
	return n.Manager.List(filters)
}

func (n networks) Connect(ctx context.Context, ref string, req mobynetwork.ConnectRequest) error {
	return n.containers.ConnectNetwork(ctx, ref, req)
}

func (n networks) Disconnect(ctx context.Context, ref string, req mobynetwork.DisconnectRequest) error {
	return n.containers.DisconnectNetwork(ctx, ref, req)
}

type pool struct{ *clonefs.Pool }

func (p pool) Status(ctx context.Context) (api.PoolStatus, error) {
	s, err := p.Pool.Status(ctx)
	return api.PoolStatus{
		Method: s.Method, FileSystem: s.FileSystem, PoolFile: s.PoolFile, Size: s.Size, Used: s.Used, Free: s.Free, HostFree: s.HostFree,
		Reserve: s.Reserve, Reason: s.Reason, Device: s.Device,
	}, err
}

// checker looks for what is lost or left over in every part.
type checker struct{ d *Daemon }

func (c checker) Check(ctx context.Context) ([]api.Problem, error) {
	return c.d.check(ctx)
}
