package image

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"slipway/internal/failpoint"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
)

// RemoveOptions refine Remove.
type RemoveOptions struct {
	// Force removes several names at once, and the last name of an image that
	// stopped containers use. The image itself stays as long as they do: a commit
	// of theirs needs it.
	Force bool
	// NoPrune keeps parents that have no name and no other child.
	NoPrune bool
	// InUse tells which containers use an image; nil means none.
	InUse InUseFunc
}

// Remove takes a name from an image, or all names and the image itself. What
// other images and containers need of it stays on disk.
func (m *Manager) Remove(ctx context.Context, ref string, opts RemoveOptions) ([]mobyimage.DeleteResponse, error) {
	for {
		who, err := m.resolve(ctx, ref)
		if err != nil {
			return nil, err
		}
		unlock, err := m.locks.Lock(ctx, imageKey(who.id))
		if err != nil {
			return nil, err
		}
		again, err := m.resolve(ctx, ref)
		if err == nil && again.id == who.id {
			out, err := m.removeLocked(ctx, again, ref, opts)
			unlock()
			if err != nil {
				return nil, err
			}
			return append(out, m.pruneParents(ctx, who, out, opts)...), nil
		}
		unlock()
		if err != nil {
			return nil, err
		}
	}
}

func (m *Manager) removeLocked(ctx context.Context, who identified, ref string, opts RemoveOptions) ([]mobyimage.DeleteResponse, error) {
	id := who.id
	g, err := m.group(ctx, id)
	if err != nil {
		return nil, err
	}
	users := g.users(opts.InUse)
	if !who.byID {
		leaving := g.recordsFor(ref)
		if len(leaving) < len(g.records) {
			return m.dropRecords(ctx, g, leaving, "")
		}
		// The last name. Without force it stays if a container has it, because
		// the image would be left without any; with force only the name goes.
		if len(users) > 0 && !opts.Force {
			return nil, conflict(familiarRef(ref), false, fmt.Sprintf("container %s is using its referenced image %s", shorten(users[0].ID), shortID(id)))
		}
		if len(users) > 0 {
			return m.dropRecords(ctx, g, leaving, id)
		}
		return m.deleteImage(ctx, g)
	}
	for _, user := range users {
		if user.Running {
			return nil, conflict(shortID(id), true, "image is being used by running container "+shorten(user.ID))
		}
	}
	if !opts.Force && len(g.repositories()) > 1 {
		return nil, conflict(shortID(id), false, "image is referenced in multiple repositories")
	}
	if len(users) > 0 && !opts.Force {
		return nil, conflict(shortID(id), false, "image is being used by stopped container "+shorten(users[0].ID))
	}
	if len(users) == 0 {
		return m.deleteImage(ctx, g)
	}
	names := slices.DeleteFunc(slices.Clone(g.records), isDangling)
	if len(names) == 0 {
		return nil, conflict(shortID(id), true, "image is being used by stopped container "+shorten(users[0].ID))
	}
	return m.dropRecords(ctx, g, names, id)
}

func (g *group) users(inUse InUseFunc) []User {
	if inUse == nil {
		return nil
	}
	users := inUse(g.id)
	// Running ones first: they make the harder conflict.
	slices.SortStableFunc(users, func(a, b User) int {
		switch {
		case a.Running == b.Running:
			return 0
		case a.Running:
			return -1
		default:
			return 1
		}
	})
	return users
}

// recordsFor returns the records that a reference which is no ID stands for. The
// last tag of a repository takes its digest with it.
func (g *group) recordsFor(ref string) []images.Image {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil
	}
	_, byDigest := named.(reference.Digested)
	want := reference.TagNameOnly(named).String()
	var exact, digested []images.Image
	others := false
	for _, record := range g.records {
		parsed, err := reference.ParseNormalizedNamed(record.Name)
		if isDangling(record) || err != nil {
			continue
		}
		if parsed.Name() != named.Name() {
			continue
		}
		_, isDigest := parsed.(reference.Digested)
		switch {
		case byDigest || record.Name == want:
			exact = append(exact, record)
		case isDigest:
			digested = append(digested, record)
		default:
			others = true
		}
	}
	if !others {
		exact = append(exact, digested...)
	}
	return exact
}

