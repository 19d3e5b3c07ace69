package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyvolume "github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"
)

// addDatabase makes an image of two layers with everything that a volume's
// source may be.
func addDatabase(t *testing.T, f *fixture) {
	t.Helper()
	f.layers.addImage(t, "db", func(dir string) {
		put(t, dir+"/var/lib/db/old", "old")
		put(t, dir+"/var/lib/db/deleted", "deleted")
		put(t, dir+"/var/lib/db/sub/file", "lower")
		put(t, dir+"/var/lib/db/replaced/file", "lower")
		put(t, dir+"/opaque/sub/lower", "lower")
		put(t, dir+"/gone/sub/lower", "lower")
		put(t, dir+"/file", "a file")
		must(t, os.Mkdir(dir+"/empty", 0o755))
		must(t, os.Mkdir(dir+"/etc", 0o755))
		must(t, os.Symlink("/var/lib", dir+"/absolute"))
		must(t, os.Symlink("../../../../../etc", dir+"/outside"))
	}, func(dir string) {
		put(t, dir+"/var/lib/db/new", "new")
		put(t, dir+"/var/lib/db/sub/file", "upper")
		must(t, unix.Mknod(dir+"/var/lib/db/deleted", unix.S_IFCHR, 0))
		put(t, dir+"/var/lib/db/replaced/other", "upper")
		must(t, unix.Setxattr(dir+"/var/lib/db/replaced", "trusted.overlay.opaque", []byte("y"), 0))
		put(t, dir+"/opaque/sub/upper", "upper")
		must(t, unix.Setxattr(dir+"/opaque", "trusted.overlay.opaque", []byte("y"), 0))
		must(t, unix.Mknod(dir+"/gone", unix.S_IFCHR, 0))
		must(t, os.Mkdir(dir+"/empty", 0o755))
		must(t, os.Chown(dir+"/var/lib/db", 70, 71))
		must(t, os.Chmod(dir+"/var/lib/db", os.ModeSetgid|0o750))
		must(t, os.Chmod(dir+"/empty", os.ModeSticky|0o777))
		must(t, os.Chown(dir+"/empty", 5, 6))
	})
}

// tree lists the names and contents below dir.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(data)
		return err
	}))
	return files
}

var database = map[string]string{"old": "old", "new": "new", "sub/file": "upper", "replaced/other": "upper"}

func wantOwner(t *testing.T, dir string, uid, gid, mode uint32) {
	t.Helper()
	var stat unix.Stat_t
	must(t, unix.Stat(dir, &stat))
	if stat.Uid != uid || stat.Gid != gid || stat.Mode&0o7777 != mode {
		t.Errorf("%s: %d:%d %o, want %d:%d %o", dir, stat.Uid, stat.Gid, stat.Mode&0o7777, uid, gid, mode)
	}
}

