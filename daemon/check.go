package daemon

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"slipway/api"

	"github.com/containerd/errdefs"
	mobynetwork "github.com/moby/moby/api/types/network"
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

// matchNetwork tells whether a network passes the filters of `docker network ls`.
func matchNetwork(n mobynetwork.Inspect, filters api.Filters) (bool, error) {
	for name, values := range filters {
		var ok bool
		for value := range values {
			match, err := matchNetworkFilter(n, name, value)
			if err != nil {
				return false, err
			}
			if name == "label" && !match {
				return false, nil // all labels count, else one value is enough
			}
			ok = ok || match
		}
		if len(values) > 0 && !ok {
			return false, nil
		}
	}
	return true, nil
}

func matchNetworkFilter(n mobynetwork.Inspect, name, value string) (bool, error) {
	predefined := slices.Contains([]string{"bridge", "host", "none"}, n.Name)
	switch name {
	case "id":
		return strings.HasPrefix(n.ID, value), nil
	case "name":
		return strings.Contains(n.Name, value), nil
	case "driver":
		return n.Driver == value, nil
	case "scope":
		return n.Scope == value, nil
	case "label":
		key, want, hasValue := strings.Cut(value, "=")
		got, ok := n.Labels[key]
		return ok && (!hasValue || got == want), nil
	case "type":
		switch value {
		case "builtin":
			return predefined, nil
		case "custom":
			return !predefined, nil
		}
		return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter: 'type'='%s'", value))
	case "dangling":
		want, err := strconv.ParseBool(value)
		if err != nil {
			return false, errdefs.ErrInvalidArgument.WithMessage("invalid filter 'dangling=" + value + "'")
		}
		return want == (!predefined && len(n.Containers) == 0), nil
	}
	return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s'", name))
}
