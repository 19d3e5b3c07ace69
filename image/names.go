package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// danglingPrefix begins the record names of images that lost their last name.
const danglingPrefix = "dangling@"

func danglingName(id digest.Digest) string { return danglingPrefix + id.String() }

func isDangling(record images.Image) bool { return strings.HasPrefix(record.Name, danglingPrefix) }

func imageKey(id digest.Digest) string { return "image/" + id.String() }
func nameKey(name string) string       { return "name/" + name }
func chainKey(chain string) string     { return "chain/" + chain }

// identified is an image record's target, seen through the labels that tie a
// portable manifest to the local one it was made for.
type identified struct {
	id       digest.Digest
	target   ocispec.Descriptor // the local one
	portable digest.Digest
	parent   digest.Digest
	late     bool // has layers made late
	byID     bool // was asked for by ID, not by name
}

// matches says whether the image is known by the digest: its public ID or that
// of its portable manifest.
func (i identified) matches(d digest.Digest) bool { return i.id == d || i.portable == d }

// identify finds the image that a record's target stands for.
func (m *Manager) identify(ctx context.Context, target ocispec.Descriptor) (identified, error) {
	info, err := m.content.Info(ctx, target.Digest)
	if err != nil {
		return identified{}, fmt.Errorf("manifest %s: %w", target.Digest, err)
	}
	if local := info.Labels[labelLocal]; local != "" {
		localInfo, err := m.content.Info(ctx, digest.Digest(local))
		if err == nil {
			target = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: localInfo.Digest, Size: localInfo.Size}
			info = localInfo
		} else if !errdefs.IsNotFound(err) {
			return identified{}, err
		}
	}
	target.Annotations, target.Platform = nil, nil
	return identified{
		id:       target.Digest,
		target:   target,
		portable: digest.Digest(info.Labels[labelPortable]),
		parent:   digest.Digest(info.Labels[labelParent]),
		late:     info.Labels[labelLate] != "",
	}, nil
}

// group is an image with the records that name it.
type group struct {
	identified
	records []images.Image
}

// groups lists all images, in the order of their oldest record.
func (m *Manager) groups(ctx context.Context) ([]*group, error) {
	records, err := m.images.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing image records: %w", err)
	}
	slices.SortStableFunc(records, func(a, b images.Image) int { return a.CreatedAt.Compare(b.CreatedAt) })
	byID := map[digest.Digest]*group{}
	byTarget := map[digest.Digest]*group{}
	var all []*group
	for _, record := range records {
		if g := byTarget[record.Target.Digest]; g != nil {
			g.records = append(g.records, record)
			continue
		}
		who, err := m.identify(ctx, record.Target)
		if errdefs.IsNotFound(err) {
			continue // being removed, or damaged: CheckLeaks reports it
		}
		if err != nil {
			return nil, err
		}
		g := byID[who.id]
		if g == nil {
			g = &group{identified: who}
			byID[who.id] = g
			all = append(all, g)
		}
		g.records = append(g.records, record)
		byTarget[record.Target.Digest] = g
	}
	return all, nil
}

