package testutil

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is a small image made by a test. It is the same to the byte each time.
type Image struct {
	Name   string // "name:tag"
	Config ImageConfig
	Layers [][]File // bottom first
}

// ImageConfig is the OCI configuration with Docker's additions.
type ImageConfig struct {
	ocispec.ImageConfig
	Healthcheck *HealthConfig `json:",omitempty"`
	Shell       []string      `json:",omitempty"`
}

// HealthConfig is Docker's health check; the times are in nanoseconds.
type HealthConfig struct {
	Test                                       []string
	Interval, Timeout, StartPeriod, StartInter time.Duration `json:",omitempty"`
	Retries                                    int           `json:",omitempty"`
}

// File is one entry of a layer. Without Type it is a directory if the path ends
// in a slash, else a regular file. Mode 0 means 0755 for directories and 0644
// for files.
type File struct {
	Path     string
	Content  string
	Mode     int64
	UID, GID int
	Type     byte   // one of tar's types
	Link     string // of symbolic and hard links
	Xattrs   map[string]string
}

// Layer is the files as an uncompressed layer.
func Layer(files []File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{
			Name: f.Path, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Typeflag: f.Type, Linkname: f.Link,
			Size: int64(len(f.Content)), ModTime: time.Unix(1_700_000_000, 0), Format: tar.FormatPAX,
		}
		if f.Type == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(f.Path, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if f.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag != tar.TypeReg {
				h.Mode = 0o755
			}
		}
		for k, v := range f.Xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if _, err := io.WriteString(w, f.Content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

// Busybox is an image of the machine's static busybox with the links of its
// programs, as on Docker Hub, and a few users.
func Busybox() (Image, error) {
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return Image{}, err
	}
	list, err := exec.Command("/bin/busybox", "--list").Output() //nolint:noctx // ends at once
	if err != nil {
		return Image{}, err
	}
	files := []File{
		{Path: "bin/"},
		{Path: "dev/"},
		{Path: "proc/"},
		{Path: "sys/"},
		{Path: "etc/"},
		{Path: "usr/"},
		{Path: "usr/sbin/"},
		{Path: "var/"},
		{Path: "root/", Mode: 0o700},
		{Path: "tmp/", Mode: 0o1777},
		{Path: "home/"},
		{Path: "home/app/", UID: 1000, GID: 1000},
		{Path: "etc/passwd", Content: "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\napp:x:1000:1000:App:/home/app:/bin/sh\n"},
		{Path: "etc/group", Content: "root:x:0:\ndaemon:x:1:\nstaff:x:50:app\ndata:x:2000:app\napp:x:1000:\n"},
		{Path: "bin/busybox", Content: string(binary), Mode: 0o755},
	}
	for name := range strings.FieldsSeq(string(list)) {
		if name != "busybox" {
			files = append(files, File{Path: "bin/" + name, Type: tar.TypeSymlink, Link: "busybox", Mode: 0o777})
		}
	}
	return Image{
		Name:   "busybox:latest",
		Layers: [][]File{files},
		Config: ImageConfig{ImageConfig: ocispec.ImageConfig{
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd: []string{"sh"},
		}},
	}, nil
}

// With is the image with a new name, one more layer (none without files), and
// its configuration changed.
func (i Image) With(name string, files []File, change func(*ImageConfig)) Image {
	i.Name = name
	i.Layers = slices.Clone(i.Layers)
	if len(files) > 0 {
		i.Layers = append(i.Layers, files)
	}
	if change != nil {
		i.Config.Env = slices.Clone(i.Config.Env)
		i.Config.Labels = maps.Clone(i.Config.Labels)
		change(&i.Config)
	}
	return i
}

// blobs are the content of an image.
type blobs struct {
	layers         [][]byte
	config         []byte
	manifest       []byte
	manifestDigest digest.Digest
}

func (i Image) build() (blobs, error) {
	var b blobs
	created := time.Unix(1_700_000_000, 0).UTC()
	config := struct {
		Created      time.Time         `json:"created"`
		Architecture string            `json:"architecture"`
		OS           string            `json:"os"`
		Config       ImageConfig       `json:"config"`
		RootFS       ocispec.RootFS    `json:"rootfs"`
		History      []ocispec.History `json:"history"`
	}{Created: created, Architecture: "amd64", OS: "linux", Config: i.Config, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for n, files := range i.Layers {
		layer, err := Layer(files)
		if err != nil {
			return b, err
		}
		b.layers = append(b.layers, layer)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(layer))
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: fmt.Sprintf("layer %d", n+1)})
		manifest.Layers = append(manifest.Layers, descriptor(ocispec.MediaTypeImageLayer, layer))
	}
	var err error
	if b.config, err = json.Marshal(config); err != nil {
		return b, err
	}
	manifest.Config = descriptor(ocispec.MediaTypeImageConfig, b.config)
	if b.manifest, err = json.Marshal(manifest); err != nil {
		return b, err
	}
	b.manifestDigest = digest.FromBytes(b.manifest)
	return b, nil
}

