package fromhost

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Progress is called as an image is written: with the bytes done so far, of so many.
type Progress func(done, total int64)

// WriteTo writes the image as an archive for docker load. Every file is read twice, because a layer's digest stands
// in front of it: once to hash, once to write.
func (im *Image) WriteTo(ctx context.Context, w io.Writer, progress Progress) error {
	count := &counter{report: progress, total: 2 * im.Size()}
	hash := digest.SHA256.Digester()
	size := &writeCounter{w: hash.Hash()}
	if err := im.writeLayer(ctx, size, count); err != nil {
		return err
	}
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: hash.Digest(), Size: size.n}
	config, manifest, index, docker, err := im.documents(layer)
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	// The names come first: a reader then knows what the blobs after them are.
	for _, f := range []struct {
		name string
		data []byte
	}{
		{ocispec.ImageLayoutFile, layout},
		{ocispec.ImageIndexFile, index},
		{"manifest.json", docker},
		{blobPath(digest.FromBytes(manifest)), manifest},
		{blobPath(digest.FromBytes(config)), config},
	} {
		if err := im.writeEntry(out, f.name, int64(len(f.data)), bytes.NewReader(f.data)); err != nil {
			return err
		}
	}
	if err := out.WriteHeader(im.header(blobPath(layer.Digest), layer.Size)); err != nil {
		return err
	}
	again := sha256.New()
	if err := im.writeLayer(ctx, io.MultiWriter(out, again), count); err != nil {
		return err
	}
	if digest.NewDigest(digest.SHA256, again) != layer.Digest {
		return errors.New("the packages changed while they were read; try again")
	}
	return out.Close()
}

// documents makes the image's configuration, manifest, OCI index and docker save manifest.
func (im *Image) documents(layer ocispec.Descriptor) (config, manifest, index, docker []byte, err error) {
	created, platform := im.created, im.platform()
	config, err = json.Marshal(ocispec.Image{
		Created:  &created,
		Platform: im.platform(),
		Config:   im.config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
		History:  []ocispec.History{{Created: &created, CreatedBy: "slipway image from-host", Comment: im.comment}},
	})
	if err != nil {
		return nil, nil, nil, nil, err
	}
	version := specs.Versioned{SchemaVersion: 2}
	manifest, err = json.Marshal(ocispec.Manifest{
		Versioned: version, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config)),
		},
		Layers: []ocispec.Descriptor{layer},
	})
	if err != nil {
		return nil, nil, nil, nil, err
	}
	index, err = json.Marshal(ocispec.Index{
		Versioned: version, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{
			MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest)),
			Platform: &platform,
			Annotations: map[string]string{
				"io.containerd.image.name": im.name.String(), ocispec.AnnotationRefName: im.name.Tag(),
			},
		}},
	})
	if err != nil {
		return nil, nil, nil, nil, err
	}
	docker, err = json.Marshal([]struct {
		Config   string
		RepoTags []string
		Layers   []string
	}{{blobPath(digest.FromBytes(config)), []string{im.Tag()}, []string{blobPath(layer.Digest)}}})
	return config, manifest, index, docker, err
}

// platform is what the image runs on.
func (im *Image) platform() ocispec.Platform {
	if !im.windows {
		return ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"}
	}
	return ocispec.Platform{Architecture: runtime.GOARCH, OS: "windows", OSVersion: platforms.DefaultSpec().OSVersion}
}

// writeLayer writes the image's files as a tar stream.
func (im *Image) writeLayer(ctx context.Context, w io.Writer, count *counter) error {
	out := tar.NewWriter(w)
	prefix := ""
	if im.windows {
		prefix = "Files"
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "Files/", Mode: 0o755, ModTime: im.created, Format: tar.FormatPAX}); err != nil {
			return err
		}
	}
	buf := make([]byte, 256<<10)
	for _, f := range im.Files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := f.write(out, prefix, buf, count); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return out.Close()
}

// write writes one entry, beneath the directory prefix.
func (f *File) write(out *tar.Writer, prefix string, buf []byte, count *counter) error {
	h := &tar.Header{
		Name: strings.TrimPrefix(prefix+f.Path, "/"), Mode: int64(f.Mode & 0o7777), Uid: f.uid, Gid: f.gid, ModTime: f.modified,
		Size: f.Size, Linkname: f.Target, Format: tar.FormatPAX,
	}
	switch f.Mode & typeMask {
	case typeDir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case typeLink:
		h.Typeflag = tar.TypeSymlink
	default:
		h.Typeflag = tar.TypeReg
	}
	if err := out.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	var in io.Reader = bytes.NewReader(f.content)
	if f.content == nil && f.source != "" {
		file, err := os.Open(f.source)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, io.TeeReader(in, count), buf)
	if err == nil && n != f.Size {
		err = fs.ErrInvalid
	}
	return err
}

func (im *Image) header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: im.created, Format: tar.FormatPAX}
}

func (im *Image) writeEntry(out *tar.Writer, name string, size int64, r io.Reader) error {
	if err := out.WriteHeader(im.header(name, size)); err != nil {
		return err
	}
	_, err := io.Copy(out, r)
	return err
}

func blobPath(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

// counter reports progress, at most some ten times a second.
type counter struct {
	report      Progress
	done, total int64
	last        time.Time
}

func (c *counter) Write(p []byte) (int, error) {
	c.done += int64(len(p))
	if c.report != nil && (time.Since(c.last) > 100*time.Millisecond || c.done >= c.total) {
		c.last = time.Now()
		c.report(c.done, c.total)
	}
	return len(p), nil
}

// writeCounter counts what is written through it.
type writeCounter struct {
	w io.Writer
	n int64
}

func (c *writeCounter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
