package image

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxBlob bounds the manifests, indexes and configurations that are read into
// memory, which may come from a registry or an archive.
const maxBlob = 16 << 20

// Spec is an image's configuration as it is stored.
type Spec struct {
	ocispec.Image
	// Config hides the plain OCI configuration of the same JSON name.
	Config RunConfig `json:"config"`
}

// RunConfig is what an image says about containers made from it.
type RunConfig struct {
	dockerspec.DockerOCIImageConfig
	// StopTimeout is in seconds; nil means the engine's default.
	StopTimeout *int `json:",omitempty"`
}

// FromContainerConfig takes what an image can keep from a container's
// configuration.
func FromContainerConfig(c *container.Config) RunConfig {
	if c == nil {
		return RunConfig{}
	}
	r := RunConfig{StopTimeout: c.StopTimeout}
	r.User, r.Env, r.Entrypoint, r.Cmd = c.User, slices.Clone(c.Env), slices.Clone(c.Entrypoint), slices.Clone(c.Cmd)
	r.Volumes, r.WorkingDir, r.Labels, r.StopSignal = c.Volumes, c.WorkingDir, c.Labels, c.StopSignal
	r.Healthcheck, r.OnBuild, r.Shell = c.Healthcheck, slices.Clone(c.OnBuild), slices.Clone(c.Shell)
	r.ArgsEscaped = c.ArgsEscaped //nolint:staticcheck // deprecated in OCI, still part of Windows images
	if len(c.ExposedPorts) > 0 {
		r.ExposedPorts = make(map[string]struct{}, len(c.ExposedPorts))
		for port := range c.ExposedPorts {
			r.ExposedPorts[port.String()] = struct{}{}
		}
	}
	return r
}

// ContainerConfig is the part of a container's configuration that the image
// gives.
func (c *RunConfig) ContainerConfig() *container.Config {
	out := &container.Config{
		User: c.User, Env: slices.Clone(c.Env), Entrypoint: slices.Clone(c.Entrypoint), Cmd: slices.Clone(c.Cmd),
		Volumes: maps.Clone(c.Volumes), WorkingDir: c.WorkingDir, Labels: maps.Clone(c.Labels), StopSignal: c.StopSignal,
		Healthcheck: c.Healthcheck, OnBuild: slices.Clone(c.OnBuild), Shell: slices.Clone(c.Shell), StopTimeout: c.StopTimeout,
		ArgsEscaped: c.ArgsEscaped, //nolint:staticcheck // deprecated in OCI, still part of Windows images
	}
	for exposed := range c.ExposedPorts {
		ports, err := network.ParsePortRange(exposed)
		if err != nil {
			continue // an image from elsewhere may say anything; docker ignores it as well
		}
		if out.ExposedPorts == nil {
			out.ExposedPorts = network.PortSet{}
		}
		for port := range ports.All() {
			out.ExposedPorts[port] = struct{}{}
		}
	}
	return out
}

// Image is one image on one platform, as it was when it was looked up. It is
// never changed after that.
type Image struct {
	// ID is the public ID. It never changes while the image is on this engine.
	ID digest.Digest
	// Target is what the ID is the digest of: a manifest, or an index of
	// manifests for several platforms.
	Target ocispec.Descriptor
	// Spec is the configuration of the chosen platform.
	Spec Spec
	// ChainID is the key of the snapshot that a container's root is prepared
	// on; empty for an image without layers.
	ChainID string
	// ParentID is the image that this one was committed on, or empty.
	ParentID digest.Digest

	manifest ocispec.Descriptor
	layers   []ocispec.Descriptor
	config   ocispec.Descriptor
	portable digest.Digest // of the portable manifest, if it has been made
}

// lateLayers counts the layers made late, which are always the topmost.
func (i *Image) lateLayers() int {
	n := 0
	for _, layer := range slices.Backward(i.layers) {
		if !isLate(layer) {
			break
		}
		n++
	}
	return n
}

func isLate(layer ocispec.Descriptor) bool { return layer.Annotations[annotationLate] != "" }

// Get returns the image that ref names, on the host's platform if it has it and
// else on any that is here. Ref is a name with or without tag, a name with a
// digest, or an ID or a unique beginning of one.
func (m *Manager) Get(ctx context.Context, ref string) (*Image, error) {
	return m.GetPlatform(ctx, ref, nil)
}

// GetPlatform is like Get, but fails with errdefs.ErrNotFound if platform is
// given and the image does not have it.
func (m *Manager) GetPlatform(ctx context.Context, ref string, platform *ocispec.Platform) (*Image, error) {
	image, _, err := m.find(ctx, ref, platform)
	return image, err
}

// find also says how the image was found.
func (m *Manager) find(ctx context.Context, ref string, platform *ocispec.Platform) (*Image, identified, error) {
	who, err := m.resolve(ctx, ref)
	if err != nil {
		return nil, who, err
	}
	image, err := m.load(ctx, who, platform)
	if errdefs.IsNotFound(err) && platform != nil {
		return nil, who, errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
			"image with reference %s was found but does not provide the specified platform (%s)", ref, platforms.FormatAll(*platform)))
	}
	if err != nil {
		return nil, who, fmt.Errorf("reading image %s: %w", ref, err)
	}
	return image, who, nil
}