func TestPopulateByCopy(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	for name, tc := range map[string]struct {
		bind   string
		want   map[string]string
		merged int
	}{
		"content":                {"a0:/var/lib/db", database, 1},
		"through a link":         {"a1:/absolute/db", database, 1},
		"empty directory":        {"a2:/empty", map[string]string{}, 1},
		"opaque parent":          {"a3:/opaque/sub", map[string]string{"upper": "upper"}, 1},
		"deleted parent":         {"a4:/gone/sub", map[string]string{}, 0},
		"not in the image":       {"a5:/nowhere", map[string]string{}, 0},
		"nocopy":                 {"a6:/var/lib/db:nocopy", map[string]string{}, 0},
		"a link out of the root": {"a7:/outside", map[string]string{}, 1},
		"a file":                 {"a8:/file", map[string]string{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f.cloner.merged = 0
			points := f.attach(t, "c-"+name, f.image(t, "db", false), mobycontainer.HostConfig{Binds: []string{tc.bind}})
			if diff := cmp.Diff(tc.want, tree(t, points[0].Source)); diff != "" {
				t.Error(diff)
			}
			if f.cloner.merged != tc.merged || f.cloner.cloned != 0 || f.Method(points[0].Name) != "" {
				t.Errorf("merged %d times, cloned %d, method %q", f.cloner.merged, f.cloner.cloned, f.Method(points[0].Name))
			}
		})
	}
	wantOwner(t, f.data("a0"), 70, 71, 0o2750)
	wantOwner(t, f.data("a2"), 5, 6, 0o1777)
	wantOwner(t, f.data("a5"), 0, 0, 0o755)

	// A volume that has something is left alone; an emptied one is filled again.
	must(t, os.RemoveAll(f.data("a0")))
	must(t, os.Mkdir(f.data("a0"), 0o755))
	put(t, filepath.Join(f.data("a2"), "mine"), "mine")
	f.attach(t, "later", f.image(t, "db", false), mobycontainer.HostConfig{Binds: []string{"a0:/var/lib/db", "a2:/var"}})
	if diff := cmp.Diff(database, tree(t, f.data("a0"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"mine": "mine"}, tree(t, f.data("a2"))); diff != "" {
		t.Error(diff)
	}
}

func TestPopulateWithoutCloner(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	f.cfg.Cloner = nil
	f.layers.addImage(t, "one", func(dir string) { put(t, dir+"/data/file", "x") })
	mounts := f.image(t, "one", false)
	mounts.Mounts[0].Type, mounts.Mounts[0].Source = "bind", filepath.Join(f.layers.chain("one"), "0")
	f.attach(t, "c1", mounts, mobycontainer.HostConfig{Binds: []string{"bound:/data"}})
	wantFile(t, filepath.Join(f.data("bound"), "file"), "x")
	f.attach(t, "c1", f.image(t, "db", false), mobycontainer.HostConfig{Binds: []string{"copied:/var/lib/db"}})
	if diff := cmp.Diff(database, tree(t, f.data("copied"))); diff != "" {
		t.Error(diff)
	}
	f.clean(t)
}

// TestPopulateInUse fills a volume that a running container has mounted: the
// container must see it.
func TestPopulateInUse(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	host := mobycontainer.HostConfig{Binds: []string{"data:/var/lib/db:nocopy"}}
	points := f.attach(t, "c1", Image{}, host)
	source, err := f.Mount(t.Context(), "c1", points[0])
	must(t, err)
	seen, err := os.OpenRoot(source)
	must(t, err)
	defer seen.Close()
	f.attach(t, "c2", f.image(t, "db", true), mobycontainer.HostConfig{Binds: []string{"data:/var/lib/db"}})
	if data, err := seen.ReadFile("new"); err != nil || string(data) != "new" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestFullVolume: of a fill that does not fit nothing is left in a volume that
// its options mount.
func TestFullVolume(t *testing.T) {
	f := newFixture(t)
	f.layers.addImage(t, "big", func(dir string) {
		for i := range 8 {
			put(t, fmt.Sprint(dir, "/db/", i), strings.Repeat("x", 100<<10))
		}
	}, func(string) {})
	small := filepath.Join(f.dir, "small")
	must(t, os.Mkdir(small, 0o755))
	must(t, unix.Mount("tmpfs", small, "tmpfs", 0, "size=500k"))
	_, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: "bound", DriverOpts: map[string]string{"type": "none", "o": "bind", "device": small}})
	must(t, err)
	host := mobycontainer.HostConfig{Binds: []string{"bound:/db"}}
	if _, err := f.tryAttach(t, "c1", f.image(t, "big", true), host); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if entries, err := os.ReadDir(small); err != nil || len(entries) != 0 {
		t.Errorf("left in the volume: %v, %v", entries, err)
	}
	if f.Method("bound") != "" {
		t.Error("the volume counts as filled")
	}
	f.clean(t)
	must(t, unix.Mount("tmpfs", small, "tmpfs", unix.MS_REMOUNT, "size=4m"))
	f.attach(t, "c1", f.image(t, "big", true), host)
	if n := len(tree(t, small)); n != 8 || !f.Fresh("bound", "c1") {
		t.Errorf("%d files, fresh: %v", n, f.Fresh("bound", "c1"))
	}
}

