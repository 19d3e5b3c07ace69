package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// PushOptions refine Push.
type PushOptions struct {
	// Platform pushes that one of a multi-platform image; all if nil.
	Platform *ocispec.Platform
	// Auth are the credentials for the registry; may be nil.
	Auth *registry.AuthConfig
	// Progress is told what happens to each layer.
	Progress Progress
}

// Push sends the image that has the name ref, repository[:tag], to the
// registry of that name. Layers made late are archived on the way, without a
// copy on disk.
func (m *Manager) Push(ctx context.Context, ref string, opts PushOptions) (err error) {
	named, err := parseTag(ref)
	if err != nil {
		return err
	}
	image, err := m.GetPlatform(ctx, named.String(), opts.Platform)
	if errdefs.IsNotFound(err) {
		return errdefs.ErrNotFound.WithMessage("An image does not exist locally with the tag: " + reference.FamiliarName(named))
	}
	if err != nil {
		return err
	}
	ctx, done, err := m.lease(ctx, "push")
	if err != nil {
		return err
	}
	defer done(&err)
	plan := &savePlan{blobs: map[digest.Digest]savedBlob{}, platform: opts.Platform}
	report := newReporter(opts.Progress)
	defer report.close()
	report.status("", "The push refers to repository [%s]", named.Name())
	if err := m.planImage(ctx, plan, image, nil, report); err != nil {
		return err
	}
	target, err := m.pushTarget(ctx, plan, image, report)
	if err != nil {
		return err
	}
	pusher, err := m.resolver(ctx, named, opts.Auth).Pusher(ctx, named.String()+"@"+target.Digest.String())
	if err != nil {
		return pushError(named, err)
	}
	if err := m.pushBlobs(ctx, pusher, plan, report); err != nil {
		return pushError(named, err)
	}
	report.status("", "%s: digest: %s size: %d", named.Tag(), target.Digest, target.Size)
	aux, err := json.Marshal(map[string]any{"Tag": named.Tag(), "Digest": target.Digest, "Size": target.Size})
	if err != nil {
		return err
	}
	raw := json.RawMessage(aux)
	report.message(jsonstream.Message{Aux: &raw})
	m.publish(events.ActionPush, reference.FamiliarString(named), map[string]string{"name": reference.FamiliarName(named)})
	return nil
}

// pushTarget returns what gets the tag: the image's manifest, or its index if all
// platforms are here. A registry takes no index of things it does not have, so
// of others only the host's platform is pushed, and the client is told.
func (m *Manager) pushTarget(ctx context.Context, plan *savePlan, image *Image, report *reporter) (ocispec.Descriptor, error) {
	target := plan.index[0]
	if !images.IsIndexType(target.MediaType) {
		return target, nil
	}
	var index ocispec.Index
	if err := m.readJSON(ctx, target, &index); err != nil {
		return target, err
	}
	complete := true
	for _, child := range index.Manifests {
		_, ok := plan.blobs[child.Digest]
		complete = complete && ok
	}
	if complete {
		return target, nil
	}
	*plan = savePlan{platform: plan.platform, blobs: map[digest.Digest]savedBlob{}}
	if err := m.planManifest(ctx, plan, image.manifest, image); err != nil {
		return target, err
	}
	note, err := json.Marshal(auxprogress.ManifestPushedInsteadOfIndex{
		ManifestPushedInsteadOfIndex: true, OriginalIndex: target, SelectedManifest: image.manifest,
	})
	if err != nil {
		return target, err
	}
	raw := json.RawMessage(note)
	report.message(jsonstream.Message{Aux: &raw})
	return image.manifest, nil
}

// pushBlobs sends layers and configs, then the manifests and at last the index,
// because a registry refuses what refers to something it does not have.
func (m *Manager) pushBlobs(ctx context.Context, pusher remotes.Pusher, plan *savePlan, report *reporter) error {
	var manifests, indexes []savedBlob
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxDownloads)
	for _, d := range plan.order {
		blob := plan.blobs[d]
		switch {
		case images.IsIndexType(blob.desc.MediaType):
			indexes = append(indexes, blob)
		case images.IsManifestType(blob.desc.MediaType):
			manifests = append(manifests, blob)
		default:
			group.Go(func() error { return m.pushBlob(groupCtx, pusher, blob, report) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, blob := range append(manifests, indexes...) {
		if err := m.pushBlob(ctx, pusher, blob, nil); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) pushBlob(ctx context.Context, pusher remotes.Pusher, blob savedBlob, report *reporter) (err error) {
	id := shortID(blob.desc.Digest)
	isLayer := report != nil && images.IsLayerType(blob.desc.MediaType)
	if isLayer {
		report.layer(id, "Preparing")
	}
	w, err := pusher.Push(ctx, blob.desc)
	if errdefs.IsAlreadyExists(err) {
		if isLayer {
			report.layer(id, "Layer already exists")
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	counted := &countedWriter{Writer: w}
	if isLayer {
		counted.advance = func(n int64) { report.bar(id, "Pushing", n, blob.desc.Size) }
	}
	if blob.image != nil {
		err = m.sendLayer(ctx, counted, blob.image, blob.layer, blob.desc)
	} else {
		err = m.sendBlob(ctx, counted, blob.desc)
	}
	if err != nil {
		return err
	}
	if err := w.Commit(ctx, blob.desc.Size, blob.desc.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	if isLayer {
		report.layer(id, "Pushed")
	}
	return nil
}

// countedWriter reports an upload.
type countedWriter struct {
	io.Writer
	advance func(total int64) // may be nil
	n       int64
}

func (c *countedWriter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n += int64(n)
	if c.advance != nil {
		c.advance(c.n)
	}
	return n, err
}

func pushError(named reference.Named, err error) error {
	switch code, message := registryAnswer(err); {
	case code == 401 || code == 403 || errors.Is(err, docker.ErrInvalidAuthorization):
		if message == "" {
			message = "denied: requested access to the resource is denied"
		}
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("push access denied for %s: %s", reference.FamiliarName(named), message))
	default:
		return fmt.Errorf("pushing %s: %w", reference.FamiliarString(named), err)
	}
}
