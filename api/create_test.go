package api_test

import (
	"net/http"
	"strings"
	"testing"

	"slipway/container"

	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestCreateWithClient(t *testing.T) {
	e := newEngine(t)
	for _, version := range []string{"", "1.41", "1.50"} {
		_, err := e.client(version).ContainerCreate(t.Context(), client.ContainerCreateOptions{
			Name:       "web",
			Config:     &mobycontainer.Config{Image: "postgres:17", Env: []string{"A=b"}},
			HostConfig: &mobycontainer.HostConfig{Binds: []string{"v:/data"}, Resources: mobycontainer.Resources{Memory: 1 << 30}},
			Platform:   &ocispec.Platform{OS: "linux", Architecture: "amd64"},
		})
		if err != nil {
			t.Fatal(err)
		}
		req := e.containers.Last().(container.CreateRequest)
		if req.Name != "web" || req.Config.Image != "postgres:17" || req.HostConfig.Memory != 1<<30 || req.HostConfig.NetworkMode != defaultNetwork ||
			req.Platform == nil || req.Platform.Architecture != "amd64" {
			t.Errorf("version %q: %+v", version, req)
		}
	}
}

func TestCreateOfOlderVersions(t *testing.T) {
	e := newEngine(t)
	last := func() container.CreateRequest { return e.containers.Last().(container.CreateRequest) }
	for _, tt := range []struct {
		name, version, body string
		check               func(container.CreateRequest) bool
		warning             string
	}{
		{"default network", "1.56", `{"Image":"a","HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["x"]}}}}`, func(r container.CreateRequest) bool {
			return r.HostConfig.NetworkMode == defaultNetwork && r.NetworkingConfig.EndpointsConfig[defaultNetwork].Aliases[0] == "x"
		}, ""},
		{"MAC address", "1.43", `{"Image":"a","MacAddress":"02:42:ac:11:00:02"}`, func(r container.CreateRequest) bool {
			return r.NetworkingConfig.EndpointsConfig[defaultNetwork].MacAddress.String() == "02:42:ac:11:00:02"
		}, "The container-wide MacAddress field is now deprecated"},
		{"MAC address of now", "1.56", `{"Image":"a","MacAddress":"02:42:ac:11:00:02"}`, func(r container.CreateRequest) bool {
			return len(r.NetworkingConfig.EndpointsConfig) == 0
		}, ""},
		{"read-only bind", "1.43", `{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}]}}`, func(r container.CreateRequest) bool {
			return r.HostConfig.Mounts[0].BindOptions.ReadOnlyNonRecursive
		}, ""},
		{"read-only bind of now", "1.44", `{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}]}}`, func(r container.CreateRequest) bool {
			return r.HostConfig.Mounts[0].BindOptions == nil
		}, ""},
		{"wrong mount options", "1.41", `{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","VolumeOptions":{}}]}}`, func(r container.CreateRequest) bool {
			return r.HostConfig.Mounts[0].VolumeOptions == nil && r.HostConfig.Mounts[0].Type == mount.TypeBind
		}, ""},
		{"console size", "1.41", `{"Image":"a","HostConfig":{"ConsoleSize":[1,2]}}`, func(r container.CreateRequest) bool { return r.HostConfig.ConsoleSize == [2]uint{} }, ""},
		{"console size of now", "1.42", `{"Image":"a","HostConfig":{"ConsoleSize":[1,2]}}`, func(r container.CreateRequest) bool { return r.HostConfig.ConsoleSize == [2]uint{1, 2} }, ""},
		{"null bindings", "1.56", `{"Image":"a","HostConfig":{"PortBindings":{"80/tcp":null}}}`, func(r container.CreateRequest) bool {
			return len(r.HostConfig.PortBindings[mobynetwork.MustParsePort("80/tcp")]) == 1
		}, "Following container port(s) have an empty list of port-bindings: 80/tcp."},
		{"unknown fields", "1.56", `{"Image":"a","Nope":1,"HostConfig":{"AlsoNope":{}}}`, func(container.CreateRequest) bool { return true }, ""},
		{"null parts", "1.40", `{"Image":"a","HostConfig":null,"NetworkingConfig":{"EndpointsConfig":{"x":null}}}`, func(r container.CreateRequest) bool {
			return r.NetworkingConfig.EndpointsConfig["x"] != nil
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := e.do("POST", "/v"+tt.version+"/containers/create", tt.body)
			if got.status != http.StatusCreated {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if !tt.check(last()) {
				t.Errorf("the backend got %+v %+v", last().HostConfig, last().NetworkingConfig.EndpointsConfig)
			}
			if !strings.Contains(got.body, tt.warning) || tt.warning == "" && !strings.Contains(got.body, `"Warnings":[]`) {
				t.Errorf("answer %s, want the warning %q", got.body, tt.warning)
			}
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	e := newEngine(t)
	for _, tt := range []struct{ version, body, want string }{
		{"1.56", ``, "invalid JSON: got EOF while reading request body"},
		{"1.56", `null`, "config cannot be empty in order to create a container"},
		{"1.56", `{}`, "config cannot be empty in order to create a container"},
		{"1.56", `{"Image":"a"}{}`, "unexpected content after JSON"},
		{"1.56", `{"Image":"a","HostConfig":{"Memory":"1g"}}`, "invalid JSON: json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Resources.Memory of type int64"},
		{"1.56", `{"Image":"a","HostConfig":{"Memory":1e99}}`, "invalid JSON: json: cannot unmarshal number 1e99 into Go struct field HostConfig.HostConfig.Resources.Memory of type int64"},
		{"1.56", `{"Image":"a","HostConfig":{"Ulimits":[null]}}`, "invalid JSON: Ulimits contains null"},
		{"1.56", `{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","VolumeOptions":{}}]}}`, `VolumeOptions must not be specified on mount type \"bind\"`},
		{"1.44", `{"Image":"a","HostConfig":{"Mounts":[{"Type":"volume","VolumeOptions":{"Subpath":"x"}}]}}`, "VolumeOptions.Subpath needs API v1.45 or newer"},
		{"1.47", `{"Image":"a","HostConfig":{"Mounts":[{"Type":"image"}]}}`, `Mount type \"Image\" needs API v1.48 or newer`},
		{"1.43", `{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"b":{},"a":{}}}}`, "Container cannot be created with multiple network endpoints: a, b"},
		{"1.40", `{"Image":"a","HostConfig":{"Capabilities":["x"]}}`, "the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop to set capabilities"},
		{"1.51", `{"Image":"a","MacAddress":"02:42:ac:11:00:02","NetworkingConfig":{"EndpointsConfig":{"` + defaultNetwork + `":{"MacAddress":"02:42:ac:11:00:03"}}}}`, "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"},
	} {
		got := e.do("POST", "/v"+tt.version+"/containers/create", tt.body)
		if got.status != http.StatusBadRequest || got.body != message(tt.want) {
			t.Errorf("%s: %d %s", tt.body, got.status, got.body)
		}
	}
	if e.containers.Last() != nil {
		t.Errorf("a request that was refused reached the backend: %+v", e.containers.Last())
	}
}
