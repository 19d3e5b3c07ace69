package image

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"slipway/internal/failpoint"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Labels and annotations; the package comment says on what they stand.
const (
	labelOperation = "io.slipway.image.operation"
	labelParent    = "io.slipway.image.parent"
	labelPortable  = "io.slipway.image.portable"
	labelLocal     = "io.slipway.image.local"

	labelLate        = "io.slipway.layer.late"
	labelLayerDigest = "io.slipway.layer.digest"
	labelLayerSize   = "io.slipway.layer.size"
	labelLayerUsage  = "io.slipway.layer.usage"

	annotationLate          = "io.slipway.layer.late"
	annotationReferenceType = "vnd.docker.reference.type"

	labelGCContent    = "containerd.io/gc.ref.content"
	labelGCConfig     = labelGCContent + ".config"
	labelGCLayer      = labelGCContent + ".l."
	labelGCPortable   = labelGCContent + ".portable"
	labelGCLocal      = labelGCContent + ".local"
	labelGCSnapshot   = "containerd.io/gc.ref.snapshot."
	labelUncompressed = "containerd.io/uncompressed"
)

// writeJSON stores a manifest or config. A blob that is there already keeps its
// labels and gets the given ones as well.
func (m *Manager) writeJSON(ctx context.Context, mediaType string, value any, labels map[string]string) (ocispec.Descriptor, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	ref := "slipway-" + rand.Text()
	if err := content.WriteBlob(ctx, m.content, ref, bytes.NewReader(data), desc, content.WithLabels(labels)); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("writing %s: %w", mediaType, err)
	}
	return desc, m.label(ctx, desc.Digest, labels)
}

// label sets labels of a blob and leaves its others.
func (m *Manager) label(ctx context.Context, blob digest.Digest, labels map[string]string) error {
	info, err := m.content.Info(ctx, blob)
	if err != nil {
		return fmt.Errorf("labelling %s: %w", blob, err)
	}
	var fields []string
	for key, value := range labels {
		if there, ok := info.Labels[key]; !ok || there != value {
			fields = append(fields, "labels."+key)
		}
	}
	if len(fields) == 0 {
		return nil // it was written with them just now
	}
	if _, err := m.content.Update(ctx, content.Info{Digest: blob, Labels: labels}, fields...); err != nil {
		return fmt.Errorf("labelling %s: %w", blob, err)
	}
	return nil
}

// name makes name stand for the image with the given target and returns the
// image's ID. The image that had the name before, if it has no other, stays as
// a dangling one. Publishes nothing.
func (m *Manager) name(ctx context.Context, name string, target ocispec.Descriptor) (digest.Digest, error) {
	for {
		who, err := m.identify(ctx, target)
		if err != nil {
			return "", err
		}
		old, err := m.recordOwner(ctx, name)
		if err != nil {
			return "", err
		}
		keys := []string{nameKey(name), imageKey(who.id)}
		if old != "" && old != who.id {
			keys = append(keys, imageKey(old))
		}
		done, err := m.nameLocked(ctx, keys, name, target, who.id, old)
		if err != nil || done {
			return who.id, err
		}
	}
}

// recordOwner returns the ID of the image that has the name, or "".
func (m *Manager) recordOwner(ctx context.Context, name string) (digest.Digest, error) {
	record, err := m.images.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	who, err := m.identify(ctx, record.Target)
	if errdefs.IsNotFound(err) {
		return record.Target.Digest, nil // damaged: to be replaced
	}
	return who.id, err
}

// nameLocked does the work of name under its locks. It reports false if the name
// changed hands before they were held.
func (m *Manager) nameLocked(ctx context.Context, keys []string, name string, target ocispec.Descriptor, id, old digest.Digest) (bool, error) {
	unlock, err := m.locks.Lock(ctx, keys...)
	if err != nil {
		return false, err
	}
	defer unlock()
	if now, err := m.recordOwner(ctx, name); err != nil || now != old {
		return false, err
	}
	if old != "" && old != id {
		if err := m.keepDangling(ctx, old, name); err != nil {
			return false, err
		}
	}
	target.Annotations, target.Platform = nil, nil
	record := images.Image{Name: name, Target: target, CreatedAt: time.Now().UTC(), UpdatedAt: time.Now().UTC()}
	failpoint.Hit("image.record.before")
	if _, err = m.images.Create(ctx, record); errdefs.IsAlreadyExists(err) {
		_, err = m.images.Update(ctx, record, "target")
	}
	failpoint.Hit("image.record.after")
	if err != nil {
		return false, fmt.Errorf("recording image %s: %w", name, err)
	}
	if name != danglingName(id) {
		if err := m.images.Delete(ctx, danglingName(id)); err != nil && !errdefs.IsNotFound(err) {
			return false, fmt.Errorf("recording image %s: %w", name, err)
		}
	}
	return true, nil
}

// keepDangling gives the image a record without a name if leaving is the only
// record it has.
func (m *Manager) keepDangling(ctx context.Context, id digest.Digest, leaving string) error {
	g, err := m.group(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, record := range g.records {
		if record.Name != leaving {
			return nil
		}
	}
	record := images.Image{Name: danglingName(id), Target: g.target, CreatedAt: time.Now().UTC(), UpdatedAt: time.Now().UTC()}
	if _, err := m.images.Create(ctx, record); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keeping image %s: %w", id, err)
	}
	return nil
}

// Tag gives the image that ref names another name, repository[:tag].
func (m *Manager) Tag(ctx context.Context, ref, target string) (err error) {
	tagged, err := parseTag(target)
	if err != nil {
		return err
	}
	who, err := m.resolve(ctx, ref)
	if err != nil {
		return err
	}
	ctx, done, err := m.lease(ctx, "tag")
	if err != nil {
		return err
	}
	defer done(&err)
	if err := m.keep(ctx, who.target); err != nil {
		return err
	}
	if _, err := m.name(ctx, tagged.String(), who.target); err != nil {
		return err
	}
	m.publish(events.ActionTag, who.id.String(), map[string]string{"name": reference.FamiliarString(tagged)})
	return nil
}

// keep makes the lease of ctx hold the manifest and what it refers to, even if
// its image is removed meanwhile. It fails if that has happened already.
func (m *Manager) keep(ctx context.Context, target ocispec.Descriptor) error {
	id, ok := leases.FromContext(ctx)
	if !ok {
		return errors.New("image: no lease in context")
	}
	resource := leases.Resource{ID: target.Digest.String(), Type: "content"}
	if err := m.leases.AddResource(ctx, leases.Lease{ID: id}, resource); err != nil {
		return fmt.Errorf("leasing %s: %w", target.Digest, err)
	}
	if _, err := m.content.Info(ctx, target.Digest); err != nil {
		return fmt.Errorf("image %s: %w", target.Digest, err)
	}
	return nil
}
