package daemon

import (
	"context"
	"slices"
	"strings"

	"slipway/api"
)

// check compares the records with what is there. Containers that something is
// being done with are left out. What is being created or removed at this moment
// may show up.
func (d *Daemon) check(ctx context.Context) ([]api.Problem, error) {
	busy, release := d.containers.Hold()
	defer release()
	problems, err := d.compare(ctx, busy)
	return slices.DeleteFunc(problems, func(p api.Problem) bool {
		return slices.ContainsFunc(busy, func(id string) bool { return p.Object == id || strings.Contains(p.Detail, id) })
	}), err
}

// compare asks every part for what is lost or left over. Busy containers may have
// what only running ones have.
func (d *Daemon) compare(ctx context.Context, busy []string) ([]api.Problem, error) {
	problems := []api.Problem{}
	add := func(kind string, found []string, err error) error {
		for _, f := range found {
			problems = append(problems, api.Problem{Kind: kind, Detail: f})
		}
		return err
	}
	leftovers, err := d.containers.Leftovers(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range leftovers {
		problems = append(problems, api.Problem{Kind: l.Kind, Object: l.ID, Detail: "belongs to no container"})
	}
	lost, err := d.containers.Lost(ctx)
	if err := add("container", lost, err); err != nil {
		return nil, err
	}
	live := append(d.containers.Running(), busy...)
	found, err := d.networks.CheckLeaks(ctx, live)
	if err := add("network", found, err); err != nil {
		return nil, err
	}
	found, err = d.volumes.CheckLeaks(ctx, d.containers.VolumeUses(live))
	if err := add("volume", found, err); err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, id := range d.containers.IDs() {
		used[id] = true
	}
	// Those that no volume owns are among the volumes' problems already.
	keys, err := volumeLayers{d.layers.Client()}.List(ctx, "volume-")
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		used[key] = true
	}
	found, err = d.images.CheckLeaks(ctx, used)
	if err := add("image", found, err); err != nil {
		return nil, err
	}
	return problems, nil
}
