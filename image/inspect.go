package image

import (
	"context"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// InspectOptions refine Inspect.
type InspectOptions struct {
	// Platform selects one of a multi-platform image.
	Platform *ocispec.Platform
	// Manifests adds the list of the image's manifests.
	Manifests bool
}

// Inspect describes an image.
func (m *Manager) Inspect(ctx context.Context, ref string, opts InspectOptions) (mobyimage.InspectResponse, error) {
	image, err := m.GetPlatform(ctx, ref, opts.Platform)
	if err != nil {
		return mobyimage.InspectResponse{}, err
	}
	g, err := m.group(ctx, image.ID)
	if err != nil {
		return mobyimage.InspectResponse{}, err
	}
	size, err := m.size(ctx, image)
	if err != nil {
		return mobyimage.InspectResponse{}, err
	}
	target := image.Target
	out := mobyimage.InspectResponse{
		ID:           image.ID.String(),
		RepoTags:     g.tags(),
		RepoDigests:  g.digests(),
		Author:       image.Spec.Author,
		Config:       &image.Spec.Config.DockerOCIImageConfig,
		Architecture: image.Spec.Architecture,
		Variant:      image.Spec.Variant,
		Os:           image.Spec.OS,
		OsVersion:    image.Spec.OSVersion,
		Size:         size.total(),
		// The API's older versions require it, as Docker fills it with an image
		// store of containerd's.
		GraphDriver: &storage.DriverData{Name: m.snapshotter},
		RootFS:      mobyimage.RootFS{Type: "layers", Layers: []string{}},
		Descriptor:  &target,
	}
	for _, d := range image.Spec.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, d.String())
	}
	if image.Spec.Created != nil {
		out.Created = image.Spec.Created.Format(time.RFC3339Nano)
	}
	if n := len(image.Spec.History); n > 0 {
		out.Comment = image.Spec.History[n-1].Comment
	}
	for _, record := range g.records {
		if record.UpdatedAt.After(out.Metadata.LastTagTime) {
			out.Metadata.LastTagTime = record.UpdatedAt
		}
	}
	if opts.Manifests {
		out.Manifests, err = m.manifestSummaries(ctx, g, nil)
	}
	return out, err
}

// imageSize is what an image takes on disk.
type imageSize struct {
	content int64   // blobs in the store
	layers  []int64 // snapshots, in the order of the image's layers
}

func (s imageSize) unpacked() int64 {
	var sum int64
	for _, size := range s.layers {
		sum += size
	}
	return sum
}

func (s imageSize) total() int64 { return s.content + s.unpacked() }

// size counts the blobs of the image's own platform that are in the store, and
// its snapshots.
func (m *Manager) size(ctx context.Context, image *Image) (imageSize, error) {
	var size imageSize
	for _, blob := range slices.Concat([]ocispec.Descriptor{image.manifest, image.config}, image.layers) {
		info, err := m.content.Info(ctx, blob.Digest)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return size, err
		}
		size.content += info.Size
	}
	var err error
	size.layers, err = m.layerUsages(ctx, image)
	return size, err
}

// manifestSummaries describes the manifests of an image that are in the store.
func (m *Manager) manifestSummaries(ctx context.Context, g *group, containers InUseFunc) ([]mobyimage.ManifestSummary, error) {
	present, err := m.presentManifests(ctx, g.target, 0)
	if err != nil {
		return nil, err
	}
	out := []mobyimage.ManifestSummary{}
	for _, desc := range present {
		who := g.identified
		who.target = desc
		image, err := m.load(ctx, who, nil)
		if err != nil {
			return nil, err
		}
		size, err := m.size(ctx, image)
		if err != nil {
			return nil, err
		}
		summary := mobyimage.ManifestSummary{
			ID: desc.Digest.String(), Descriptor: desc, Kind: mobyimage.ManifestKindImage,
			Available: g.late || m.complete(ctx, image),
			ImageData: &mobyimage.ImageProperties{Platform: image.Spec.Platform, Containers: []string{}},
		}
		summary.Size.Content, summary.Size.Total = size.content, size.total()
		summary.ImageData.Size.Unpacked = size.unpacked()
		if containers != nil {
			for _, user := range containers(g.id) {
				summary.ImageData.Containers = append(summary.ImageData.Containers, user.ID)
			}
		}
		out = append(out, summary)
	}
	return out, nil
}

// complete says whether all blobs of the image are in the store.
func (m *Manager) complete(ctx context.Context, image *Image) bool {
	_, _, _, missing, err := images.Check(ctx, m.content, image.manifest, m.platform)
	return err == nil && len(missing) == 0
}

// History lists the steps that made the image, newest first.
func (m *Manager) History(ctx context.Context, ref string, platform *ocispec.Platform) ([]mobyimage.HistoryResponseItem, error) {
	image, err := m.GetPlatform(ctx, ref, platform)
	if err != nil {
		return nil, err
	}
	g, err := m.group(ctx, image.ID)
	if err != nil {
		return nil, err
	}
	sizes, err := m.layerUsages(ctx, image)
	if err != nil {
		return nil, err
	}
	out := []mobyimage.HistoryResponseItem{}
	layer := 0
	for _, step := range image.Spec.History {
		item := mobyimage.HistoryResponseItem{ID: "<missing>", Comment: step.Comment, CreatedBy: step.CreatedBy}
		if step.Created != nil {
			item.Created = step.Created.Unix()
		}
		if !step.EmptyLayer && layer < len(sizes) {
			item.Size = sizes[layer]
			layer++
		}
		out = append(out, item)
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID, out[0].Tags = image.ID.String(), g.tags()
	}
	m.nameAncestors(ctx, image, out)
	return out, nil
}

// nameAncestors fills in the IDs of images of this engine that are steps of the
// history: each commit added one.
func (m *Manager) nameAncestors(ctx context.Context, image *Image, history []mobyimage.HistoryResponseItem) {
	all, err := m.groups(ctx)
	if err != nil {
		return // the history is right without them
	}
	byID := map[digest.Digest]*group{}
	for _, g := range all {
		byID[g.id] = g
	}
	for i, parent := 1, byID[image.ParentID]; i < len(history) && parent != nil; i++ {
		history[i].ID, history[i].Tags = parent.id.String(), parent.tags()
		if parent.parent == "" {
			return
		}
		parent = byID[parent.parent]
	}
}

// chains returns the chain IDs of the image's layers, lowest first.
func (i *Image) chains() []string {
	out := make([]string, len(i.Spec.RootFS.DiffIDs))
	for n := range out {
		out[n] = identity.ChainID(i.Spec.RootFS.DiffIDs[:n+1]).String()
	}
	return out
}
