package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"slipway/internal/failpoint"
	"slipway/internal/span"
	"slipway/layerstore"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationUsage is what a layer made late takes on disk, in bytes.
const annotationUsage = "io.slipway.layer.usage"

// CommitRequest says what Commit makes an image of.
type CommitRequest struct {
	// Parent is the image on which the new layer lies; nil for none.
	Parent *Image
	// Config replaces the parent's.
	Config RunConfig
	// Platform is the parent's or the host's if nil.
	Platform *ocispec.Platform
	// Created is now if zero.
	Created time.Time
	// CreatedBy, Comment and Author stand in the image's history.
	CreatedBy, Comment, Author string
	// Ref is the name the image gets, repository[:tag], or empty for none.
	Ref string
	// Fill puts the layer's files into the directory upper, which exists and is
	// empty: what overlayfs would have in an upper directory or, where layers are
	// plain directories, the whole tree. It need not sync. It is called once.
	Fill func(ctx context.Context, upper string) error
	// Usage, if given, is asked after Fill how many bytes it put there; else
	// they are counted when somebody asks for the image's size.
	Usage func() int64
}

// Commit makes an image of its parent and a layer that Fill supplies. The layer
// is neither archived nor hashed, so that the cost is Fill's. When Commit
// returns without error the image survives a power cut; when it fails nothing
// is left.
func (m *Manager) Commit(ctx context.Context, req CommitRequest) (_ *Image, err error) {
	if req.Fill == nil {
		return nil, errors.New("image: a commit needs Fill")
	}
	var tag reference.NamedTagged
	if req.Ref != "" {
		if tag, err = parseTag(req.Ref); err != nil {
			return nil, err
		}
	}
	ctx, done, err := m.lease(ctx, "commit")
	if err != nil {
		return nil, err
	}
	defer done(&err)
	draft := newDraft(&req)
	if req.Parent != nil {
		if err := m.keep(ctx, req.Parent.Target); err != nil {
			return nil, err
		}
		if err := m.EnsureUnpacked(ctx, req.Parent); err != nil {
			return nil, err
		}
	}
	if err := m.addLayer(ctx, draft, req.Fill); err != nil {
		return nil, err
	}
	if req.Usage != nil {
		draft.layers[len(draft.layers)-1].Annotations[annotationUsage] = strconv.FormatInt(req.Usage(), 10)
	}
	if draft.late > m.maxChain && m.flatten != nil {
		if err := m.flattenLayers(ctx, draft); err != nil {
			return nil, err
		}
	}
	draft.addHistory(&req)
	target, err := m.writeLocal(ctx, draft)
	if err != nil {
		return nil, err
	}
	return m.recordCommit(ctx, target, tag)
}

// recordCommit makes the written image durable and then known.
func (m *Manager) recordCommit(ctx context.Context, target ocispec.Descriptor, tag reference.NamedTagged) (*Image, error) {
	// Files of the layer and of the content store reach the disk before the
	// record that promises them, which the metadata store syncs itself.
	synced := span.Start(ctx, "sync")
	if err := syncFS(m.root); err != nil {
		return nil, fmt.Errorf("syncing the image: %w", err)
	}
	synced()
	failpoint.Hit("image.commit.synced")
	defer span.Start(ctx, "name image")()
	name := danglingName(target.Digest)
	if tag != nil {
		name = tag.String()
	}
	id, err := m.name(ctx, name, target)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("image.commit.recorded")
	if tag != nil {
		m.publish(events.ActionTag, id.String(), map[string]string{"name": reference.FamiliarString(tag)})
	}
	who, err := m.identify(ctx, target)
	if err != nil {
		return nil, err
	}
	return m.load(ctx, who, nil)
}

// draft is an image that is being made.
type draft struct {
	spec   Spec
	layers []ocispec.Descriptor
	late   int // how many of the topmost layers are made late
	parent digest.Digest
}

func newDraft(req *CommitRequest) *draft {
	d := &draft{}
	created := req.Created
	if created.IsZero() {
		created = time.Now()
	}
	created = created.UTC()
	d.spec.Platform = platforms.DefaultSpec()
	if req.Parent != nil {
		d.parent, d.late = req.Parent.ID, req.Parent.lateLayers()
		d.spec.Platform = req.Parent.Spec.Platform
		d.spec.RootFS.DiffIDs = slices.Clone(req.Parent.Spec.RootFS.DiffIDs)
		d.spec.History = slices.Clone(req.Parent.Spec.History)
		d.layers = slices.Clone(req.Parent.layers)
		for i := range d.layers {
			d.layers[i].MediaType = ociLayerType(d.layers[i].MediaType)
		}
	}
	if req.Platform != nil {
		d.spec.Platform = *req.Platform
	}
	d.spec.Created, d.spec.Author, d.spec.Config = &created, req.Author, req.Config
	d.spec.RootFS.Type = "layers"
	return d
}

// ociLayerType is the OCI name of a layer's media type, for manifests that we
// write.
func ociLayerType(mediaType string) string {
	switch mediaType {
	case images.MediaTypeDockerSchema2Layer:
		return ocispec.MediaTypeImageLayer
	case images.MediaTypeDockerSchema2LayerGzip:
		return ocispec.MediaTypeImageLayerGzip
	case images.MediaTypeDockerSchema2LayerZstd:
		return ocispec.MediaTypeImageLayerZstd
	default:
		return mediaType
	}
}

func (d *draft) chain() string { return identity.ChainID(d.spec.RootFS.DiffIDs).String() }

