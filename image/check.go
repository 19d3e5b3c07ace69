package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// CheckLeaks collects garbage and then returns a line for everything in the
// image stores that neither an image nor a container needs, and for every image
// that lacks something. The containers' snapshots are given by their keys; what
// another owner's lease holds is left out.
func (m *Manager) CheckLeaks(ctx context.Context, usedSnapshots map[string]bool) ([]string, error) {
	if err := m.collectGarbage(ctx); err != nil {
		return nil, err
	}
	c := &checker{m: m, blobs: map[string]bool{}, snapshots: map[string]bool{}}
	for key := range usedSnapshots {
		c.snapshots[key] = true
	}
	if err := c.leases(ctx); err != nil {
		return nil, err
	}
	records, err := m.images.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, record := range records {
		if err := c.image(ctx, record); err != nil {
			return nil, err
		}
	}
	if err := c.unusedSnapshots(ctx); err != nil {
		return nil, err
	}
	if err := c.unusedBlobs(ctx); err != nil {
		return nil, err
	}
	slices.Sort(c.found)
	return c.found, nil
}

// collectGarbage returns when all that nothing refers to is gone.
func (m *Manager) collectGarbage(ctx context.Context) error {
	lease, err := m.leases.Create(ctx, leases.WithRandomID())
	if err != nil {
		return err
	}
	return m.leases.Delete(ctx, lease, leases.SynchronousDelete)
}

type checker struct {
	m         *Manager
	blobs     map[string]bool // in use
	snapshots map[string]bool // in use, without their parents
	found     []string
}

func (c *checker) report(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// leases reports what no operation of this process holds, and counts as used
// what others hold.
func (c *checker) leases(ctx context.Context) error {
	all, err := c.m.leases.List(ctx)
	if err != nil {
		return err
	}
	for _, lease := range all {
		if operation := lease.Labels[labelOperation]; operation != "" && !c.m.active.has(lease.ID) {
			c.report("lease %s of an image operation (%s) that has ended", lease.ID, operation)
			continue
		}
		resources, err := c.m.leases.ListResources(ctx, lease)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, resource := range resources {
			if resource.Type == "content" {
				if err := c.blob(ctx, resource.ID); err != nil {
					return err
				}
			} else {
				c.snapshots[resource.ID] = true
			}
		}
	}
	return nil
}

// image marks what a record needs and reports what of it is missing.
func (c *checker) image(ctx context.Context, record images.Image) error {
	who, err := c.m.identify(ctx, record.Target)
	if errdefs.IsNotFound(err) {
		c.report("image %s: manifest %s is missing", record.Name, record.Target.Digest)
		return nil
	}
	if err != nil {
		return err
	}
	image, err := c.m.load(ctx, who, nil)
	if err != nil {
		c.report("image %s: %v", record.Name, err)
		return nil
	}
	for _, layer := range image.layers {
		if _, err := c.m.content.Info(ctx, layer.Digest); errdefs.IsNotFound(err) && !isLate(layer) {
			c.report("image %s: layer %s is missing", record.Name, layer.Digest)
		} else if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if image.lateLayers() > 0 {
		if _, err := c.m.snapshots.Stat(ctx, image.ChainID); errdefs.IsNotFound(err) {
			c.report("image %s: snapshot %s is missing", record.Name, image.ChainID)
		} else if err != nil {
			return err
		}
	}
	return c.blob(ctx, record.Target.Digest.String())
}

// blob marks a blob and what its labels refer to as used.
func (c *checker) blob(ctx context.Context, id string) error {
	if c.blobs[id] {
		return nil
	}
	c.blobs[id] = true
	info, err := c.m.content.Info(ctx, digest.Digest(id))
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for key, value := range info.Labels {
		switch {
		case strings.HasPrefix(key, labelGCContent):
			if err := c.blob(ctx, value); err != nil {
				return err
			}
		case strings.HasPrefix(key, labelGCSnapshot+c.m.snapshotter):
			c.snapshots[value] = true
		}
	}
	return nil
}

func (c *checker) unusedSnapshots(ctx context.Context) error {
	infos := map[string]snapshots.Info{}
	if err := c.m.snapshots.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		infos[info.Name] = info
		return nil
	}); err != nil {
		return err
	}
	used := map[string]bool{}
	for key := range c.snapshots {
		for key != "" && !used[key] {
			used[key] = true
			key = infos[key].Parent
		}
	}
	for key := range infos {
		if !used[key] {
			c.report("snapshot %s belongs to no image and no container", key)
		}
	}
	return nil
}

func (c *checker) unusedBlobs(ctx context.Context) error {
	return c.m.content.Walk(ctx, func(info content.Info) error {
		if !c.blobs[info.Digest.String()] {
			c.report("blob %s belongs to no image", info.Digest)
		}
		return nil
	})
}
