package volume

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"

	"slipway/state"
)

// damage makes the record of a volume one that cannot be read.
func (f *fixture) damage(t *testing.T, name string) {
	t.Helper()
	raw, err := state.NewBucket[string](f.store, "volumes")
	must(t, err)
	must(t, raw.Put(name, "not a record"))
}

// TestDamagedRecord: the data of a volume whose record is damaged or lost can be
// used as before when its snapshot, or its directory, tells what it was.
func TestDamagedRecord(t *testing.T) {
	changed := map[string]string{"old": "changed", "new": "new", "sub/file": "upper", "replaced/other": "upper"}
	for name, tc := range map[string]struct{ isLost, isReboot, isStarted bool }{
		"damaged":                   {},
		"damaged after a start":     {isStarted: true},
		"damaged before a reboot":   {isReboot: true},
		"lost":                      {isLost: true},
		"lost as the host rebooted": {isLost: true, isReboot: true, isStarted: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			addDatabase(t, f)
			host := mobycontainer.HostConfig{Binds: []string{"named:/empty:nocopy"}}
			points := f.attach(t, "c1", f.image(t, "db", true), host, "/absolute/db")
			use := Use{ID: "c1", Points: points, Running: !tc.isReboot}
			overlay := points[slices.IndexFunc(points, func(p MountPoint) bool { return p.Name != "named" })]
			before, err := f.Get(t.Context(), overlay.Name)
			must(t, err)
			put(t, filepath.Join(overlay.Source, "old"), "changed")
			put(t, filepath.Join(f.data("named"), "file"), "precious")
			if tc.isStarted {
				must(t, f.Settle(t.Context(), overlay.Name))
			}
			for _, v := range []string{overlay.Name, "named"} {
				if tc.isLost {
					must(t, f.records.Delete(v))
				} else {
					f.damage(t, v)
				}
			}
			f.open(t)
			if tc.isReboot {
				unmountBelow(t, f.dir)
			}
			layer, _ := os.Stat(f.layer(overlay.Name))
			must(t, f.Restore(t.Context(), []Use{use}))
			if now, _ := os.Stat(f.layer(overlay.Name)); !tc.isReboot && !os.SameFile(layer, now) {
				t.Error("the snapshot was mounted again under a container that runs")
			}
			f.clean(t, use)
			if diff := cmp.Diff(changed, tree(t, overlay.Source)); diff != "" {
				t.Error(diff)
			}
			wantFile(t, filepath.Join(f.data("named"), "file"), "precious")
			after, err := f.Get(t.Context(), overlay.Name)
			must(t, err)
			before.CreatedAt = after.CreatedAt
			if diff := cmp.Diff(before, after); diff != "" {
				t.Error(diff)
			}
			if upper, ok, err := f.Upper(t.Context(), overlay.Name); err != nil || !ok || upper.Chain != "db" || upper.SubPath != "var/lib/db" {
				t.Errorf("%+v, %v, %v", upper, ok, err)
			}
			if !f.Fresh(overlay.Name, "c1") {
				t.Error("the copy may be the first that a database is started with")
			}
			must(t, f.Unmount(t.Context(), "c1", overlay))
			must(t, f.Detach(t.Context(), "c1", points, true))
			if keys, _ := f.layers.List(t.Context(), keyPrefix); len(keys) != 0 {
				t.Errorf("snapshots are left: %v", keys)
			}
			f.clean(t)
		})
	}
}

// TestHopelessRecord: a volume of which too little is known is kept until
// somebody removes it, and until then it is nothing else.
func TestHopelessRecord(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	must(t, os.Mkdir(filepath.Join(f.dir, "device"), 0o755))
	host := crashHost(f)
	host.Binds = nil
	image := f.image(t, "db", true)
	points := f.attach(t, "c1", image, host, "/var/lib/db")
	overlay := points[slices.IndexFunc(points, func(p MountPoint) bool { return p.Name != "bound" })].Name
	put(t, filepath.Join(f.data(overlay), "old"), "changed")
	info := filepath.Join(f.layers.snapshot(keyPrefix+overlay), "info")
	text, err := json.Marshal(Snapshot{Chain: "db"}) // as one without labels
	must(t, err)
	must(t, os.WriteFile(info, text, 0o600))
	use := Use{ID: "c1", Points: points}
	for _, name := range []string{overlay, "bound"} {
		f.damage(t, name)
	}
	for range 2 {
		f.open(t)
		unmountBelow(t, f.dir)
		must(t, f.Restore(t.Context(), []Use{use}))
		for _, name := range []string{overlay, "bound"} {
			f.staysHopeless(t, name, use)
		}
		problems, err := f.CheckLeaks(t.Context(), []Use{use})
		if err != nil || len(problems) != 2 || !strings.Contains(problems[0]+problems[1], "docker volume rm "+overlay) {
			t.Errorf("%q, %v", problems, err)
		}
	}
	wantFile(t, filepath.Join(f.layers.snapshot(keyPrefix+overlay), "fs/var/lib/db/old"), "changed")
	if diff := cmp.Diff(database, tree(t, filepath.Join(f.dir, "device"))); diff != "" {
		t.Error(diff)
	}
	must(t, f.Detach(t.Context(), "c1", points, false))
	for _, name := range []string{overlay, "bound"} {
		must(t, f.Remove(t.Context(), name, false))
	}
	f.clean(t)
	if diff := cmp.Diff(database, tree(t, filepath.Join(f.dir, "device"))); diff != "" {
		t.Error(diff)
	}
	f.attach(t, "c2", image, host)
}

func (f *fixture) staysHopeless(t *testing.T, name string, use Use) {
	t.Helper()
	v, err := f.Get(t.Context(), name)
	if err != nil || v.Status["error"] == nil {
		t.Errorf("%s: %+v, %v", name, v, err)
	}
	if _, err := f.Mount(t.Context(), "c1", use.Points[0]); !errdefs.IsDataLoss(err) {
		t.Errorf("mount: %v", err)
	}
	if _, err := f.tryAttach(t, "c2", Image{}, mobycontainer.HostConfig{Binds: []string{name + ":/x"}}); !errdefs.IsDataLoss(err) {
		t.Errorf("attach: %v", err)
	}
	if _, _, err := f.Upper(t.Context(), name); !errdefs.IsDataLoss(err) {
		t.Errorf("commit: %v", err)
	}
	if err := f.Remove(t.Context(), name, true); !errdefs.IsConflict(err) {
		t.Errorf("removal while a container names it: %v", err)
	}
	if _, err := f.Prune(t.Context(), Filters{"all": {"true": true}}); err != nil {
		t.Error(err)
	}
	if _, err := f.Usage(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(f.data(name)); err != nil {
		t.Error(err)
	}
}
