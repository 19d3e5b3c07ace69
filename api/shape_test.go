package api_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyimage "github.com/moby/moby/api/types/image"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/storage"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// at returns what a path of fields leads to, and whether it is there.
func at(doc any, path ...string) (any, bool) {
	for _, field := range path {
		if list, ok := doc.([]any); ok && len(list) > 0 {
			doc = list[0]
		}
		o, ok := doc.(map[string]any)
		if !ok {
			return nil, false
		}
		if doc, ok = o[field]; !ok {
			return nil, false
		}
	}
	return doc, true
}

const (
	gone = "\x00gone" // the field must not be there
	some = "\x00some" // it must be there, whatever it is
)

type field struct {
	path []string
	// by version: what clients of it see
	want map[string]any
}

func checkFields(t *testing.T, e *engine, endpoint string, fields []field) {
	t.Helper()
	for _, f := range fields {
		for version, want := range f.want {
			got := e.do("GET", "/v"+version+endpoint, "")
			var doc any
			if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
				t.Fatalf("%s in %s: %d %s", endpoint, version, got.status, got.body)
			}
			value, ok := at(doc, f.path...)
			switch {
			case want == gone && ok:
				t.Errorf("%s: %v is there: %v", version, f.path, value)
			case want == gone:
			case !ok:
				t.Errorf("%s: %v is missing", version, f.path)
			case want != some && cmp.Diff(want, value) != "":
				t.Errorf("%s: %v is %v, want %v", version, f.path, value, want)
			}
		}
	}
}