// repositories lists the tagged names; several tags of one image need force.
func (g *group) repositories() []string {
	if tags := g.tags(); len(tags) > 0 {
		return tags
	}
	return g.digests()
}

// deleteImage removes all records, the last one synchronously, so that what the
// image took is free when the reply arrives.
func (m *Manager) deleteImage(ctx context.Context, g *group) ([]mobyimage.DeleteResponse, error) {
	out, err := m.dropRecords(ctx, g, g.records, "")
	if err != nil {
		return nil, err
	}
	m.publish(events.ActionDelete, g.id.String(), map[string]string{"name": g.id.String()})
	return append(out, mobyimage.DeleteResponse{Deleted: g.id.String()}), nil
}

// dropRecords removes names of an image; it keeps the image under no name if
// keep is given.
func (m *Manager) dropRecords(ctx context.Context, g *group, records []images.Image, keep digest.Digest) ([]mobyimage.DeleteResponse, error) {
	if keep != "" {
		now := time.Now().UTC()
		dangling := images.Image{Name: danglingName(keep), Target: g.target, CreatedAt: now, UpdatedAt: now}
		if _, err := m.images.Create(ctx, dangling); err != nil && !errdefs.IsAlreadyExists(err) {
			return nil, err
		}
	}
	all := len(records) == len(g.records) && keep == ""
	out := []mobyimage.DeleteResponse{}
	for i, record := range records {
		var opts []images.DeleteOpt
		if all && i == len(records)-1 {
			opts = append(opts, images.SynchronousDelete())
		}
		failpoint.Hit("image.remove.before")
		if err := m.images.Delete(ctx, record.Name, opts...); err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("removing %s: %w", record.Name, err)
		}
		failpoint.Hit("image.remove.after")
		if isDangling(record) {
			continue
		}
		familiar := familiarRef(record.Name)
		out = append(out, mobyimage.DeleteResponse{Untagged: familiar})
		m.publish(events.ActionUnTag, g.id.String(), map[string]string{"name": familiar})
	}
	return out, nil
}

// pruneParents removes the parents that were only kept for a deleted image:
// those without a name, user or other child. What it cannot remove stays.
func (m *Manager) pruneParents(ctx context.Context, who identified, out []mobyimage.DeleteResponse, opts RemoveOptions) []mobyimage.DeleteResponse {
	if opts.NoPrune || !slices.ContainsFunc(out, func(d mobyimage.DeleteResponse) bool { return d.Deleted != "" }) {
		return nil
	}
	var removed []mobyimage.DeleteResponse
	for parent := who.parent; parent != ""; {
		next, more, err := m.pruneParent(ctx, parent, opts)
		if err != nil {
			m.log.LogAttrs(ctx, slog.LevelWarn, "removing an unnamed parent image", slog.String("image", parent.String()), slog.Any("error", err))
		}
		if len(more) == 0 {
			return removed
		}
		removed = append(removed, more...)
		parent = next
	}
	return removed
}

func (m *Manager) pruneParent(ctx context.Context, id digest.Digest, opts RemoveOptions) (parent digest.Digest, _ []mobyimage.DeleteResponse, err error) {
	unlock, ok := m.locks.TryLock(imageKey(id))
	if !ok {
		return "", nil, nil
	}
	defer unlock()
	all, err := m.groups(ctx)
	if err != nil {
		return "", nil, err
	}
	var found *group
	for _, g := range all {
		if g.parent == id {
			return "", nil, nil
		}
		if g.id == id {
			found = g
		}
	}
	if found == nil || len(found.tags())+len(found.digests()) > 0 || len(found.users(opts.InUse)) > 0 {
		return "", nil, nil
	}
	out, err := m.deleteImage(ctx, found)
	return found.parent, out, err
}

func conflict(ref string, hard bool, reason string) error {
	force := "must be forced"
	if hard {
		force = "cannot be forced"
	}
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("conflict: unable to delete %s (%s) - %s", ref, force, reason))
}

func familiarRef(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}

func shorten(id string) string { return id[:min(12, len(id))] }