// group returns the image with exactly this public ID and its records.
func (m *Manager) group(ctx context.Context, id digest.Digest) (*group, error) {
	all, err := m.groups(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range all {
		if g.id == id {
			return g, nil
		}
	}
	return nil, noSuchImage(id.String())
}

// tags and digests are what inspect calls RepoTags and RepoDigests.
func (g *group) tags() []string {
	tags := []string{}
	for _, record := range g.records {
		named, err := reference.ParseNormalizedNamed(record.Name)
		if err != nil || isDangling(record) {
			continue
		}
		if tagged, ok := named.(reference.NamedTagged); ok {
			tags = append(tags, reference.FamiliarString(tagged))
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// digests lists only what a registry could know: a manifest whose layer has no
// archive yet is left out.
func (g *group) digests() []string {
	out := []string{}
	distributable := g.id
	if g.portable != "" {
		distributable = g.portable
	} else if g.late {
		return out
	}
	for _, record := range g.records {
		named, err := reference.ParseNormalizedNamed(record.Name)
		if err != nil || isDangling(record) {
			continue
		}
		if canonical, err := reference.WithDigest(reference.TrimNamed(named), distributable); err == nil {
			out = append(out, reference.FamiliarString(canonical))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// resolve finds what ref names.
func (m *Manager) resolve(ctx context.Context, ref string) (identified, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return identified{}, invalidReference(ref, err)
	}
	named, isNamed := parsed.(reference.Named)
	if isNamed {
		who, err := m.resolveNamed(ctx, named)
		if !errdefs.IsNotFound(err) {
			return who, err
		}
	}
	prefix := strings.TrimPrefix(ref, "sha256:")
	if isHex(prefix) {
		return m.resolveID(ctx, prefix, ref)
	}
	if isNamed {
		return identified{}, noSuchImage(reference.FamiliarString(reference.TagNameOnly(named)))
	}
	return identified{}, noSuchImage(ref)
}

func (m *Manager) resolveNamed(ctx context.Context, named reference.Named) (identified, error) {
	digested, ok := named.(reference.Digested)
	if !ok {
		record, err := m.images.Get(ctx, reference.TagNameOnly(named).String())
		if err != nil {
			return identified{}, err
		}
		return m.identify(ctx, record.Target)
	}
	all, err := m.groups(ctx)
	if err != nil {
		return identified{}, err
	}
	for _, g := range all {
		if g.matches(digested.Digest()) && g.inRepository(named) {
			return g.identified, nil
		}
	}
	return identified{}, errdefs.ErrNotFound
}

// inRepository says whether a record of the image is in named's repository.
func (g *group) inRepository(named reference.Named) bool {
	return slices.ContainsFunc(g.records, func(record images.Image) bool {
		parsed, err := reference.ParseNormalizedNamed(record.Name)
		return err == nil && parsed.Name() == named.Name()
	})
}

func (m *Manager) resolveID(ctx context.Context, prefix, ref string) (identified, error) {
	all, err := m.groups(ctx)
	if err != nil {
		return identified{}, err
	}
	var found []identified
	for _, g := range all {
		if strings.HasPrefix(g.id.Encoded(), prefix) || g.portable != "" && strings.HasPrefix(g.portable.Encoded(), prefix) {
			found = append(found, g.identified)
		}
	}
	switch len(found) {
	case 0:
		if len(prefix) < digest.SHA256.Size()*2 && !strings.HasPrefix(ref, "sha256:") {
			ref += ":latest"
		}
		return identified{}, noSuchImage(ref)
	case 1:
		found[0].byID = true
		return found[0], nil
	default:
		return identified{}, errdefs.ErrNotFound.WithMessage("ambiguous reference")
	}
}

func isHex(s string) bool {
	return s != "" && len(s) <= digest.SHA256.Size()*2 && strings.Trim(s, "0123456789abcdef") == ""
}

// shortID is the 12 digits that Docker shows.
func shortID(d digest.Digest) string {
	encoded := d.Encoded()
	return encoded[:min(12, len(encoded))]
}

// parseTag reads the name that an image shall get: repository[:tag].
func parseTag(ref string) (reference.NamedTagged, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, invalidReference(ref, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage("refusing to create a tag with a digest reference")
	}
	if reference.FamiliarName(named) == string(digest.Canonical) {
		return nil, errdefs.ErrInvalidArgument.WithMessage("refusing to create an ambiguous tag using digest algorithm as name")
	}
	tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return nil, invalidReference(ref, reference.ErrReferenceInvalidFormat)
	}
	return tagged, nil
}

func noSuchImage(ref string) error {
	return errdefs.ErrNotFound.WithMessage("No such image: " + ref)
}

func invalidReference(ref string, err error) error {
	if ref == "" {
		return errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	return errdefs.ErrInvalidArgument.WithMessage(err.Error())
}