// TestSettleSparesOthers: what somebody else writes into a volume while it is
// filled is neither taken back nor replaced with the copy.
func TestSettleSparesOthers(t *testing.T) {
	f := newFixture(t)
	device := filepath.Join(f.dir, "device")
	for phase, want := range map[string]map[string]string{
		copyPartial:  {"theirs": "theirs", "both": "theirs"},
		copyComplete: {"theirs": "theirs", "both": "theirs", "ours": "ours"},
	} {
		must(t, os.RemoveAll(device))
		for name, content := range map[string]string{
			"theirs": "theirs", "both": "theirs", stageDir + "/both": "ours", stageDir + "/ours": "ours",
		} {
			put(t, filepath.Join(device, name), content)
		}
		must(t, f.replace(record{Name: "bound", Copy: phase, Options: map[string]string{"type": "none", "o": "bind", "device": device}}))
		f.open(t)
		must(t, f.Restore(t.Context(), nil))
		if diff := cmp.Diff(want, tree(t, device)); diff != "" {
			t.Errorf("%s: %s", phase, diff)
		}
		f.clean(t)
	}
}

func TestNamedVolumeOfDataImage(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	f.attach(t, "c1", f.image(t, "db", true), mobycontainer.HostConfig{Binds: []string{"named:/var/lib/db"}})
	if diff := cmp.Diff(database, tree(t, f.data("named"))); diff != "" {
		t.Error(diff)
	}
	v, err := f.Get(t.Context(), "named")
	must(t, err)
	if diff := cmp.Diff(map[string]any{"method": "reflink", "parent": "sha256:db"}, v.Status); diff != "" {
		t.Error(diff)
	}
	if _, ok, err := f.Upper(t.Context(), "named"); ok || err != nil {
		t.Errorf("an upper directory: %v, %v", ok, err)
	}
	f.clean(t)
}

func TestAnonymousVolumeOfDataImage(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	points := f.attach(t, "c1", f.image(t, "db", true), mobycontainer.HostConfig{}, "/absolute/db", "/nowhere")
	volume, plain := points[1], points[0]
	if f.Method(volume.Name) != MethodOverlay || f.Method(plain.Name) != "" || f.cloner.merged+f.cloner.cloned != 0 {
		t.Fatalf("methods %q, %q", f.Method(volume.Name), f.Method(plain.Name))
	}
	if diff := cmp.Diff(database, tree(t, volume.Source)); diff != "" {
		t.Error(diff)
	}
	wantOwner(t, volume.Source, 70, 71, 0o2750)
	wantOwner(t, plain.Source, 0, 0, 0o755)

	source, err := f.Mount(t.Context(), "c1", volume)
	must(t, err)
	put(t, filepath.Join(source, "old"), "changed")
	must(t, os.Remove(filepath.Join(source, "new")))
	wantFile(t, filepath.Join(f.layers.chain("db"), "0/var/lib/db/old"), "old")
	wantFile(t, filepath.Join(f.layers.chain("db"), "1/var/lib/db/new"), "new")
	upper, ok, err := f.Upper(t.Context(), volume.Name)
	dir := f.layers.snapshot(keyPrefix+volume.Name) + "/fs"
	want := Upper{Dir: dir, Chain: "db", SubPath: "var/lib/db", Layers: []string{
		dir + "/var/lib/db", f.layers.chain("db") + "/1/var/lib/db", f.layers.chain("db") + "/0/var/lib/db",
	}}
	if diff := cmp.Diff(want, upper); err != nil || !ok || diff != "" {
		t.Errorf("%v, %v, %s", ok, err, diff)
	}
	wantFile(t, filepath.Join(upper.Dir, upper.SubPath, "old"), "changed")
	usage, err := f.Usage(t.Context())
	must(t, err)
	for _, v := range usage {
		if v.Name == volume.Name && v.UsageData.Size != int64(len("changed")) {
			t.Errorf("size %d: the image's bytes count", v.UsageData.Size)
		}
	}

	changed := map[string]string{"old": "changed", "sub/file": "upper", "replaced/other": "upper"}
	use := Use{ID: "c1", Points: points, Running: true}
	f.open(t) // the daemon restarts
	before, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	must(t, f.Restore(t.Context(), []Use{use}))
	after, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if string(before) != string(after) {
		t.Error("mounts changed though all were there")
	}
	f.clean(t, use)

	f.open(t) // the host reboots
	unmountBelow(t, f.dir)
	use.Running = false
	must(t, f.Restore(t.Context(), []Use{use}))
	if diff := cmp.Diff(changed, tree(t, volume.Source)); diff != "" {
		t.Error(diff)
	}
	must(t, unmount(f.data(volume.Name))) // somebody unmounts it: the next start repairs that
	if _, err := f.Mount(t.Context(), "c1", volume); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(changed, tree(t, volume.Source)); diff != "" {
		t.Error(diff)
	}
	f.clean(t, use)

	// A second container fills nothing over it; the last one removes it while a
	// process still has a file open.
	other := f.attach(t, "c2", f.image(t, "db", true), mobycontainer.HostConfig{Binds: []string{volume.Name + ":/var/lib/db"}})
	if diff := cmp.Diff(changed, tree(t, other[0].Source)); diff != "" {
		t.Error(diff)
	}
	must(t, f.Detach(t.Context(), "c2", other, true))
	open, err := os.Open(filepath.Join(volume.Source, "old"))
	must(t, err)
	defer open.Close()
	must(t, f.Unmount(t.Context(), "c1", volume))
	must(t, f.Detach(t.Context(), "c1", points, true))
	if keys, _ := f.layers.List(t.Context(), keyPrefix); len(keys) != 0 {
		t.Errorf("snapshots are left: %v", keys)
	}
	f.clean(t)
}