// push adds a layer made late, under a digest that stands for no bytes: it has
// to be unlike every other, because it names the snapshot.
func (d *draft) push() {
	provisional := digest.FromString("slipway layer made late " + rand.Text() + rand.Text())
	d.spec.RootFS.DiffIDs = append(d.spec.RootFS.DiffIDs, provisional)
	d.layers = append(d.layers, ocispec.Descriptor{
		MediaType:   ocispec.MediaTypeImageLayer,
		Digest:      provisional,
		Annotations: map[string]string{annotationLate: layerFormat},
	})
	d.late++
}

// popLate removes the layers made late. Their history entries remain, as ones
// that have no layer.
func (d *draft) popLate() {
	keep := len(d.layers) - d.late
	d.layers, d.spec.RootFS.DiffIDs = d.layers[:keep:keep], d.spec.RootFS.DiffIDs[:keep:keep]
	// The newest layer has no entry yet.
	left := d.late - 1
	for i := len(d.spec.History) - 1; i >= 0 && left > 0; i-- {
		if !d.spec.History[i].EmptyLayer {
			d.spec.History[i].EmptyLayer = true
			left--
		}
	}
	d.late = 0
}

func (d *draft) addHistory(req *CommitRequest) {
	d.spec.History = append(d.spec.History, ocispec.History{
		Created: d.spec.Created, CreatedBy: req.CreatedBy, Author: req.Author, Comment: req.Comment,
	})
}

// addLayer puts a new late layer on the draft.
//
// The snapshot is committed before it is filled: containerd counts a snapshot's
// files inside the transaction that commits it, and with many files no other
// snapshot could be made meanwhile. Until the image's records are written only
// the lease refers to the snapshot, by a name that nobody else can guess, so
// that nobody sees it half filled and a crash leaves it to the garbage
// collector.
func (m *Manager) addLayer(ctx context.Context, d *draft, fill func(context.Context, string) error) error {
	parent := ""
	if len(d.layers) > 0 {
		parent = d.chain()
	}
	d.push()
	reserved := span.Start(ctx, "make layer")
	key := "slipway-commit-" + rand.Text()
	failpoint.Hit("image.commit.start")
	mounts, err := m.snapshots.Prepare(ctx, key, parent, m.lateOpts()...)
	if err != nil {
		return fmt.Errorf("preparing the layer: %w", err)
	}
	upper, err := m.upperDir(mounts)
	if err != nil {
		return err
	}
	if err := layerstore.InheritRoot(mounts); err != nil {
		return fmt.Errorf("preparing the layer: %w", err)
	}
	failpoint.Hit("image.commit.prepared")
	labels := snapshots.WithLabels(map[string]string{labelLate: layerFormat})
	if err := m.snapshots.Commit(ctx, d.chain(), key, labels); err != nil {
		return fmt.Errorf("committing the layer: %w", err)
	}
	reserved()
	failpoint.Hit("image.commit.reserved")
	if err := fill(ctx, upper); err != nil {
		return fmt.Errorf("filling the layer: %w", err)
	}
	if err := m.syncLate(ctx, upper); err != nil {
		return fmt.Errorf("filling the layer: %w", err)
	}
	failpoint.Hit("image.commit.filled")
	return nil
}

// flattenLayers replaces all late layers of the draft by one.
func (m *Manager) flattenLayers(ctx context.Context, d *draft) error {
	dirs, err := m.layerDirs(ctx, d.chain())
	if err != nil {
		return err
	}
	if m.whole {
		dirs = dirs[:1]
	} else if len(dirs) < d.late {
		return fmt.Errorf("chain %s has %d layers, expected at least %d", d.chain(), len(dirs), d.late)
	}
	dirs = dirs[:min(len(dirs), d.late)]
	d.popLate()
	return m.addLayer(ctx, d, func(ctx context.Context, upper string) error {
		return m.flatten(ctx, dirs, upper)
	})
}

// writeLocal stores the draft's config and manifest and returns the manifest,
// whose digest is the image's public ID.
func (m *Manager) writeLocal(ctx context.Context, d *draft) (ocispec.Descriptor, error) {
	defer span.Start(ctx, "write manifest")()
	config, err := m.writeJSON(ctx, ocispec.MediaTypeImageConfig, &d.spec, m.configLabels(d.chain()))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	failpoint.Hit("image.commit.config")
	labels := manifestLabels(config, d.layers)
	if d.late > 0 {
		labels[labelLate] = layerFormat
	}
	if d.parent != "" {
		labels[labelParent] = d.parent.String()
	}
	target, err := m.writeJSON(ctx, ocispec.MediaTypeImageManifest, newManifest(config, d.layers), labels)
	failpoint.Hit("image.commit.manifest")
	return target, err
}

func newManifest(config ocispec.Descriptor, layers []ocispec.Descriptor) *ocispec.Manifest {
	return &ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	}
}

// configLabels ties a config to its snapshots for the garbage collector.
func (m *Manager) configLabels(chain string) map[string]string {
	if chain == "" {
		return nil
	}
	return map[string]string{labelGCSnapshot + m.snapshotter: chain}
}

// manifestLabels ties a manifest to its blobs for the garbage collector. Layers
// made late have none.
func manifestLabels(config ocispec.Descriptor, layers []ocispec.Descriptor) map[string]string {
	labels := map[string]string{labelGCConfig: config.Digest.String()}
	for i, layer := range layers {
		if !isLate(layer) {
			labels[labelGCLayer+strconv.Itoa(i)] = layer.Digest.String()
		}
	}
	return labels
}
