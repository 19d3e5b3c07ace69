package volume

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"
)

func planOf(cfg mobycontainer.Config, host mobycontainer.HostConfig) ([]MountPoint, error) {
	return Plan(PlanRequest{
		Config: &cfg, HostConfig: &host, DataRoot: "/var/lib/slipway",
		Exists: func(path string) (bool, error) { return !strings.Contains(path, "missing"), nil },
		From: func(ref string) ([]MountPoint, error) {
			if ref != "other" {
				return nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
			}
			return []MountPoint{
				{Type: "volume", Name: "v1", Source: "/volumes/v1/_data", Destination: "/shared", RW: true, CopyData: true, Mode: "z"},
				{Type: "bind", Source: "/host", Destination: "/bound", RW: true, Propagation: "rprivate"},
			}, nil
		},
	})
}

// line is a mount in one line: type, source or name, target, rw or ro, and what
// else is set.
func line(p MountPoint) string {
	words := []string{string(p.Type), p.Name + p.Source, p.Destination, "ro"}
	if p.RW {
		words[3] = "rw"
	}
	for word, is := range map[string]bool{"copy": p.CopyData} {
		if is {
			words = append(words, word)
		}
	}
	if p.CreateSource {
		words = append(words, "create")
	}
	if p.Mode != "" {
		words = append(words, "mode="+p.Mode)
	}
	return strings.Join(append(words, string(p.Propagation)), " ")
}