// TestRootBehindLink keeps the volumes where a symbolic link leads.
func TestRootBehindLink(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	for _, name := range []string{"volumes", "run"} {
		must(t, os.Rename(filepath.Join(f.dir, name), filepath.Join(f.dir, "real-"+name)))
		must(t, os.Symlink("real-"+name, filepath.Join(f.dir, name)))
	}
	f.open(t)
	must(t, f.Restore(t.Context(), nil))
	points := f.attach(t, "c1", f.image(t, "db", true), mobycontainer.HostConfig{Binds: []string{"named:/var/lib/db"}}, "/absolute/db")
	for _, p := range points {
		if diff := cmp.Diff(database, tree(t, p.Source)); diff != "" {
			t.Error(diff)
		}
	}
	must(t, f.Detach(t.Context(), "c1", points, true))
	f.clean(t)
}

func TestAttachUndoesItself(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	_, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: "kept"})
	must(t, err)
	for _, data := range []bool{true, false} {
		// The volume at /file cannot be: a file is there.
		_, err = f.tryAttach(t, "c1", f.image(t, "db", data), mobycontainer.HostConfig{Binds: []string{"kept:/a", "new:/b"}}, "/file", "/empty")
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "cannot mount volume over existing file, file exists /file") {
			t.Errorf("got %v", err)
		}
		all, err := f.List(t.Context(), nil)
		if err != nil || len(all) != 1 || all[0].Name != "kept" {
			t.Errorf("left: %v, %v", all, err)
		}
		f.clean(t)
	}
	must(t, f.Remove(t.Context(), "kept", false)) // no user is left either
}

// TestRestoreAdoptsData takes up a volume whose record was lost, and removes a
// directory that has nothing in it.
func TestRestoreAdoptsData(t *testing.T) {
	f := newFixture(t)
	put(t, filepath.Join(f.dir, "volumes/lost/_data/file"), "precious")
	must(t, os.MkdirAll(filepath.Join(f.dir, "volumes/husk/_data"), 0o755))
	f.open(t)
	must(t, f.Restore(t.Context(), nil))
	if _, err := f.Get(t.Context(), "lost"); err != nil {
		t.Error(err)
	}
	wantFile(t, filepath.Join(f.data("lost"), "file"), "precious")
	if _, err := f.Get(t.Context(), "husk"); err == nil {
		t.Error("an empty directory became a volume")
	}
	f.clean(t)
}

