package container

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/events"
	"slipway/layerstore"
	"slipway/state"

	"github.com/containerd/containerd/v2/core/containers"
)

// TestCheckFindsPlanted plants each kind of leak and loss in the records, and
// wants the checker to find just that.
func TestCheckFindsPlanted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	store, err := layerstore.New(t.Context(), layerstore.Config{
		Root: filepath.Join(dir, "containerd"), State: filepath.Join(dir, "state"), BinDir: dir, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(store.Close)
	records, err := state.Open(filepath.Join(dir, "slipway.db"))
	must(t, err)
	t.Cleanup(func() { must(t, records.Close()) })
	ctx := layerstore.Context(t.Context())
	m, err := New(ctx, Config{
		DataRoot: dir, ExecRoot: filepath.Join(dir, "run"), Client: store.Client(), State: records, Events: events.New(),
		Shims: store, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(m.Close)

	// A container that is as it should be.
	id, stray := strings.Repeat("a", idLength), strings.Repeat("b", idLength)
	m.containers[id] = newContainer(&Record{ID: id, Name: "own"}, m.records)
	must(t, m.names.Reserve("own", id))
	must(t, m.layers.prepare(ctx, id, ""))
	must(t, os.Mkdir(m.dir(id), 0o710))
	check := func() (found []string) {
		leftovers, err := m.Leftovers(ctx)
		must(t, err)
		for _, l := range leftovers {
			found = append(found, l.Kind+" "+l.ID)
		}
		lost, err := m.Lost(ctx)
		must(t, err)
		return append(found, lost...)
	}
	if found := check(); len(found) != 0 {
		t.Fatalf("the checker finds %q where nothing is", found)
	}

	service := store.Client().ContainerService()
	mkdir := func(parts ...string) func() error {
		return func() error { return os.MkdirAll(filepath.Join(parts...), 0o700) }
	}
	for _, plant := range []struct {
		want   string
		do, un func() error
	}{
		{"name " + stray, func() error { return m.names.Reserve("stray", stray) }, nil},
		{"layer " + stray, func() error { return m.layers.prepare(ctx, stray, "") }, nil},
		{"directory " + stray, mkdir(m.dir(stray)), nil},
		{"root mount " + stray, mkdir(m.layers.path(stray)), nil},
		{"stream " + stray, mkdir(m.ioDir(stray)), nil},
		{"task " + stray, func() error {
			_, err := service.Create(ctx, containers.Container{ID: stray, Runtime: containers.RuntimeInfo{Name: "io.containerd.runc.v2"}})
			return err
		}, nil},
		{
			"container " + id + ` has lost its name "own"`,
			func() error { return m.names.Release("own") },
			func() error { return m.names.Reserve("own", id) },
		},
		{
			"container " + id + " has lost its layer",
			func() error { return m.layers.remove(ctx, id) },
			func() error { return m.layers.prepare(ctx, id, "") },
		},
		{
			"container " + id + " has lost its directory",
			func() error { return os.Remove(m.dir(id)) },
			mkdir(m.dir(id)),
		},
	} {
		must(t, plant.do())
		if found := check(); !slices.Equal(found, []string{plant.want}) {
			t.Errorf("planted %q, found %q", plant.want, found)
		}
		if plant.un != nil {
			must(t, plant.un())
		} else {
			must(t, m.sweep(ctx)) // removes what belongs to nobody
		}
		if found := check(); len(found) != 0 {
			t.Errorf("after %q there is %q left", plant.want, found)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