func TestPlan(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  mobycontainer.Config
		host mobycontainer.HostConfig
		want []string
	}{
		"binds": {
			host: mobycontainer.HostConfig{Binds: []string{"/a:/x:ro,z", "/b:/y/z:rshared", "name:/y", "/anonymous", "other:/n:nocopy"}},
			want: []string{
				"volume  /anonymous rw copy mode=z ", "volume other /n rw mode=nocopy ", "bind /a /x ro create mode=ro,z rprivate",
				"volume name /y rw copy mode=z ", "bind /b /y/z rw create mode=rshared rshared",
			},
		},
		"mounts": {
			host: mobycontainer.HostConfig{Mounts: []mobymount.Mount{
				{Type: "bind", Source: "/a/", Target: "/x/"},
				{Type: "bind", Source: "/missing", Target: "/c", BindOptions: &mobymount.BindOptions{CreateMountpoint: true, Propagation: "slave"}},
				{Type: "volume", Target: "/v", ReadOnly: true, VolumeOptions: &mobymount.VolumeOptions{NoCopy: true}},
				{Type: "tmpfs", Target: "/t"},
			}},
			want: []string{"bind /missing /c rw create slave", "tmpfs  /t rw ", "volume  /v ro mode=z ", "bind /a /x rw rprivate"},
		},
		"the engine's own root": {
			host: mobycontainer.HostConfig{Binds: []string{"/:/host", "/var/lib/slipway/x:/y:rslave", "/var/lib/slipway2:/z"}},
			want: []string{"bind / /host rw create rslave", "bind /var/lib/slipway/x /y rw create mode=rslave rslave", "bind /var/lib/slipway2 /z rw create rprivate"},
		},
		"declared volumes give way": {
			cfg:  mobycontainer.Config{Volumes: map[string]struct{}{"/a/": {}, "/b": {}, "/c": {}, "/shared": {}}},
			host: mobycontainer.HostConfig{Binds: []string{"/h:/a"}, Tmpfs: map[string]string{"/c/": ""}, VolumesFrom: []string{"other"}},
			want: []string{"bind /h /a rw create rprivate", "volume  /b rw copy ", "bind /host /bound rw rprivate", "volume v1/volumes/v1/_data /shared rw "},
		},
		"volumes from another, read-only, and overridden": {
			host: mobycontainer.HostConfig{VolumesFrom: []string{"other:ro"}, Binds: []string{"/h:/bound"}},
			want: []string{"bind /h /bound rw create rprivate", "volume v1/volumes/v1/_data /shared ro "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			points, err := planOf(tc.cfg, tc.host)
			if err != nil {
				t.Fatal(err)
			}
			got := []string{}
			for _, p := range points {
				got = append(got, line(p))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	bind := func(b ...string) mobycontainer.HostConfig { return mobycontainer.HostConfig{Binds: b} }
	mounts := func(m ...mobymount.Mount) mobycontainer.HostConfig { return mobycontainer.HostConfig{Mounts: m} }
	options := func(o mobymount.BindOptions, readOnly bool) mobycontainer.HostConfig {
		return mounts(mobymount.Mount{Type: "bind", Source: "/a", Target: "/x", ReadOnly: readOnly, BindOptions: &o})
	}
	for _, tc := range []struct {
		want string
		host mobycontainer.HostConfig
	}{
		{"invalid volume specification: ''", bind("")},
		{"invalid volume specification: ':/x'", bind(":/x")},
		{"invalid volume specification: '/x:ro'", bind("/x:ro")},
		{"invalid volume specification: '/a:/b:ro:x'", bind("/a:/b:ro:x")},
		{`invalid volume specification: '/a:/': invalid mount config for type "bind": invalid specification: destination can't be '/'`, bind("/a:/")},
		{`invalid volume specification: '/a:x': invalid mount config for type "bind": invalid mount path: 'x' mount path must be absolute`, bind("/a:x")},
		{"invalid mode: rx", bind("/a:/b:rx")},
		{"invalid mode: ro,rw", bind("/a:/b:ro,rw")},
		{"Duplicate mount point: /x", bind("/a:/x", "/b:/x/")},
		{"Duplicate mount point: /x", mobycontainer.HostConfig{Binds: []string{"/a:/x"}, Tmpfs: map[string]string{"/x": ""}}},
		{"Duplicate mount point: /x", mobycontainer.HostConfig{Binds: []string{"/a:/x"}, Mounts: []mobymount.Mount{{Type: "tmpfs", Target: "/x"}}}},
		{`invalid mount config for type "bind": bind source path does not exist: /missing`, mounts(mobymount.Mount{Type: "bind", Source: "/missing", Target: "/x"})},
		{`invalid mount config for type "bind": field Source must not be empty`, mounts(mobymount.Mount{Type: "bind", Target: "/x"})},
		{`invalid mount config for type "bind": field Target must not be empty`, mounts(mobymount.Mount{Type: "bind", Source: "/x"})},
		{`invalid mount config for type "bind": invalid mount path: 'a' mount path must be absolute`, mounts(mobymount.Mount{Type: "bind", Source: "a", Target: "/x"})},
		{`invalid mount config for type "bind": field VolumeOptions must not be specified`, mounts(mobymount.Mount{Type: "bind", Source: "/a", Target: "/x", VolumeOptions: &mobymount.VolumeOptions{}})},
		{`invalid mount config for type "bind": invalid propagation mode: x`, options(mobymount.BindOptions{Propagation: "x"}, false)},
		{"mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive", options(mobymount.BindOptions{ReadOnlyNonRecursive: true}, false)},
		{"mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive", options(mobymount.BindOptions{ReadOnlyForceRecursive: true}, false)},
		{"mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive", options(mobymount.BindOptions{ReadOnlyForceRecursive: true, ReadOnlyNonRecursive: true}, true)},
		{`invalid mount config for type "volume": must not set Subpath when using anonymous volumes`, mounts(mobymount.Mount{Type: "volume", Target: "/x", VolumeOptions: &mobymount.VolumeOptions{Subpath: "a"}})},
		{`invalid mount config for type "volume": subpath must be a relative path within the volume`, mounts(mobymount.Mount{Type: "volume", Source: "v", Target: "/x", VolumeOptions: &mobymount.VolumeOptions{Subpath: "../a"}})},
		{`invalid mount config for type "tmpfs": field Source must not be specified`, mounts(mobymount.Mount{Type: "tmpfs", Source: "v", Target: "/x"})},
		{`invalid mount config for type "tmpfs": invalid option: size`, mounts(mobymount.Mount{Type: "tmpfs", Target: "/x", TmpfsOptions: &mobymount.TmpfsOptions{Options: [][]string{{"size", "1"}}}})},
		{`invalid mount config for type "image": mounts of type image are not supported yet`, mounts(mobymount.Mount{Type: "image", Source: "v", Target: "/x"})},
		{`invalid mount config for type "npipe": mount type unknown`, mounts(mobymount.Mount{Type: "npipe", Source: "v", Target: "/x"})},
		{`must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root`, bind("/var/lib/slipway/pool:/x:private")},
		{"volumes-from specification cannot be an empty string", mobycontainer.HostConfig{VolumesFrom: []string{""}}},
		{"invalid mode: rshared", mobycontainer.HostConfig{VolumesFrom: []string{"other:rshared"}}},
		{"invalid mode: nocopy", mobycontainer.HostConfig{VolumesFrom: []string{"other:nocopy"}}},
	} {
		if _, err := planOf(mobycontainer.Config{}, tc.host); err == nil || !strings.Contains(err.Error(), tc.want) || !errdefs.IsInvalidArgument(err) {
			t.Errorf("error %v, want %s", err, tc.want)
		}
	}
	if _, err := planOf(mobycontainer.Config{}, mobycontainer.HostConfig{VolumesFrom: []string{"nobody"}}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a missing container: %v", err)
	}
	for _, target := range []string{"relative", "/", "/a/.."} {
		if _, err := planOf(mobycontainer.Config{Volumes: map[string]struct{}{target: {}}}, mobycontainer.HostConfig{}); err == nil {
			t.Errorf("a declared volume at %q is accepted", target)
		}
	}
}

func TestOCI(t *testing.T) {
	rro := "ro"
	if recursiveReadonly() {
		rro = "rro"
	}
	for name, tc := range map[string]struct {
		host mobycontainer.HostConfig
		want string
	}{
		"bind":           {mobycontainer.HostConfig{Binds: []string{"/a:/x"}}, "bind /src rbind,rprivate"},
		"read-only bind": {mobycontainer.HostConfig{Binds: []string{"/a:/x:ro"}}, "bind /src rbind," + rro + ",rprivate"},
		"volume":         {mobycontainer.HostConfig{Binds: []string{"v:/x"}}, "bind /src rbind,rprivate"},
		"propagation":    {mobycontainer.HostConfig{Binds: []string{"/a:/x:rslave"}}, "bind /src rbind,rslave"},
		"only the mount": {
			mobycontainer.HostConfig{Mounts: []mobymount.Mount{{Type: "bind", Source: "/a", Target: "/x", ReadOnly: true, BindOptions: &mobymount.BindOptions{NonRecursive: true, ReadOnlyNonRecursive: true}}}},
			"bind /src bind,ro,rprivate",
		},
		"tmpfs": {
			mobycontainer.HostConfig{Mounts: []mobymount.Mount{{Type: "tmpfs", Target: "/x", ReadOnly: true, TmpfsOptions: &mobymount.TmpfsOptions{SizeBytes: 3 << 20, Mode: 0o1770, Options: [][]string{{"exec"}}}}}},
			"tmpfs tmpfs ro,mode=1770,size=3m,exec",
		},
	} {
		points, err := planOf(mobycontainer.Config{}, tc.host)
		if err != nil {
			t.Fatal(err)
		}
		m, err := points[0].OCI("/src")
		if got := strings.Join([]string{m.Type, m.Source, strings.Join(m.Options, ",")}, " "); err != nil || got != tc.want || m.Destination != "/x" {
			t.Errorf("%s: %s, %v; want %s", name, got, err, tc.want)
		}
	}
}

// mountFields says what becomes of every field of a mount request.
var mountFields = map[string]string{
	"Mount.Type": "planned", "Mount.Source": "planned", "Mount.Target": "planned", "Mount.ReadOnly": "planned",
	"Mount.Consistency": "for other systems' file sharing; without effect on Linux, as in Docker",
	"Mount.BindOptions": "below", "Mount.VolumeOptions": "below", "Mount.TmpfsOptions": "below",
	"Mount.ImageOptions": "refused with its type", "Mount.ClusterOptions": "refused with its type",
	"BindOptions.Propagation": "planned", "BindOptions.NonRecursive": "in the OCI mount", "BindOptions.CreateMountpoint": "planned",
	"BindOptions.ReadOnlyNonRecursive": "in the OCI mount", "BindOptions.ReadOnlyForceRecursive": "in the OCI mount",
	"VolumeOptions.NoCopy": "planned", "VolumeOptions.Labels": "the new volume's", "VolumeOptions.Subpath": "by Mount",
	"VolumeOptions.DriverConfig": "the new volume's",
	"TmpfsOptions.SizeBytes":     "in the OCI mount", "TmpfsOptions.Mode": "in the OCI mount", "TmpfsOptions.Options": "in the OCI mount",
}

func TestEveryMountFieldIsTreated(t *testing.T) {
	known := 0
	for _, of := range []reflect.Type{
		reflect.TypeFor[mobymount.Mount](), reflect.TypeFor[mobymount.BindOptions](),
		reflect.TypeFor[mobymount.VolumeOptions](), reflect.TypeFor[mobymount.TmpfsOptions](),
	} {
		for field := range of.Fields() {
			if mountFields[of.Name()+"."+field.Name] == "" {
				t.Errorf("%s.%s is new: honour or refuse it, and say so in the table", of, field.Name)
			}
			known++
		}
	}
	if known != len(mountFields) {
		t.Errorf("%d fields, but %d in the table", known, len(mountFields))
	}
}

func FuzzParseBind(f *testing.F) {
	for _, seed := range []string{"/a:/b", "v:/b:ro,z", "/x", ":", "a:b:c:d", "/a:/b:", "::", "/a:/b:ro,ro"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		points, err := planOf(mobycontainer.Config{}, mobycontainer.HostConfig{Binds: []string{raw}})
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: class of %v", raw, err)
			}
			return
		}
		if p := points[0]; !strings.HasPrefix(p.Destination, "/") || p.Destination == "/" || p.Type == mobymount.TypeBind && !strings.HasPrefix(p.Source, "/") {
			t.Errorf("%q: %+v", raw, p)
		}
	})
}