func descriptor(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// DockerArchive is the image as `docker save` wrote it before it knew OCI.
func (i Image) DockerArchive() (io.Reader, error) {
	b, err := i.build()
	if err != nil {
		return nil, err
	}
	configName := digest.FromBytes(b.config).Encoded() + ".json"
	files := []File{{Path: configName, Content: string(b.config)}}
	var layers []string
	for n, l := range b.layers {
		name := fmt.Sprintf("layer%d/layer.tar", n)
		layers = append(layers, name)
		files = append(files, File{Path: path.Dir(name) + "/"}, File{Path: name, Content: string(l)})
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{i.Name}, "Layers": layers}})
	if err != nil {
		return nil, err
	}
	archive, err := Layer(append(files, File{Path: "manifest.json", Content: string(manifest)}))
	return bytes.NewReader(archive), err
}

// OCIArchive is the image as an OCI layout in a tar.
func (i Image) OCIArchive() (io.Reader, error) {
	b, err := i.build()
	if err != nil {
		return nil, err
	}
	top := descriptor(ocispec.MediaTypeImageManifest, b.manifest)
	top.Annotations = map[string]string{
		"io.containerd.image.name":      "docker.io/library/" + i.Name,
		ocispec.AnnotationRefName:       i.Name[strings.LastIndexByte(i.Name, ':')+1:],
		"org.opencontainers.image.note": "made by a test",
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{top},
	})
	if err != nil {
		return nil, err
	}
	files := []File{
		{Path: "oci-layout", Content: `{"imageLayoutVersion":"1.0.0"}`},
		{Path: "index.json", Content: string(index)},
		{Path: "blobs/"},
		{Path: "blobs/sha256/"},
	}
	for _, data := range append(b.layers, b.config, b.manifest) {
		files = append(files, File{Path: "blobs/sha256/" + digest.FromBytes(data).Encoded(), Content: string(data)})
	}
	archive, err := Layer(files)
	return bytes.NewReader(archive), err
}

// Load loads the image into the engine.
func (d *Daemon) Load(i Image) error {
	archive, err := i.DockerArchive()
	if err != nil {
		return err
	}
	if r := d.DockerInput(archive, "load"); r.Code != 0 {
		return fmt.Errorf("docker load of %s: exit code %d: %s%s", i.Name, r.Code, r.Stdout, r.Stderr)
	}
	return nil
}

// LoadBusybox loads the image of [Busybox].
func (d *Daemon) LoadBusybox() error {
	image, err := Busybox()
	if err != nil {
		return err
	}
	return d.Load(image)
}

// MustLoad is Load for tests, and gives the image's name.
func (d *Daemon) MustLoad(t *testing.T, i Image) string {
	t.Helper()
	if err := d.Load(i); err != nil {
		t.Fatal(err)
	}
	return i.Name
}
