package image

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"slipway/internal/failpoint"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// maxDownloads is how many layers of an image are fetched at once.
const maxDownloads = 3

// PullOptions refine Pull.
type PullOptions struct {
	// Platform is the host's if nil.
	Platform *ocispec.Platform
	// Auth are the credentials for the registry; may be nil.
	Auth *registry.AuthConfig
	// AllTags pulls every tag of the repository.
	AllTags bool
	// Progress is told what happens to each layer.
	Progress Progress
}

// Pull fetches and unpacks the image that a registry has under ref, which is a
// name with tag or digest; the tag is "latest" if there is none. A pull that
// fails or is cancelled leaves nothing.
func (m *Manager) Pull(ctx context.Context, ref string, opts PullOptions) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return invalidReference(ref, err)
	}
	report := newReporter(opts.Progress)
	defer report.close()
	if !opts.AllTags {
		return m.pull(ctx, reference.TagNameOnly(named), opts, report)
	}
	if !reference.IsNameOnly(named) {
		return errdefs.ErrInvalidArgument.WithMessage("tag can't be used with --all-tags/-a")
	}
	return errdefs.ErrNotImplemented.WithMessage("pulling all tags of a repository is not supported yet: name the tags")
}

// pulling is one pull.
type pulling struct {
	m        *Manager
	named    reference.Named
	platform platforms.MatchComparer
	fetcher  remotes.Fetcher
	source   images.HandlerFunc // notes on each blob where it came from
	report   *reporter
	fetched  map[digest.Digest]bool // layers that were not here
}

// The methods of unpackObserver.

func (p *pulling) extracting(layer ocispec.Descriptor, done int64) {
	p.report.bar(shortID(layer.Digest), "Extracting", min(done, layer.Size), layer.Size)
}

func (p *pulling) unpacked(layer ocispec.Descriptor) {
	if p.fetched[layer.Digest] {
		p.report.layer(shortID(layer.Digest), "Pull complete")
	}
}

func (m *Manager) pull(ctx context.Context, named reference.Named, opts PullOptions, report *reporter) (err error) {
	if err := m.room.check(ctx); err != nil {
		return err
	}
	ctx, done, err := m.lease(ctx, "pull")
	if err != nil {
		return err
	}
	defer done(&err)
	id := named.String()
	if tagged, ok := named.(reference.Tagged); ok {
		id = tagged.Tag()
	}
	report.status(id, "Pulling from %s", reference.Path(named))

	p := &pulling{m: m, named: named, platform: m.platform, report: report, fetched: map[digest.Digest]bool{}}
	if opts.Platform != nil {
		p.platform = platforms.Only(*opts.Platform)
	}
	resolver := m.resolver(ctx, named, opts.Auth)
	_, target, err := resolver.Resolve(ctx, named.String())
	if err != nil {
		return pullError(named, err)
	}
	if p.fetcher, err = resolver.Fetcher(ctx, named.String()); err != nil {
		return pullError(named, err)
	}
	if p.source, err = docker.AppendDistributionSourceLabel(m.content, named.String()); err != nil {
		return err
	}
	if err := p.fetch(ctx, target); err != nil {
		return err
	}
	if err := syncFS(m.root); err != nil {
		return fmt.Errorf("syncing the image: %w", err)
	}
	failpoint.Hit("image.pull.synced")
	old, err := m.recordOwner(ctx, named.String())
	if err != nil {
		return err
	}
	now, err := m.name(ctx, named.String(), target)
	if err != nil {
		return err
	}
	report.status("", "Digest: %s", target.Digest)
	familiar := reference.FamiliarString(named)
	if old == now && len(p.fetched) == 0 {
		report.status("", "Status: Image is up to date for %s", familiar)
	} else {
		report.status("", "Status: Downloaded newer image for %s", familiar)
	}
	m.publish(events.ActionPull, familiar, map[string]string{"name": reference.FamiliarName(named)})
	return nil
}

// fetch brings in an index or manifest with what the platform needs of it.
func (p *pulling) fetch(ctx context.Context, target ocispec.Descriptor) error {
	switch {
	case images.IsIndexType(target.MediaType):
		return p.fetchIndex(ctx, target)
	case images.IsManifestType(target.MediaType):
		return p.fetchManifest(ctx, target)
	default:
		return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("%s has media type %q, which is not an image's",
			reference.FamiliarString(p.named), target.MediaType))
	}
}

func (p *pulling) fetchIndex(ctx context.Context, target ocispec.Descriptor) error {
	if err := p.fetchSmall(ctx, target); err != nil {
		return err
	}
	var index ocispec.Index
	if err := p.m.readJSON(ctx, target, &index); err != nil {
		return err
	}
	best := -1
	for i, child := range index.Manifests {
		if child.Platform == nil || child.Annotations[annotationReferenceType] != "" || !p.platform.Match(*child.Platform) {
			continue
		}
		if best < 0 || p.platform.Less(*child.Platform, *index.Manifests[best].Platform) {
			best = i
		}
	}
	if best < 0 {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("no matching manifest for %s in the manifest list entries", describe(p.platform)))
	}
	if err := p.fetch(ctx, index.Manifests[best]); err != nil {
		return err
	}
	return p.m.label(ctx, target.Digest, map[string]string{
		fmt.Sprintf("%s.m.%d", labelGCContent, best): index.Manifests[best].Digest.String(),
	})
}

