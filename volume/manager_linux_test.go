package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"
	mobyvolume "github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"
)

func TestCreate(t *testing.T) {
	f := newFixture(t)
	v, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: "data", Labels: map[string]string{"a": "b"}})
	must(t, err)
	want := mobyvolume.Volume{
		Name: "data", Driver: "local", Scope: "local", CreatedAt: v.CreatedAt, Labels: map[string]string{"a": "b"},
		Mountpoint: filepath.Join(f.dir, "volumes/data/_data"),
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
	if _, err := time.Parse(time.RFC3339, v.CreatedAt); err != nil {
		t.Error(err)
	}
	again, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: "data", Labels: map[string]string{"other": ""}, Driver: "local"})
	if diff := cmp.Diff(v, again); diff != "" || err != nil {
		t.Errorf("the second create: %v %s", err, diff)
	}
	anonymous, err := f.Create(t.Context(), mobyvolume.CreateRequest{})
	must(t, err)
	if _, ok := anonymous.Labels[AnonymousLabel]; !ok || len(anonymous.Name) != 64 {
		t.Errorf("anonymous volume %+v", anonymous)
	}
	if diff := cmp.Diff([]string{"create", "create"}, f.events(t)); diff != "" {
		t.Error(diff)
	}
	f.open(t)
	must(t, f.Restore(t.Context(), nil))
	if kept, err := f.Get(t.Context(), "data"); err != nil || !cmp.Equal(kept, v) {
		t.Errorf("after a restart: %+v, %v", kept, err)
	}
	f.clean(t)
}

func TestCreateRefuses(t *testing.T) {
	f := newFixture(t)
	options := func(pairs ...string) mobyvolume.CreateRequest {
		req := mobyvolume.CreateRequest{Name: "new", DriverOpts: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			req.DriverOpts[pairs[i]] = pairs[i+1]
		}
		return req
	}
	for _, tc := range []struct {
		req  mobyvolume.CreateRequest
		want string
		is   func(error) bool
	}{
		{mobyvolume.CreateRequest{Name: "x"}, "create x: volume name is too short, names should be at least two alphanumeric characters", errdefs.IsInvalidArgument},
		{mobyvolume.CreateRequest{Name: "a/b"}, `create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`, errdefs.IsInvalidArgument},
		{mobyvolume.CreateRequest{Name: ".removed-x"}, "includes invalid characters", errdefs.IsInvalidArgument},
		{mobyvolume.CreateRequest{Name: strings.Repeat("x", 256)}, "too long", errdefs.IsInvalidArgument},
		{mobyvolume.CreateRequest{Name: "new", Driver: "nfs"}, `create new: error looking up volume plugin nfs: plugin "nfs" not found`, errdefs.IsNotFound},
		{mobyvolume.CreateRequest{Name: "new", ClusterVolumeSpec: &mobyvolume.ClusterVolumeSpec{}}, "This node is not a swarm manager", errdefs.IsUnavailable},
		{options("x", "y"), `create new: invalid option: "x"`, errdefs.IsInvalidArgument},
		{options("type", "tmpfs"), `create new: missing required option: "device"`, errdefs.IsInvalidArgument},
		{options("device", "x"), `create new: missing required option: "type"`, errdefs.IsInvalidArgument},
		{options("o", "x"), `create new: missing required option: "device"`, errdefs.IsInvalidArgument},
		{options("size", "1g"), "create new: quota size requested but no quota support", errdefs.IsInvalidArgument},
		{options("size", "much"), "create new: invalid size: 'much'", errdefs.IsInvalidArgument},
		{options("type", "cifs", "device", "//host:445/x"), "create new: port not allowed in CIFS device URL, include 'port' in 'o='", errdefs.IsInvalidArgument},
	} {
		if _, err := f.Create(t.Context(), tc.req); err == nil || !tc.is(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %s", err, tc.want)
		}
	}
	if all, err := f.List(t.Context(), nil); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
	f.clean(t)
}

