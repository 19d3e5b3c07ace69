package dirs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway/internal/treecopy"
)

// Differ is containerd's [diff.Applier] and [diff.Comparer] for the mounts of a
// [Snapshotter]. It is safe for concurrent use.
type Differ struct{ store content.Store }

var _ interface {
	diff.Applier
	diff.Comparer
} = (*Differ)(nil)

// NewDiffer returns a differ that has its archives in store.
func NewDiffer(store content.Store) *Differ { return &Differ{store} }

// Tree returns the directory of a snapshot from its mounts.
func Tree(mounts []mount.Mount) (string, error) {
	if len(mounts) != 1 || mounts[0].Type != "bind" {
		return "", errdefs.ErrNotImplemented.WithMessage("the snapshot is not a directory")
	}
	return mounts[0].Source, nil
}

// Apply unpacks the layer desc into the directory that mounts name; see the function
// [Apply]. The files are on disk when it returns.
func (d *Differ) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (_ ocispec.Descriptor, err error) {
	dir, err := Tree(mounts)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var config diff.ApplyConfig
	for _, opt := range opts {
		if err := opt(ctx, desc, &config); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	blob, err := d.store.ReaderAt(ctx, desc)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("reading layer %s: %w", desc.Digest, err)
	}
	compressed := &progressReader{Reader: content.NewReader(blob), Closer: blob, report: config.Progress}
	defer func() { err = errors.Join(err, blob.Close()) }()
	processors := []diff.StreamProcessor{diff.NewProcessorChain(desc.MediaType, compressed)}
	last := processors[0]
	for more := true; more; more = last.MediaType() != ocispec.MediaTypeImageLayer {
		if last, err = diff.GetProcessor(ctx, last, config.ProcessorPayloads); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("reading a layer of type %s: %w", desc.MediaType, err)
		}
		processors = append(processors, last)
	}
	defer func() { err = errors.Join(err, last.Close()) }()
	digester := digest.Canonical.Digester()
	plain := &progressReader{Reader: io.TeeReader(last, digester.Hash())}
	if err := Apply(ctx, plain, dir); err != nil {
		return ocispec.Descriptor{}, err
	}
	if _, err := io.Copy(io.Discard, plain); err != nil { // what comes after the archive's end counts for its digest
		return ocispec.Descriptor{}, err
	}
	for _, processor := range processors {
		if failed, ok := processor.(interface{ Err() error }); ok && failed.Err() != nil {
			return ocispec.Descriptor{}, failed.Err()
		}
	}
	if err := treecopy.Sync(ctx, dir); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Size: plain.n, Digest: digester.Digest()}, nil
}

// progressReader counts, and tells how far it has come.
type progressReader struct {
	io.Reader
	io.Closer
	report func(int64)
	n      int64
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	if r.report != nil {
		r.report(r.n)
	}
	return n, err
}

// Compare stores the difference between two trees as a layer; see [WriteLayer].
func (d *Differ) Compare(ctx context.Context, lower, upper []mount.Mount, opts ...diff.Opt) (ocispec.Descriptor, error) {
	config := diff.Config{MediaType: ocispec.MediaTypeImageLayerGzip}
	for _, opt := range opts {
		if err := opt(&config); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	var from string
	var err error
	if len(lower) > 0 {
		if from, err = Tree(lower); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	to, err := Tree(upper)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	own := config.Reference == ""
	if own {
		config.Reference = "slipway-diff-" + rand.Text()
	}
	desc, err := d.put(ctx, &config, func(w io.Writer) error { return WriteLayer(ctx, w, from, to) })
	if err != nil && own {
		if aerr := d.store.Abort(context.WithoutCancel(ctx), config.Reference); aerr != nil && !errdefs.IsNotFound(aerr) {
			err = errors.Join(err, aerr)
		}
	}
	return desc, err
}

// put stores what write writes, compressed as the configuration says.
func (d *Differ) put(ctx context.Context, config *diff.Config, write func(io.Writer) error) (_ ocispec.Descriptor, err error) {
	w, err := content.OpenWriter(ctx, d.store, content.WithRef(config.Reference), content.WithDescriptor(ocispec.Descriptor{MediaType: config.MediaType}))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.Truncate(0); err != nil {
		return ocispec.Descriptor{}, err
	}
	compressed, err := compress(w, config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	digester := digest.Canonical.Digester()
	if err := errors.Join(write(io.MultiWriter(compressed, digester.Hash())), compressed.Close()); err != nil {
		return ocispec.Descriptor{}, err
	}
	with := map[string]string{labels.LabelUncompressed: digester.Digest().String()}
	maps.Copy(with, config.Labels)
	stored := w.Digest()
	if err := w.Commit(ctx, 0, stored, content.WithLabels(with)); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, err
	}
	info, err := d.store.Info(ctx, stored)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: config.MediaType, Size: info.Size, Digest: stored}, nil
}

func compress(w io.Writer, config *diff.Config) (io.WriteCloser, error) {
	if config.Compressor != nil {
		return config.Compressor(w, config.MediaType)
	}
	switch config.MediaType {
	case ocispec.MediaTypeImageLayer:
		return compression.CompressStream(w, compression.Uncompressed)
	case ocispec.MediaTypeImageLayerGzip:
		return compression.CompressStream(w, compression.Gzip)
	case ocispec.MediaTypeImageLayerZstd:
		return compression.CompressStream(w, compression.Zstd)
	}
	return nil, errdefs.ErrNotImplemented.WithMessage("a layer of type " + config.MediaType + " cannot be made")
}
