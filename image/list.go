package image

import (
	"cmp"
	"context"
	"slices"
	"time"

	"slipway/internal/filter"
	"slipway/internal/moment"

	"github.com/containerd/errdefs"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
)

// ListOptions refine List.
type ListOptions struct {
	// All also lists images without a name that others were committed on.
	All bool
	// SharedSize counts what an image shares with others.
	SharedSize bool
	// Manifests adds the manifests of each image.
	Manifests bool
	// Filters: before, dangling, label, reference, since, until.
	Filters Filters
	// Containers, if given, is asked for the containers of each image.
	Containers InUseFunc
}

// List describes the images, newest first.
func (m *Manager) List(ctx context.Context, opts ListOptions) ([]mobyimage.Summary, error) {
	want, err := m.newSelection(ctx, opts.Filters, "before", "dangling", "label", "reference", "since", "until")
	if err != nil {
		return nil, err
	}
	all, err := m.groups(ctx)
	if err != nil {
		return nil, err
	}
	parents := map[digest.Digest]bool{}
	for _, g := range all {
		parents[g.parent] = true
	}
	out := []mobyimage.Summary{}
	listed := map[string]*Image{}
	for _, g := range all {
		if !opts.All && len(g.tags())+len(g.digests()) == 0 && parents[g.id] {
			continue // intermediate
		}
		image, err := m.load(ctx, g.identified, nil)
		if errdefs.IsNotFound(err) {
			continue // being removed
		}
		if err != nil {
			return nil, err
		}
		tags, digests, ok, err := want.match(g, image)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		summary, err := m.summarise(ctx, g, image, opts)
		if err != nil {
			return nil, err
		}
		summary.RepoTags, summary.RepoDigests = tags, digests
		out = append(out, summary)
		listed[summary.ID] = image
	}
	if opts.SharedSize {
		if err := m.shareSizes(ctx, all, out, listed); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(out, func(a, b mobyimage.Summary) int { return cmp.Compare(b.Created, a.Created) })
	return out, nil
}

func (m *Manager) summarise(ctx context.Context, g *group, image *Image, opts ListOptions) (mobyimage.Summary, error) {
	size, err := m.size(ctx, image)
	if err != nil {
		return mobyimage.Summary{}, err
	}
	target := g.target
	summary := mobyimage.Summary{
		ID:         g.id.String(),
		ParentID:   g.parent.String(),
		Containers: -1,
		SharedSize: -1,
		Size:       size.total(),
		Labels:     image.Spec.Config.Labels,
		Descriptor: &target,
	}
	if image.Spec.Created != nil {
		summary.Created = image.Spec.Created.Unix()
	}
	if opts.Containers != nil {
		summary.Containers = int64(len(opts.Containers(g.id)))
	}
	if opts.Manifests {
		summary.Manifests, err = m.manifestSummaries(ctx, g, opts.Containers)
	}
	return summary, err
}

// shareSizes fills in how much of each image's snapshots other images use too.
func (m *Manager) shareSizes(ctx context.Context, all []*group, out []mobyimage.Summary, listed map[string]*Image) error {
	users := map[string]int{}
	for _, g := range all {
		image := listed[g.id.String()]
		if image == nil {
			var err error
			if image, err = m.load(ctx, g.identified, nil); errdefs.IsNotFound(err) {
				continue
			} else if err != nil {
				return err
			}
		}
		for _, chain := range image.chains() {
			users[chain]++
		}
	}
	for i := range out {
		image := listed[out[i].ID]
		sizes, err := m.layerUsages(ctx, image)
		if err != nil {
			return err
		}
		out[i].SharedSize = 0
		for n, chain := range image.chains() {
			if users[chain] > 1 {
				out[i].SharedSize += sizes[n]
			}
		}
	}
	return nil
}

// selection is what a request's filters let through.
type selection struct {
	dangling      *bool
	labels        []string
	references    []string
	before, since []time.Time
	until         time.Time
}

func (m *Manager) newSelection(ctx context.Context, filters Filters, known ...string) (*selection, error) {
	if err := filter.Check(filters, known...); err != nil {
		return nil, err
	}
	s := &selection{labels: filter.Values(filters, "label"), references: filter.Values(filters, "reference")}
	value, given, err := filterBool(filters, "dangling")
	if err != nil {
		return nil, err
	}
	if given {
		s.dangling = &value
	}
	if s.until, err = moment.Until(filters, time.Now()); err != nil {
		return nil, err
	}
	if s.before, err = m.createdTimes(ctx, filter.Values(filters, "before")); err != nil {
		return nil, err
	}
	s.since, err = m.createdTimes(ctx, filter.Values(filters, "since"))
	return s, err
}

func (m *Manager) createdTimes(ctx context.Context, refs []string) ([]time.Time, error) {
	var out []time.Time
	for _, ref := range refs {
		image, err := m.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, image.created())
	}
	return out, nil
}

func (i *Image) created() time.Time {
	if i.Spec.Created == nil {
		return time.Time{}
	}
	return *i.Spec.Created
}

// match returns the names under which the image is to be listed.
func (s *selection) match(g *group, image *Image) (tags, digests []string, ok bool, err error) {
	tags, digests = g.tags(), g.digests()
	if s.dangling != nil && *s.dangling != (len(tags) == 0) {
		return nil, nil, false, nil
	}
	if !filter.HasLabels(image.Spec.Config.Labels, s.labels) {
		return nil, nil, false, nil
	}
	created := image.created()
	if !s.until.IsZero() && !created.Before(s.until) ||
		slices.ContainsFunc(s.before, func(t time.Time) bool { return !created.Before(t) }) ||
		slices.ContainsFunc(s.since, func(t time.Time) bool { return !created.After(t) }) {
		return nil, nil, false, nil
	}
	if len(s.references) == 0 {
		return tags, digests, true, nil
	}
	if tags, err = s.matchReferences(tags); err != nil {
		return nil, nil, false, err
	}
	if digests, err = s.matchReferences(digests); err != nil {
		return nil, nil, false, err
	}
	return tags, digests, len(tags)+len(digests) > 0, nil
}

func (s *selection) matchReferences(names []string) ([]string, error) {
	out := []string{}
	for _, name := range names {
		for _, pattern := range s.references {
			ok, err := referenceFilter(pattern, name)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, name)
				break
			}
		}
	}
	return out, nil
}