func TestListAndPrune(t *testing.T) {
	f := newFixture(t)
	f.layers.addImage(t, "img", func(string) {})
	for name, labels := range map[string]map[string]string{"apple": {"k": "v"}, "pear": {"k": ""}, "used": nil} {
		_, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: name, Labels: labels})
		must(t, err)
	}
	_, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: "opts", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs"}})
	must(t, err)
	anonymous, err := f.Create(t.Context(), mobyvolume.CreateRequest{})
	must(t, err)
	put(t, filepath.Join(anonymous.Mountpoint, "file"), "12345")
	f.attach(t, "c1", Image{}, mobycontainer.HostConfig{Binds: []string{"used:/x:nocopy"}})

	for _, tc := range []struct {
		filters Filters
		want    string // names, the anonymous one as "-"; or an error
	}{
		{nil, "apple opts pear used -"},
		{Filters{"name": {"e": true}}, "apple pear used -"},
		{Filters{"name": {"^p": true, "apple": true}}, "apple pear -"},
		{Filters{"label": {"k": true}}, "apple pear"},
		{Filters{"label": {"k=v": true}}, "apple"},
		{Filters{"label": {"k": true, "k=": true}}, "pear"},
		{Filters{"dangling": {"true": true}}, "apple opts pear -"},
		{Filters{"dangling": {"0": true}}, "used"},
		{Filters{"driver": {"local": true}}, "apple opts pear used -"},
		{Filters{"driver": {"nfs": true}}, ""},
		{Filters{"dangling": {"maybe": true}}, "invalid filter 'dangling=[maybe]'"},
		{Filters{"nope": {"x": true}}, "invalid filter 'nope'"},
	} {
		volumes, err := f.List(t.Context(), tc.filters)
		var got []string
		last := ""
		for _, v := range volumes {
			if v.Name != anonymous.Name {
				got = append(got, v.Name)
			} else if len(tc.filters["name"]) == 0 {
				last = "-"
			}
		}
		if last != "" {
			got = append(got, last)
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != strings.TrimSuffix(tc.want, map[bool]string{true: " -"}[len(tc.filters["name"]) > 0]) {
			t.Errorf("%v: %s, want %s", tc.filters, text, tc.want)
		}
	}
	usage, err := f.Usage(t.Context())
	must(t, err)
	for _, v := range usage {
		want := mobyvolume.UsageData{}
		switch v.Name {
		case "opts":
			want.Size = -1
		case "used":
			want.RefCount = 1
		case anonymous.Name:
			want.Size = 5
		}
		if *v.UsageData != want {
			t.Errorf("usage of %s: %+v, want %+v", v.Name, *v.UsageData, want)
		}
	}

	report, err := f.Prune(t.Context(), nil)
	if diff := cmp.Diff(mobyvolume.PruneReport{VolumesDeleted: []string{anonymous.Name}, SpaceReclaimed: 5}, report); diff != "" || err != nil {
		t.Errorf("prune: %v %s", err, diff)
	}
	report, err = f.Prune(t.Context(), Filters{"all": {"true": true}, "label!": {"k=v": true}})
	if diff := cmp.Diff(mobyvolume.PruneReport{VolumesDeleted: []string{"pear"}}, report); diff != "" || err != nil {
		t.Errorf("prune: %v %s", err, diff)
	}
	if _, err := f.Prune(t.Context(), Filters{"name": {"x": true}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("prune by name: %v", err)
	}
}

func TestRemove(t *testing.T) {
	f := newFixture(t)
	host := mobycontainer.HostConfig{Binds: []string{"data:/x:nocopy"}}
	first := f.attach(t, "c1", Image{}, host)
	second := f.attach(t, "c2", Image{}, host)
	for _, force := range []bool{false, true} {
		err := f.Remove(t.Context(), "data", force)
		if !errdefs.IsConflict(err) || err.Error() != "remove data: volume is in use - [c1, c2]" {
			t.Errorf("in use: %v", err)
		}
	}
	must(t, f.Detach(t.Context(), "c1", first, true))
	must(t, f.Detach(t.Context(), "c2", second, true)) // named: it stays
	must(t, f.Remove(t.Context(), "data", false))
	if err := f.Remove(t.Context(), "data", false); !errdefs.IsNotFound(err) || err.Error() != "get data: no such volume" {
		t.Errorf("missing: %v", err)
	}
	must(t, f.Remove(t.Context(), "data", true))
	if _, err := f.Get(t.Context(), "data"); !errdefs.IsNotFound(err) {
		t.Errorf("get: %v", err)
	}
	if diff := cmp.Diff([]string{"create", "destroy"}, f.events(t)); diff != "" {
		t.Error(diff)
	}
	f.clean(t)
}

// TestLongestName: each name that can be created can be removed, also by the
// daemon after one that was killed meanwhile.
func TestLongestName(t *testing.T) {
	f := newFixture(t)
	for _, n := range []int{237, 238, maxName} {
		name := strings.Repeat("v", n)
		v, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: name})
		must(t, err)
		put(t, filepath.Join(v.Mountpoint, "file"), "x")
		if err := f.Remove(t.Context(), name, false); err != nil {
			t.Errorf("%d characters: %v", n, err)
		}
		f.clean(t)

		_, err = f.Create(t.Context(), mobyvolume.CreateRequest{Name: name})
		must(t, err)
		must(t, os.Rename(f.dir+"/volumes/"+name, filepath.Join(f.dir, "volumes", removedName(name)+"-01234567")))
		f.open(t)
		must(t, f.Restore(t.Context(), nil))
		if _, err := f.Get(t.Context(), name); !errdefs.IsNotFound(err) {
			t.Errorf("%d characters: the removal was not finished: %v", n, err)
		}
		f.clean(t)
	}
}

