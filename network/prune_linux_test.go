package network

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	mobynetwork "github.com/moby/moby/api/types/network"
)

func filters(all ...string) Filters {
	f := Filters{}
	for _, one := range all {
		name, value, _ := strings.Cut(one, ": ")
		if f[name] == nil {
			f[name] = map[string]bool{}
		}
		f[name][value] = true
	}
	return f
}

func TestListFilters(t *testing.T) {
	d := newDaemon(t, nil)
	ids := map[string]string{}
	for name, labels := range map[string]map[string]string{"front": {"tier": "web", "keep": ""}, "back": {"tier": "db"}} {
		id, _, err := d.Create(t.Context(), mobynetwork.CreateRequest{Name: name, Labels: labels})
		must(t, err)
		ids[name] = id
	}
	d.guest("web", func(r *EndpointRequest) { r.Network = "front" })
	for filter, want := range map[string]string{
		"": "back bridge front host none", "name: front": "front", "name: ^b": "back bridge", "name: ro": "front", "name: ^ro": "", "name: (": "",
		"driver: bridge": "back bridge front", "driver: null": "none", "scope: local": "back bridge front host none", "scope: swarm": "",
		"type: custom": "back front", "type: builtin": "bridge host none", "dangling: true": "back", "dangling: 0": "bridge front host none",
		"label: tier": "back front", "label: tier=db": "back", "label: tier, label: keep": "front", "label: tier=web, label: tier=db": "",
		"name: back, name: front": "back front", "name: back, label: keep": "", "id: " + ids["back"][:10]: "back", "id: " + ids["back"][1:10]: "back",
	} {
		f := Filters{}
		if filter != "" {
			f = filters(strings.Split(filter, ", ")...)
		}
		list, err := d.List(f)
		must(t, err)
		var names []string
		for _, n := range list {
			names = append(names, n.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", filter, got, want)
		}
	}
	for _, bad := range []string{"colour: red", "dangling: perhaps", "type: odd"} {
		_, err := d.List(filters(bad))
		wantError(t, err, errdefs.ErrInvalidArgument, "invalid filter")
	}
}

func TestPrune(t *testing.T) {
	d := newDaemon(t, nil)
	create := func(name string, labels ...string) {
		t.Helper()
		req := mobynetwork.CreateRequest{Name: name, Labels: map[string]string{}}
		for _, l := range labels {
			req.Labels[l] = "1"
		}
		_, _, err := d.Create(t.Context(), req)
		must(t, err)
	}
	prune := func(want string, all ...string) {
		t.Helper()
		report, err := d.Prune(t.Context(), filters(all...))
		must(t, err)
		slices.Sort(report.NetworksDeleted)
		if got := strings.Join(report.NetworksDeleted, " "); got != want {
			t.Errorf("pruned %q, want %q", got, want)
		}
	}
	create("used")
	d.guest("web", func(r *EndpointRequest) { r.Network = "used" })
	before := time.Now()
	create("a", "x")
	create("b", "x", "y")
	create("c")
	prune("", "until: 1h")
	prune("", "until: "+before.Format(time.RFC3339Nano))
	prune("b", "label: x", "label: y")
	create("b", "x", "y")
	prune("a", "label: x", "label!: y")
	unlock, err := d.locks.Lock(t.Context(), networkKey(must1(t)(d.Get("c")).ID))
	must(t, err)
	prune("b", fmt.Sprintf("until: %d", time.Now().Unix()+10)) // c is busy
	unlock()
	prune("c")
	prune("")
	_, err = d.Prune(t.Context(), filters("name: a"))
	wantError(t, err, errdefs.ErrInvalidArgument, "invalid filter 'name'")
	_, err = d.Prune(t.Context(), filters("until: whenever"))
	wantError(t, err, errdefs.ErrInvalidArgument, "failed to parse time value")
	if _, err := d.Get("used"); err != nil {
		t.Error(err)
	}
	wantNoLeaks(t, d, id("web"))
}