// describe names the platform that a matcher wants.
func describe(matcher platforms.MatchComparer) string {
	if s, ok := matcher.(fmt.Stringer); ok {
		return s.String()
	}
	return platforms.FormatAll(platforms.DefaultSpec())
}

func (p *pulling) fetchManifest(ctx context.Context, target ocispec.Descriptor) error {
	if err := p.fetchSmall(ctx, target); err != nil {
		return err
	}
	var manifest ocispec.Manifest
	if err := p.m.readJSON(ctx, target, &manifest); err != nil {
		return err
	}
	if err := p.fetchSmall(ctx, manifest.Config); err != nil {
		return err
	}
	var spec Spec
	if err := p.m.readJSON(ctx, manifest.Config, &spec); err != nil {
		return err
	}
	who, err := p.m.identify(ctx, target)
	if err != nil {
		return err
	}
	if who.late {
		// Made here and pushed: everything is still here, though not as the
		// archives that the registry has.
		return nil
	}
	if err := p.m.label(ctx, target.Digest, manifestLabels(manifest.Config, manifest.Layers)); err != nil {
		return err
	}
	if err := p.fetchLayers(ctx, manifest.Layers); err != nil {
		return err
	}
	failpoint.Hit("image.pull.fetched")
	if !p.platform.Match(platforms.Normalize(spec.Platform)) && spec.OS != "" {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with reference %s was found but does not provide the specified platform (%s)",
			reference.FamiliarString(p.named), describe(p.platform)))
	}
	if !p.m.platform.Match(platforms.Normalize(spec.Platform)) {
		for _, layer := range manifest.Layers {
			p.unpacked(layer)
		}
		return nil // for another host: kept packed
	}
	if err := p.m.unpack(ctx, manifest.Config, manifest.Layers, spec.RootFS.DiffIDs, p); err != nil {
		return fmt.Errorf("unpacking %s: %w", reference.FamiliarString(p.named), err)
	}
	return nil
}

// fetchSmall fetches a manifest, index or config.
func (p *pulling) fetchSmall(ctx context.Context, desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s: %v", reference.FamiliarString(p.named), err))
	}
	if desc.Size > maxBlob {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("blob %s has %d bytes, too many for a manifest or config", desc.Digest, desc.Size))
	}
	if err := p.fetchBlob(ctx, desc, p.fetcher); err != nil {
		return pullError(p.named, err)
	}
	return nil
}

func (p *pulling) fetchBlob(ctx context.Context, desc ocispec.Descriptor, fetcher remotes.Fetcher) error {
	if err := remotes.Fetch(ctx, p.m.content, fetcher, desc); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	_, err := p.source(ctx, desc)
	return err
}

func (p *pulling) fetchLayers(ctx context.Context, layers []ocispec.Descriptor) error {
	for _, layer := range layers {
		if err := layer.Digest.Validate(); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s: %v", reference.FamiliarString(p.named), err))
		}
		_, err := p.m.content.Info(ctx, layer.Digest)
		if errdefs.IsNotFound(err) {
			p.fetched[layer.Digest] = true
		} else if err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxDownloads)
	seen := map[digest.Digest]bool{}
	var unique []ocispec.Descriptor
	for _, layer := range layers {
		if seen[layer.Digest] {
			continue
		}
		seen[layer.Digest] = true
		unique = append(unique, layer)
		if p.fetched[layer.Digest] {
			p.report.layer(shortID(layer.Digest), "Pulling fs layer")
		} else if len(p.fetched) > 0 {
			p.report.layer(shortID(layer.Digest), "Already exists")
		}
	}
	for _, layer := range unique {
		// Also a layer that is there: that puts it under the lease.
		group.Go(func() error { return p.fetchLayer(ctx, layer, p.fetched[layer.Digest]) })
	}
	return pullError(p.named, group.Wait())
}

func (p *pulling) fetchLayer(ctx context.Context, layer ocispec.Descriptor, report bool) error {
	fetcher := remotes.FetcherFunc(func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		r, err := p.fetcher.Fetch(ctx, desc)
		if err != nil {
			return nil, err
		}
		take := func(n int) error { return p.m.room.take(ctx, n) }
		return &countedReader{ReadCloser: r, total: desc.Size, report: p.report, id: shortID(desc.Digest), take: take}, nil
	})
	if err := p.fetchBlob(ctx, layer, fetcher); err != nil {
		return fmt.Errorf("layer %s: %w", layer.Digest, err)
	}
	if report {
		p.report.layer(shortID(layer.Digest), "Download complete")
	}
	return nil
}

// countedReader reports a download and asks for room for it. It keeps its source's ability to seek, by
// which an interrupted download goes on.
type countedReader struct {
	io.ReadCloser
	report   *reporter
	take     func(n int) error
	id       string
	at       int64
	total    int64
	verified bool
}

func (c *countedReader) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	if terr := c.take(n); terr != nil {
		return 0, terr
	}
	c.at += int64(n)
	c.report.bar(c.id, "Downloading", c.at, c.total)
	if c.at >= c.total && !c.verified {
		c.verified = true
		c.report.layer(c.id, "Verifying Checksum")
	}
	return n, err
}

func (c *countedReader) Seek(offset int64, whence int) (int64, error) {
	seeker, ok := c.ReadCloser.(io.Seeker)
	if !ok {
		return 0, fmt.Errorf("the registry's answer cannot be resumed at %s: %w", strconv.FormatInt(offset, 10), errdefs.ErrNotImplemented)
	}
	at, err := seeker.Seek(offset, whence)
	if err == nil {
		c.at = at
	}
	return at, err
}