// TestRemoveSparesMounts removes a volume that a file system is mounted in.
func TestRemoveSparesMounts(t *testing.T) {
	f := newFixture(t)
	v, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: "data"})
	must(t, err)
	other := filepath.Join(f.dir, "other")
	put(t, filepath.Join(other, "file"), "precious")
	inside := filepath.Join(v.Mountpoint, "inside")
	must(t, os.Mkdir(inside, 0o755))
	must(t, unix.Mount(other, inside, "", unix.MS_BIND, ""))
	must(t, f.Remove(t.Context(), "data", false))
	wantFile(t, filepath.Join(other, "file"), "precious")
	wantFile(t, f.dir+"/volumes/data", "")
	f.clean(t)
}

func TestMountOptions(t *testing.T) {
	f := newFixture(t)
	device := filepath.Join(f.dir, "device")
	put(t, filepath.Join(device, "file"), "of the host")
	for name, options := range map[string]map[string]string{
		"memory": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"},
		"bound":  {"type": "none", "device": device, "o": "bind"},
	} {
		_, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: name, DriverOpts: options})
		must(t, err)
	}
	points := f.attach(t, "c1", Image{}, mobycontainer.HostConfig{Binds: []string{"bound:/b:nocopy", "memory:/m:nocopy"}})
	other := f.attach(t, "c2", Image{}, mobycontainer.HostConfig{Binds: []string{"memory:/other:nocopy"}})
	for _, p := range points {
		source, err := f.Mount(t.Context(), "c1", p)
		if err != nil || source != f.data(p.Name) {
			t.Fatalf("%s, %v", source, err)
		}
	}
	_, err := f.Mount(t.Context(), "c2", other[0])
	must(t, err)
	wantFile(t, filepath.Join(f.data("bound"), "file"), "of the host")
	put(t, filepath.Join(f.data("memory"), "file"), "x")

	uses := []Use{{ID: "c1", Points: points, Running: true}, {ID: "c2", Points: other, Running: true}}
	f.open(t) // the daemon restarts while they run
	must(t, f.Restore(t.Context(), uses))
	f.clean(t, uses...)
	for range 2 {
		for _, p := range points {
			must(t, f.Unmount(t.Context(), "c1", p))
		}
	}
	wantFile(t, filepath.Join(f.data("memory"), "file"), "x") // c2 has it
	wantFile(t, filepath.Join(f.data("bound"), "file"), "")
	must(t, f.Unmount(t.Context(), "c2", other[0]))
	wantFile(t, filepath.Join(f.data("memory"), "file"), "")
	if diff := cmp.Diff([]string{"unmount", "unmount", "unmount"}, f.events(t)); diff != "" {
		t.Error(diff)
	}
	for i := range uses {
		uses[i].Running = false
	}
	f.clean(t, uses...)
}

