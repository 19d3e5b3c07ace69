package fromhost

import (
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// packageRecords is where an image says of which packages it was made, in the place where scanners look for it in
// images without a package manager.
const packageRecords = "/var/lib/dpkg/status.d/"

// image finishes a tree. Packages none of whose files went in are not named.
func (t *tree) image(packages []*debPackage, config ocispec.ImageConfig) *Image {
	used := map[string]bool{}
	for _, f := range t.entries {
		if f.Mode&typeMask != typeDir {
			used[f.Package] = true
		}
	}
	im := &Image{Changed: t.changed, config: config}
	for _, p := range packages {
		if !used[p.name] {
			continue
		}
		im.Packages = append(im.Packages, p.name+" "+p.version)
		t.file(packageRecords+p.name, 0o644, []byte(p.record()))
	}
	slices.Sort(im.Packages)
	im.Files = t.finish()
	im.created = t.newest
	im.comment = "made of this machine's packages"
	return im
}

// parseTag reads the name of an image; without a tag it is latest.
func parseTag(name string) (reference.NamedTagged, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err == nil {
		if tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged); ok {
			return tagged, nil
		}
		err = errors.New("it has a digest, not a tag")
	}
	return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q cannot be an image's name: %v", name, err))
}

// Tag is the image's name, as Docker shows it.
func (im *Image) Tag() string { return reference.FamiliarString(im.name) }
