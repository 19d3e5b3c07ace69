package container

import (
	"runtime"
	"testing"
	"time"

	"slipway/image"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobynetwork "github.com/moby/moby/api/types/network"
)

func imageOf(cfg mobycontainer.Config) *image.Image {
	return &image.Image{Spec: image.Spec{Config: image.FromContainerConfig(&cfg)}}
}

func TestMergeImage(t *testing.T) {
	base := mobycontainer.Config{
		User: "postgres", Env: []string{"PATH=/bin", "A=image"}, Entrypoint: []string{"entry"}, Cmd: []string{"serve"},
		WorkingDir: "/data", Labels: map[string]string{"a": "image", "b": "image"}, Volumes: map[string]struct{}{"/data": {}},
		StopSignal: "SIGINT",
	}
	for name, tc := range map[string]struct {
		cfg, want mobycontainer.Config
	}{
		"everything from the image": {
			want: mobycontainer.Config{
				User: "postgres", Env: []string{"PATH=/bin", "A=image"}, Entrypoint: []string{"entry"}, Cmd: []string{"serve"}, WorkingDir: "/data",
				Labels: map[string]string{"a": "image", "b": "image"}, Volumes: map[string]struct{}{"/data": {}}, StopSignal: "SIGINT",
			},
		},
		"the request wins": {
			cfg: mobycontainer.Config{
				User: "root", Env: []string{"A=request", "C"}, Cmd: []string{"sh"}, WorkingDir: "/", Labels: map[string]string{"a": "request"},
				Volumes: map[string]struct{}{"/more": {}}, StopSignal: "SIGTERM",
			},
			want: mobycontainer.Config{
				User: "root", Env: []string{"A=request", "C", "PATH=/bin"}, Entrypoint: []string{"entry"}, Cmd: []string{"sh"}, WorkingDir: "/",
				Labels: map[string]string{"a": "request", "b": "image"}, Volumes: map[string]struct{}{"/data": {}, "/more": {}}, StopSignal: "SIGTERM",
			},
		},
		"an entrypoint discards the image's command": {
			cfg:  mobycontainer.Config{Entrypoint: []string{"other"}},
			want: mobycontainer.Config{Entrypoint: []string{"other"}},
		},
		"an empty entrypoint removes the image's": {
			cfg:  mobycontainer.Config{Entrypoint: []string{}, Cmd: []string{"sh"}},
			want: mobycontainer.Config{Entrypoint: []string{}, Cmd: []string{"sh"}},
		},
		"so does one that is one empty word": {
			cfg:  mobycontainer.Config{Entrypoint: []string{""}, Cmd: []string{"sh"}},
			want: mobycontainer.Config{Cmd: []string{"sh"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tc.cfg
			mergeImage(&cfg, imageOf(base))
			if name != "everything from the image" && name != "the request wins" {
				if diff := cmp.Diff([][]string{tc.want.Entrypoint, tc.want.Cmd}, [][]string{cfg.Entrypoint, cfg.Cmd}, cmpopts.EquateEmpty()); diff != "" {
					t.Error(diff)
				}
				return
			}
			if diff := cmp.Diff(tc.want, cfg); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMergeHealth(t *testing.T) {
	base := &mobycontainer.HealthConfig{Test: []string{"CMD", "ask"}, Interval: time.Second, Retries: 2}
	got := mergeHealth(base, &mobycontainer.HealthConfig{Timeout: time.Minute, Retries: 5})
	want := &mobycontainer.HealthConfig{Test: []string{"CMD", "ask"}, Interval: time.Second, Timeout: time.Minute, Retries: 5}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	none := &mobycontainer.HealthConfig{Test: []string{"NONE"}}
	if got := mergeHealth(base, none); got.Test[0] != "NONE" {
		t.Errorf("switched off: %v", got.Test)
	}
}

// knownNetworks has the default one and "a", whose ID begins with "1d".
type knownNetworks struct{ Networks }

func (knownNetworks) Resolve(ref string) (name, driver string, err error) {
	switch ref {
	case "default", "bridge":
		return "bridge", "bridge", nil
	case "a", "1d":
		return "a", "bridge", nil
	}
	return "", "", errdefs.ErrNotFound
}

func (knownNetworks) CheckEndpoint(_ string, settings *mobynetwork.EndpointSettings) error {
	if len(settings.Aliases) > 0 {
		return errdefs.ErrInvalidArgument
	}
	return nil
}

func TestWantedNetworks(t *testing.T) {
	endpoints := func(names ...string) *mobynetwork.NetworkingConfig {
		n := &mobynetwork.NetworkingConfig{EndpointsConfig: map[string]*mobynetwork.EndpointSettings{}}
		for _, name := range names {
			n.EndpointsConfig[name] = &mobynetwork.EndpointSettings{}
		}
		return n
	}
	for name, tc := range map[string]struct {
		networking *mobynetwork.NetworkingConfig
		mode       mobycontainer.NetworkMode
		want       []string
		refused    bool
	}{
		"default":                  {nil, "bridge", []string{"bridge"}, false},
		"the default by its alias": {endpoints("default"), "bridge", []string{"bridge"}, false},
		"several":                  {endpoints("b", "a"), "a", []string{"a", "b"}, false},
		"host":                     {nil, "host", []string{"host"}, false},
		"none and another":         {endpoints("a"), "none", nil, true},
		"named by its ID":          {endpoints("1d"), "1d", []string{"a"}, false},
		"the mode by its ID":       {nil, "1d", []string{"a"}, false},
		"not the mode's":           {endpoints("b"), "a", []string{"b"}, false},
		"one that is refused": {&mobynetwork.NetworkingConfig{EndpointsConfig: map[string]*mobynetwork.EndpointSettings{
			"a": {Aliases: []string{"x"}},
		}}, "a", nil, true},
		"host and another":          {endpoints("a"), "host", nil, true},
		"another container's":       {nil, "container:x", nil, true},
		"the mode alone, user made": {nil, "a", []string{"a"}, false},
	} {
		if tc.mode == "host" && runtime.GOOS == "windows" {
			continue // a name like others there
		}
		t.Run(name, func(t *testing.T) {
			m := &Manager{cfg: Config{Networks: knownNetworks{}}}
			got, err := m.wantedNetworks(tc.networking, &mobycontainer.HostConfig{NetworkMode: tc.mode})
			if (err != nil) != tc.refused {
				t.Fatalf("err = %v", err)
			}
			if diff := cmp.Diff(tc.want, networkOrder(&Record{Networks: got}), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLogDefaults: the daemon's options are for its driver, named or not.
func TestLogDefaults(t *testing.T) {
	m := &Manager{cfg: Config{Defaults: Defaults{LogDriver: "json-file", LogOptions: map[string]string{"max-size": "1m", "max-file": "2"}}}}
	for name, tc := range map[string]struct{ given, want mobycontainer.LogConfig }{
		"no driver": {mobycontainer.LogConfig{}, mobycontainer.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "2"}}},
		"the same": {
			mobycontainer.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "5m"}},
			mobycontainer.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "5m", "max-file": "2"}},
		},
		"another": {mobycontainer.LogConfig{Type: "none"}, mobycontainer.LogConfig{Type: "none", Config: map[string]string{}}},
	} {
		host := &mobycontainer.HostConfig{LogConfig: tc.given}
		m.setDefaults(host)
		if diff := cmp.Diff(tc.want, host.LogConfig); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"web": true, "/web": true, "a.b-c_d9": true, "x": false, "-web": false, "we b": false, "a/b": false, "": false, "ü1": false, "web\n": false,
	} {
		if _, err := checkName(name); (err == nil) != ok {
			t.Errorf("checkName(%q) = %v", name, err)
		} else if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("checkName(%q): class of %v", name, err)
		}
	}
	for range 100 {
		if _, err := checkName(makeName()); err != nil {
			t.Error(err)
		}
	}
}

func TestCommitConfig(t *testing.T) {
	r := &Record{ID: "0123456789abcdef", Config: &mobycontainer.Config{
		Hostname: "0123456789ab", Env: []string{"A=1", "B=2"}, Cmd: []string{"serve"}, Labels: map[string]string{"l": "1"},
	}}
	cfg, err := commitConfig(r, CommitOptions{
		Config:  &mobycontainer.Config{Env: []string{"B=3"}, Cmd: []string{"other"}},
		Changes: []string{"LABEL m=2", "WORKDIR /w"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := cfg.ContainerConfig()
	workdir := "/w"
	if runtime.GOOS == "windows" {
		workdir = `C:\w`
	}
	want := &mobycontainer.Config{
		Env: []string{"B=3", "A=1"}, Cmd: []string{"other"}, Labels: map[string]string{"l": "1", "m": "2"}, WorkingDir: workdir,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if _, err := commitConfig(r, CommitOptions{Changes: []string{"RUN rm -rf /"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a change that is none: %v", err)
	}
}