func TestFailedMountLeaksNoPassword(t *testing.T) {
	err := hidePassword(errors.New("mount: user=a,password=secret,vers=3: refused"), "user=a,password=secret")
	if strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestBindSource(t *testing.T) {
	f := newFixture(t)
	made, missing := filepath.Join(f.dir, "a/b"), filepath.Join(f.dir, "missing")
	points := f.attach(t, "c1", Image{}, mobycontainer.HostConfig{Binds: []string{made + ":/x"}})
	source, err := f.Mount(t.Context(), "c1", points[0])
	if info, statErr := os.Stat(made); err != nil || source != made || statErr != nil || !info.IsDir() {
		t.Errorf("%s, %v, %v", source, err, statErr)
	}
	_, err = f.Mount(t.Context(), "c1", MountPoint{Type: mobymount.TypeBind, Source: missing})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), `invalid mount config for type "bind": bind source path does not exist: `+missing) {
		t.Errorf("got %v", err)
	}
}

func TestSubpath(t *testing.T) {
	f := newFixture(t)
	v, err := f.Create(t.Context(), mobyvolume.CreateRequest{Name: "data"})
	must(t, err)
	put(t, filepath.Join(v.Mountpoint, "a/b/file"), "inside")
	put(t, filepath.Join(f.dir, "secret/file"), "outside")
	must(t, os.Symlink("../../../secret", filepath.Join(v.Mountpoint, "up")))
	must(t, os.Symlink(filepath.Join(f.dir, "secret"), filepath.Join(v.Mountpoint, "absolute")))
	must(t, os.Symlink("/a/b", filepath.Join(v.Mountpoint, "within")))

	mountPoint := func(sub string) MountPoint {
		return f.attach(t, "c1", Image{}, mobycontainer.HostConfig{Mounts: []mobymount.Mount{{
			Type: "volume", Source: "data", Target: "/x", VolumeOptions: &mobymount.VolumeOptions{Subpath: sub, NoCopy: true},
		}}})[0]
	}
	for sub, want := range map[string]string{"a/b": "inside", "within": "inside", "up": "", "absolute": "", "none": ""} {
		p := mountPoint(sub)
		source, err := f.Mount(t.Context(), "c1", p)
		if want == "" {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %s, %v", sub, source, err)
			}
			continue
		}
		must(t, err)
		wantFile(t, filepath.Join(source, "file"), want)
		use := Use{ID: "c1", Points: []MountPoint{p}, Running: true}
		must(t, f.sweepRunDir([]Use{use}))
		wantFile(t, filepath.Join(source, "file"), want)
		f.clean(t, use)
		must(t, f.Unmount(t.Context(), "c1", p))
		wantFile(t, source, "")
	}
	p := mountPoint("a/b/file")
	source, err := f.Mount(t.Context(), "c1", p)
	must(t, err)
	wantFile(t, source, "inside")
	must(t, f.sweepRunDir(nil)) // the container has ended while the daemon was away
	f.clean(t, Use{ID: "c1", Points: []MountPoint{p}})
}

// TestManyAtOnce lets containers come and go, sharing one volume.
func TestManyAtOnce(t *testing.T) {
	f := newFixture(t)
	f.layers.addImage(t, "img", func(dir string) { put(t, dir+"/db/file", "x") }, func(string) {})
	image := f.image(t, "img", true)
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			user := fmt.Sprint("c", i)
			points, err := Plan(PlanRequest{
				Config:     &mobycontainer.Config{Volumes: map[string]struct{}{"/db": {}}},
				HostConfig: &mobycontainer.HostConfig{Binds: []string{"shared:/shared"}},
			})
			if err != nil {
				t.Error(err)
				return
			}
			points, err = f.Attach(t.Context(), user, points, image)
			if err != nil {
				t.Error(err)
				return
			}
			for _, p := range points {
				if _, err := f.Mount(t.Context(), user, p); err != nil {
					t.Error(err)
				}
			}
			_, _ = f.Prune(t.Context(), Filters{"all": {"1": true}})
			_ = f.Remove(t.Context(), "shared", false)
			for _, p := range points {
				if _, err := os.Stat(p.Source); err != nil {
					t.Error(err)
				}
				if err := f.Unmount(t.Context(), user, p); err != nil {
					t.Error(err)
				}
			}
			if err := f.Detach(t.Context(), user, points, true); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	_, err := f.Prune(t.Context(), Filters{"all": {"1": true}})
	must(t, err)
	if all, _ := f.List(t.Context(), nil); len(all) != 0 {
		t.Errorf("%d volumes are left", len(all))
	}
	f.clean(t)
}