// TestCheckFindsLeaks plants one problem of each kind.
func TestCheckFindsLeaks(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	points := f.attach(t, "c1", f.image(t, "db", true), mobycontainer.HostConfig{Binds: []string{"data:/x:nocopy"}}, "/var/lib/db")
	use := Use{ID: "c1", Points: points}
	overlay := points[1].Name
	f.clean(t, use)
	for name, tc := range map[string]struct {
		plant, undo func()
		want        string
	}{
		"directory": {
			func() { put(t, filepath.Join(f.dir, "volumes/stray/x"), "") },
			func() { must(t, os.RemoveAll(filepath.Join(f.dir, "volumes/stray"))) },
			"volumes/stray belongs to no volume",
		},
		"unfinished copy": {
			func() { put(t, filepath.Join(f.dir, "volumes/data/.filling/x"), "") },
			func() { must(t, os.RemoveAll(filepath.Join(f.dir, "volumes/data/.filling"))) },
			"was left when a volume was filled",
		},
		"mount": {
			func() { must(t, unix.Mount("x", f.data("data"), "tmpfs", 0, "")) },
			func() { must(t, unmount(f.data("data"))) },
			"belongs to no volume in use",
		},
		"snapshot": {
			func() { _, err := f.layers.Prepare(t.Context(), "volume-nobody", "db", nil); must(t, err) },
			func() { must(t, f.layers.Remove(t.Context(), "volume-nobody")) },
			"snapshot volume-nobody belongs to no volume",
		},
		"lost snapshot": {
			func() { must(t, os.Rename(f.layers.snapshot(keyPrefix+overlay), f.dir+"/aside")) },
			func() { must(t, os.Rename(f.dir+"/aside", f.layers.snapshot(keyPrefix+overlay))) },
			"the snapshot of volume " + overlay + " is missing",
		},
		"lost mount": {
			func() { must(t, unmount(f.data(overlay))) },
			func() { r, _, _, _ := f.lookup(overlay); must(t, f.ensureMounted(t.Context(), r)) },
			"volume " + overlay + " is not mounted",
		},
		"lost data": {
			func() { must(t, os.Remove(f.data("data"))) },
			func() { must(t, os.Mkdir(f.data("data"), 0o755)) },
			"the data directory of volume data is missing",
		},
		"lost record": {
			func() { must(t, f.records.Delete("data")) },
			func() { r, _, _, _ := f.lookup("data"); must(t, f.replace(r)) },
			"volume data has no record",
		},
		"lost volume": {
			func() { use.Points = append(use.Points, MountPoint{Name: "gone"}) },
			func() { use.Points = points },
			"volume gone of container c1 is missing",
		},
		"half-filled volume": {
			func() { r, _, _, _ := f.lookup("data"); r.Filling = true; must(t, f.replace(r)) },
			func() { r, _, _, _ := f.lookup("data"); r.Filling = false; must(t, f.replace(r)) },
			"volume data was not filled to the end",
		},
	} {
		tc.plant()
		problems, err := f.CheckLeaks(t.Context(), []Use{use})
		if err != nil || len(problems) != 1 || !strings.Contains(problems[0], tc.want) {
			t.Errorf("%s: %q, %v", name, problems, err)
		}
		tc.undo()
		f.clean(t, use)
	}
}

// TestFresh: what a data image has filled is new until a database has had its
// first start with it, whichever container that was made for.
func TestFresh(t *testing.T) {
	f := newFixture(t)
	addDatabase(t, f)
	image := f.image(t, "db", true)
	points := f.attach(t, "c1", image, mobycontainer.HostConfig{Binds: []string{"named:/var/lib/db"}})
	must(t, f.Detach(t.Context(), "c1", points, true))
	for _, c := range []string{"c1", "c2"} {
		if !f.Fresh("named", c) {
			t.Errorf("not fresh for %s, before its first start", c)
		}
	}
	_, err := f.Mount(t.Context(), "c1", points[0])
	must(t, err)
	if !f.Fresh("named", "c1") || f.Fresh("named", "c2") {
		t.Error("while c1 runs with it, it is fresh for c1 and for nobody else")
	}
	must(t, f.Settle(t.Context(), "named"))
	f.open(t) // the daemon restarts
	must(t, f.Restore(t.Context(), nil))
	if f.Fresh("named", "c1") {
		t.Error("fresh after its first start")
	}
	// A volume that its options mount gets copies, of which the same holds.
	_, err = f.Create(t.Context(), mobyvolume.CreateRequest{Name: "mounted", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs"}})
	must(t, err)
	f.attach(t, "c1", image, mobycontainer.HostConfig{Binds: []string{"mounted:/var/lib/db"}})
	if f.Method("mounted") != MethodCopy || !f.Fresh("mounted", "c1") {
		t.Errorf("a mounted volume: method %q", f.Method("mounted"))
	}
	if f.Fresh("no such volume", "c1") || f.Settle(t.Context(), "no such volume") == nil {
		t.Error("a volume that is not there")
	}
}
