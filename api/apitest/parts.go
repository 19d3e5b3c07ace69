package apitest

import (
	"context"
	"io"

	"slipway/api"

	"github.com/distribution/reference"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	mobyvolume "github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Images is a fake whose transfers send Progress and then fail with Broken, if
// set.
type Images struct {
	Part

	Listed    []mobyimage.Summary
	Inspected mobyimage.InspectResponse
	Progress  []jsonstream.Message
	Broken    error
}

// List implements [api.Images].
func (i *Images) List(_ context.Context, opts api.ImageListOptions) ([]mobyimage.Summary, error) {
	return i.Listed, i.call(opts)
}

// Inspect implements [api.Images].
func (i *Images) Inspect(_ context.Context, ref string, _ api.ImageInspectOptions) (mobyimage.InspectResponse, error) {
	return i.Inspected, i.call(ref)
}

// History implements [api.Images].
func (i *Images) History(_ context.Context, ref string, _ *ocispec.Platform) ([]mobyimage.HistoryResponseItem, error) {
	return nil, i.call(ref)
}

// Tag implements [api.Images].
func (i *Images) Tag(_ context.Context, ref string, target reference.NamedTagged) error {
	return i.call(ref + " " + target.String())
}

// Remove implements [api.Images].
func (i *Images) Remove(_ context.Context, ref string, _ api.ImageRemoveOptions) ([]mobyimage.DeleteResponse, error) {
	return []mobyimage.DeleteResponse{{Untagged: ref}}, i.call(ref)
}

func (i *Images) transfer(args any, progress api.Progress) error {
	if err := i.call(args); err != nil {
		return err
	}
	for _, m := range i.Progress {
		progress(m)
	}
	return i.Broken
}

// Pull implements [api.Images].
func (i *Images) Pull(_ context.Context, req api.PullRequest, progress api.Progress) error {
	return i.transfer(req, progress)
}

// Import implements [api.Images].
func (i *Images) Import(_ context.Context, req api.ImportRequest, tar io.Reader, progress api.Progress) (string, error) {
	if _, err := io.Copy(io.Discard, tar); err != nil {
		return "", err
	}
	return "sha256:abc", i.transfer(req, progress)
}

// Load implements [api.Images].
func (i *Images) Load(_ context.Context, req api.LoadRequest, archive io.Reader, progress api.Progress) error {
	if _, err := io.Copy(io.Discard, archive); err != nil {
		return err
	}
	return i.transfer(req, progress)
}

// Save implements [api.Images].
func (i *Images) Save(_ context.Context, req api.SaveRequest, w io.Writer) error {
	if err := i.call(req); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "a tar stream"); err != nil {
		return err
	}
	return i.Broken
}

// Volumes is a fake.
type Volumes struct{ Part }

// Create implements [api.Volumes].
func (v *Volumes) Create(_ context.Context, req mobyvolume.CreateRequest) (mobyvolume.Volume, error) {
	return mobyvolume.Volume{Name: req.Name}, v.call(req)
}

// Get implements [api.Volumes].
func (v *Volumes) Get(_ context.Context, name string) (mobyvolume.Volume, error) {
	return mobyvolume.Volume{Name: name}, v.call(name)
}

// List implements [api.Volumes].
func (v *Volumes) List(_ context.Context, filters api.Filters) (mobyvolume.ListResponse, error) {
	return mobyvolume.ListResponse{}, v.call(filters)
}

// Remove implements [api.Volumes].
func (v *Volumes) Remove(_ context.Context, name string, force bool) error {
	return v.call([]any{name, force})
}

// Prune implements [api.Volumes].
func (v *Volumes) Prune(_ context.Context, filters api.Filters) (mobyvolume.PruneReport, error) {
	return mobyvolume.PruneReport{}, v.call(filters)
}

// Networks is a fake.
type Networks struct{ Part }

// Create implements [api.Networks].
func (n *Networks) Create(_ context.Context, req mobynetwork.CreateRequest) (mobynetwork.CreateResponse, error) {
	return mobynetwork.CreateResponse{ID: "n1"}, n.call(req)
}

// List implements [api.Networks].
func (n *Networks) List(_ context.Context, filters api.Filters) ([]mobynetwork.Summary, error) {
	return nil, n.call(filters)
}

// Inspect implements [api.Networks].
func (n *Networks) Inspect(_ context.Context, ref string) (mobynetwork.Inspect, error) {
	return mobynetwork.Inspect{Network: mobynetwork.Network{Name: ref, EnableIPv4: true}}, n.call(ref)
}

// Remove implements [api.Networks].
func (n *Networks) Remove(_ context.Context, ref string) error { return n.call(ref) }

// Connect implements [api.Networks].
func (n *Networks) Connect(_ context.Context, _ string, req mobynetwork.ConnectRequest) error {
	return n.call(req)
}

// Disconnect implements [api.Networks].
func (n *Networks) Disconnect(_ context.Context, _ string, req mobynetwork.DisconnectRequest) error {
	return n.call(req)
}

// System is a fake that also measures disks and checks credentials.
type System struct {
	Part

	Inspected system.Info
	Usage     system.DiskUsage
}

// Info implements [api.System].
func (s *System) Info(context.Context) (system.Info, error) { return s.Inspected, s.call("info") }

// Version implements [api.System].
func (s *System) Version(context.Context) (system.VersionResponse, error) {
	return system.VersionResponse{APIVersion: api.MaxVersion.String()}, s.call("version")
}

// DiskUsage implements [api.DiskUsage].
func (s *System) DiskUsage(_ context.Context, opts api.DiskUsageOptions) (system.DiskUsage, error) {
	return s.Usage, s.call(opts)
}

// Authenticate implements [api.Authenticator].
func (s *System) Authenticate(_ context.Context, auth registry.AuthConfig) (string, error) {
	return "token", s.call(auth)
}