// Acquire is like GetPlatform and also keeps Remove and Prune of the image
// waiting until release is called.
func (m *Manager) Acquire(ctx context.Context, ref string, platform *ocispec.Platform) (_ *Image, release func(), err error) {
	for {
		image, err := m.GetPlatform(ctx, ref, platform)
		if err != nil {
			return nil, nil, err
		}
		release, err = m.locks.RLock(ctx, imageKey(image.ID))
		if err != nil {
			return nil, nil, err
		}
		again, err := m.GetPlatform(ctx, ref, platform)
		if err == nil && again.ID == image.ID {
			return again, release, nil
		}
		release()
		if err != nil {
			return nil, nil, err
		}
	}
}

// load reads the image from its identity.
func (m *Manager) load(ctx context.Context, who identified, platform *ocispec.Platform) (*Image, error) {
	image := &Image{ID: who.id, Target: who.target, ParentID: who.parent, portable: who.portable}
	var err error
	if image.manifest, err = m.choose(ctx, who.target, platform); err != nil {
		return nil, err
	}
	var manifest ocispec.Manifest
	if err := m.readJSON(ctx, image.manifest, &manifest); err != nil {
		return nil, err
	}
	if err := m.readJSON(ctx, manifest.Config, &image.Spec); err != nil {
		return nil, err
	}
	image.layers, image.config = manifest.Layers, manifest.Config
	if len(image.layers) != len(image.Spec.RootFS.DiffIDs) {
		return nil, fmt.Errorf("manifest %s has %d layers, its config %d: %w",
			image.manifest.Digest, len(image.layers), len(image.Spec.RootFS.DiffIDs), errdefs.ErrDataLoss)
	}
	if platform != nil && !platforms.Only(*platform).Match(platforms.Normalize(image.Spec.Platform)) {
		return nil, fmt.Errorf("platform %s: %w", platforms.FormatAll(*platform), errdefs.ErrNotFound)
	}
	image.ChainID = identity.ChainID(image.Spec.RootFS.DiffIDs).String()
	return image, nil
}

// choose picks the manifest of a target: the one that fits the platform best or,
// if none was asked for, any one that is here.
func (m *Manager) choose(ctx context.Context, target ocispec.Descriptor, platform *ocispec.Platform) (ocispec.Descriptor, error) {
	if !images.IsIndexType(target.MediaType) {
		return target, nil
	}
	matcher := m.platform
	if platform != nil {
		matcher = platforms.Only(*platform)
	}
	present, err := m.presentManifests(ctx, target, 0)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	best := -1
	for i, desc := range present {
		if desc.Platform == nil || !matcher.Match(*desc.Platform) {
			continue
		}
		if best < 0 || matcher.Less(*desc.Platform, *present[best].Platform) {
			best = i
		}
	}
	if best < 0 && platform == nil && len(present) > 0 {
		best = 0
	}
	if best < 0 {
		return ocispec.Descriptor{}, fmt.Errorf("no manifest of %s is here: %w", target.Digest, errdefs.ErrNotFound)
	}
	return present[best], nil
}

// maxIndexDepth bounds indexes that refer to indexes.
const maxIndexDepth = 4

// presentManifests lists the runnable manifests below target whose own blob and
// config are in the store, with their platforms filled in.
func (m *Manager) presentManifests(ctx context.Context, target ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	if depth > maxIndexDepth {
		return nil, fmt.Errorf("index %s is nested too deeply: %w", target.Digest, errdefs.ErrInvalidArgument)
	}
	if images.IsManifestType(target.MediaType) {
		if target.Annotations[annotationReferenceType] != "" {
			return nil, nil // an attestation
		}
		var manifest ocispec.Manifest
		if err := m.readJSON(ctx, target, &manifest); err != nil {
			return nil, ignoreNotFound(err)
		}
		var config Spec
		if err := m.readJSON(ctx, manifest.Config, &config); err != nil {
			return nil, ignoreNotFound(err)
		}
		if config.OS == "" || config.Architecture == "" {
			return nil, nil // not an image, whatever it is
		}
		platform := platforms.Normalize(config.Platform)
		target.Platform = &platform
		return []ocispec.Descriptor{target}, nil
	}
	if !images.IsIndexType(target.MediaType) {
		return nil, nil
	}
	var index ocispec.Index
	if err := m.readJSON(ctx, target, &index); err != nil {
		return nil, ignoreNotFound(err)
	}
	var present []ocispec.Descriptor
	for _, child := range index.Manifests {
		found, err := m.presentManifests(ctx, child, depth+1)
		if err != nil {
			return nil, err
		}
		present = append(present, found...)
	}
	return present, nil
}

// readJSON reads a manifest, index or configuration.
func (m *Manager) readJSON(ctx context.Context, desc ocispec.Descriptor, into any) error {
	data, err := m.readSmall(ctx, desc)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("blob %s is not what it should be: %v", desc.Digest, err))
	}
	return nil
}

func (m *Manager) readSmall(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxBlob {
		return nil, fmt.Errorf("blob %s has %d bytes, too many for a manifest or config: %w", desc.Digest, desc.Size, errdefs.ErrInvalidArgument)
	}
	return content.ReadBlob(ctx, m.content, desc)
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