func TestContainerShapes(t *testing.T) {
	e := newEngine(t)
	networks := func() map[string]*mobynetwork.EndpointSettings {
		return map[string]*mobynetwork.EndpointSettings{
			"bridge": {IPAddress: netip.MustParseAddr("172.17.0.2"), IPPrefixLen: 16, MacAddress: mobynetwork.HardwareAddr{2, 66, 172, 17, 0, 2}, DNSNames: []string{"web"}},
			"mine":   {Aliases: []string{"db"}, GwPriority: 3},
		}
	}
	descriptor := &ocispec.Descriptor{Size: 9007199254740993}
	e.containers.Inspected = mobycontainer.InspectResponse{
		ID: "4c01db0b339c2a1b0c", Driver: "overlayfs", Config: &mobycontainer.Config{Hostname: "host"},
		Storage:         &storage.Storage{},
		NetworkSettings: &mobycontainer.NetworkSettings{Networks: networks()}, ImageManifestDescriptor: descriptor,
	}
	checkFields(t, e, "/containers/web/json", []field{
		{[]string{"NetworkSettings", "IPAddress"}, map[string]any{"1.41": "172.17.0.2", "1.50": "172.17.0.2", "1.51": "172.17.0.2", "1.52": gone, "1.56": gone}},
		{[]string{"NetworkSettings", "MacAddress"}, map[string]any{"1.41": "02:42:ac:11:00:02", "1.56": gone}},
		{[]string{"NetworkSettings", "Bridge"}, map[string]any{"1.41": "", "1.50": "", "1.52": gone}},
		{[]string{"NetworkSettings", "Networks", "mine", "Aliases"}, map[string]any{
			"1.41": []any{"db", "4c01db0b339c", "host"}, "1.44": []any{"db", "4c01db0b339c", "host"}, "1.45": []any{"db"},
		}},
		{[]string{"NetworkSettings", "Networks", "mine", "GwPriority"}, map[string]any{"1.47": gone, "1.48": 3.0}},
		{[]string{"NetworkSettings", "Networks", "bridge", "DNSNames"}, map[string]any{"1.43": gone, "1.44": []any{"web"}}},
		{[]string{"NetworkSettings", "Networks", "bridge", "Aliases"}, map[string]any{"1.41": nil}},
		{[]string{"GraphDriver", "Name"}, map[string]any{"1.41": "overlayfs", "1.51": "overlayfs", "1.52": gone}},
		{[]string{"Storage"}, map[string]any{"1.51": gone, "1.52": some}},
		{[]string{"Config", "OnBuild"}, map[string]any{"1.51": nil, "1.52": gone}},
		{[]string{"ImageManifestDescriptor"}, map[string]any{"1.47": gone, "1.48": some}},
	})

	e.containers.Listed = []mobycontainer.Summary{{
		ID: "x", Health: &mobycontainer.HealthSummary{}, ImageManifestDescriptor: descriptor, Created: 9007199254740993,
		NetworkSettings: &mobycontainer.NetworkSettingsSummary{Networks: networks()},
	}}
	e.containers.Listed[0].HostConfig.Annotations = map[string]string{"a": "b"}
	checkFields(t, e, "/containers/json", []field{
		{[]string{"Health"}, map[string]any{"1.51": gone, "1.52": some}},
		{[]string{"HostConfig", "Annotations"}, map[string]any{"1.45": gone, "1.46": some}},
		{[]string{"ImageManifestDescriptor"}, map[string]any{"1.47": gone, "1.48": some}},
		{[]string{"NetworkSettings", "Networks", "mine", "GwPriority"}, map[string]any{"1.41": gone, "1.50": some}},
	})
	// Shaping must not round numbers.
	list, err := e.client("1.41").ContainerList(t.Context(), client.ContainerListOptions{})
	if err != nil || list.Items[0].Created != 9007199254740993 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestImageShapes(t *testing.T) {
	e := newEngine(t)
	e.images.Inspected = mobyimage.InspectResponse{
		ID: "sha256:x", Size: 5, Config: &dockerspec.DockerOCIImageConfig{}, Descriptor: &ocispec.Descriptor{}, Identity: &mobyimage.Identity{},
	}
	checkFields(t, e, "/images/a/json", []field{
		{[]string{"VirtualSize"}, map[string]any{"1.41": 5.0, "1.43": 5.0, "1.44": gone}},
		{[]string{"Created"}, map[string]any{"1.41": "0001-01-01T00:00:00Z", "1.44": gone}},
		{[]string{"ContainerConfig"}, map[string]any{"1.41": nil, "1.44": nil, "1.45": gone}},
		{[]string{"Container"}, map[string]any{"1.41": "", "1.45": gone}},
		{[]string{"Descriptor"}, map[string]any{"1.47": gone, "1.48": some}},
		{[]string{"Config", "Tty"}, map[string]any{"1.41": false, "1.49": false, "1.50": gone}},
		{[]string{"Config", "Cmd"}, map[string]any{"1.41": nil, "1.51": nil, "1.52": gone}},
		{[]string{"Parent"}, map[string]any{"1.50": "", "1.52": gone}},
		{[]string{"GraphDriver", "Name"}, map[string]any{"1.50": "overlayfs", "1.52": gone}},
		{[]string{"Identity"}, map[string]any{"1.52": gone, "1.53": some}},
		{[]string{"RepoTags"}, map[string]any{"1.41": []any{}, "1.56": []any{}}},
	})
	e.images.Listed = []mobyimage.Summary{{Size: 5, Containers: 2, Descriptor: &ocispec.Descriptor{}}}
	checkFields(t, e, "/images/json", []field{
		{[]string{"VirtualSize"}, map[string]any{"1.43": 5.0, "1.44": gone}},
		{[]string{"RepoTags"}, map[string]any{"1.42": []any{"<none>:<none>"}, "1.43": []any{}, "1.56": []any{}}},
		{[]string{"Containers"}, map[string]any{"1.50": -1.0, "1.51": 2.0}},
		{[]string{"Descriptor"}, map[string]any{"1.41": gone, "1.50": some}},
	})
}

func TestOtherShapes(t *testing.T) {
	e := newEngine(t)
	checkFields(t, e, "/networks/n", []field{{[]string{"EnableIPv4"}, map[string]any{"1.47": gone, "1.48": true}}})
	e.system.Inspected = system.Info{
		RuncCommit: system.Commit{ID: "r1"}, RegistryConfig: &registry.ServiceConfig{},
		Containerd: &system.ContainerdInfo{}, FirewallBackend: &system.FirewallInfo{}, NRI: &system.NRIInfo{},
		Runtimes: map[string]system.RuntimeWithStatus{"runc": {Status: map[string]string{"a": "b"}}},
	}
	checkFields(t, e, "/info", []field{
		{[]string{"BridgeNfIptables"}, map[string]any{"1.49": false, "1.50": gone}},
		{[]string{"RuncCommit", "Expected"}, map[string]any{"1.41": "r1", "1.49": gone}},
		{[]string{"FirewallBackend"}, map[string]any{"1.48": gone, "1.49": some}},
		{[]string{"Containerd"}, map[string]any{"1.45": gone, "1.46": some}},
		{[]string{"NRI"}, map[string]any{"1.52": gone, "1.53": some}},
		{[]string{"Runtimes", "runc", "status"}, map[string]any{"1.43": gone, "1.44": some}},
	})
	e.system.Usage = system.DiskUsage{
		ImageUsage:     &mobyimage.DiskUsage{TotalSize: 7, Items: []mobyimage.Summary{{Size: 5, Containers: 2}}},
		ContainerUsage: &mobycontainer.DiskUsage{},
	}
	checkFields(t, e, "/system/df", []field{
		{[]string{"LayersSize"}, map[string]any{"1.41": 7.0, "1.50": 7.0, "1.52": 7.0}},
		{[]string{"Images", "VirtualSize"}, map[string]any{"1.43": 5.0, "1.44": gone}},
		{[]string{"Images", "Containers"}, map[string]any{"1.41": 2.0, "1.56": 2.0}},
		{[]string{"ImageUsage", "Items"}, map[string]any{"1.52": gone}},
		{[]string{"Containers"}, map[string]any{"1.41": []any{}}},
		{[]string{"Volumes"}, map[string]any{"1.41": gone}},
		{[]string{"ImageUsage", "TotalSize"}, map[string]any{"1.50": gone, "1.52": 7.0}},
	})
	checkFields(t, e, "/system/df?verbose=1", []field{{[]string{"LayersSize"}, map[string]any{"1.56": gone}}})
	usage, err := e.client("").DiskUsage(t.Context(), client.DiskUsageOptions{Verbose: true})
	if err != nil || usage.Images.TotalSize != 7 || len(usage.Images.Items) != 1 {
		t.Errorf("%+v, %v", usage, err)
	}
}
