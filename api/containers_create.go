package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"slipway/container"

	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	mobynetwork "github.com/moby/moby/api/types/network"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// legacyCreate holds fields of old versions that the API's types have no more.
type legacyCreate struct {
	MacAddress mobynetwork.HardwareAddr
	HostConfig struct {
		Capabilities []string
		KernelMemory int64
	}
}

// createContainer decodes a container's configuration. Unknown fields are
// ignored, as with Docker; known ones that the engine cannot honour are refused
// by the backend.
func (s *Server) createContainer(ctx context.Context, w *response, r *request) error {
	req, legacy, err := readCreate(w, r)
	if err != nil {
		return err
	}
	platform, err := createPlatform(r)
	if err != nil {
		return err
	}
	warnings, err := adaptCreate(req, legacy, r.version)
	if err != nil {
		return err
	}
	resp, err := s.cfg.Containers.Create(ctx, container.CreateRequest{
		Name:             r.query.get("name"),
		Config:           req.Config,
		HostConfig:       req.HostConfig,
		NetworkingConfig: req.NetworkingConfig,
		Platform:         platform,
	})
	if err != nil {
		return err
	}
	resp.Warnings = append(notNil(resp.Warnings), warnings...)
	return writeJSON(w, http.StatusCreated, resp)
}

// readCreate decodes the body; what it returns has no nil in it that the backend
// would have to look out for.
func readCreate(w http.ResponseWriter, r *request) (*mobycontainer.CreateRequest, legacyCreate, error) {
	var (
		req    mobycontainer.CreateRequest
		legacy legacyCreate
	)
	if err := checkJSON(r.Request); err != nil {
		return nil, legacy, err
	}
	var body bytes.Buffer
	if err := decodeJSON(io.TeeReader(http.MaxBytesReader(w, r.Body, maxBody), &body), &req); err != nil {
		return nil, legacy, err
	}
	if req.Config == nil {
		return nil, legacy, invalidf("config cannot be empty in order to create a container")
	}
	if r.version.before(52) {
		if err := json.Unmarshal(body.Bytes(), &legacy); err != nil {
			return nil, legacy, jsonError(err)
		}
	}
	if req.HostConfig == nil {
		req.HostConfig = &mobycontainer.HostConfig{}
	}
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &mobynetwork.NetworkingConfig{}
	}
	if req.NetworkingConfig.EndpointsConfig == nil {
		req.NetworkingConfig.EndpointsConfig = map[string]*mobynetwork.EndpointSettings{}
	}
	for name, endpoint := range req.NetworkingConfig.EndpointsConfig {
		if endpoint == nil {
			req.NetworkingConfig.EndpointsConfig[name] = &mobynetwork.EndpointSettings{}
		}
	}
	return &req, legacy, checkNulls(req.HostConfig.Resources)
}

// checkNulls refuses null in lists of objects.
func checkNulls(res mobycontainer.Resources) error {
	for _, list := range []struct {
		name string
		null bool
	}{
		{"BlkioWeightDevice", slices.Contains(res.BlkioWeightDevice, nil)},
		{"BlkioDeviceReadBps", slices.Contains(res.BlkioDeviceReadBps, nil)},
		{"BlkioDeviceWriteBps", slices.Contains(res.BlkioDeviceWriteBps, nil)},
		{"BlkioDeviceReadIOps", slices.Contains(res.BlkioDeviceReadIOps, nil)},
		{"BlkioDeviceWriteIOps", slices.Contains(res.BlkioDeviceWriteIOps, nil)},
		{"Ulimits", slices.Contains(res.Ulimits, nil)},
	} {
		if list.null {
			return invalidf("invalid JSON: %s contains null", list.name)
		}
	}
	return nil
}

// adaptCreate makes a request of an older version mean what it meant there. It
// returns warnings for the client.
func adaptCreate(req *mobycontainer.CreateRequest, legacy legacyCreate, v Version) ([]string, error) {
	host := req.HostConfig
	defaultNetwork(host, req.NetworkingConfig)
	if err := checkMounts(host.Mounts, v); err != nil {
		return nil, err
	}
	if v.before(42) {
		host.ConsoleSize = [2]uint{}
	}
	if v.before(43) {
		host.Annotations = nil
	}
	if v.before(44) {
		if req.Healthcheck != nil {
			req.Healthcheck.StartInterval = 0
		}
		if endpoints := req.NetworkingConfig.EndpointsConfig; len(endpoints) > 1 {
			return nil, invalidf("Container cannot be created with multiple network endpoints: %s",
				strings.Join(slices.Sorted(maps.Keys(endpoints)), ", "))
		}
	}
	if v.before(48) {
		for _, endpoint := range req.NetworkingConfig.EndpointsConfig {
			endpoint.GwPriority = 0
		}
	}
	if v.before(56) {
		host.Umask = nil
	}
	if len(legacy.HostConfig.Capabilities) > 0 {
		return nil, invalidf("the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop to set capabilities")
	}
	if legacy.HostConfig.KernelMemory != 0 && v.before(42) {
		return nil, invalidf("the HostConfig.KernelMemory field is not supported by this daemon")
	}
	var warnings []string
	if warning := emptyBindings(host, v); warning != "" {
		warnings = append(warnings, warning)
	}
	if len(legacy.MacAddress) > 0 {
		warning, err := macAddress(req, legacy.MacAddress, v)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, warning)
	}
	return warnings, nil
}

// defaultNetwork resolves the network "default", which is how clients ask for
// the one that the platform has.
func defaultNetwork(host *mobycontainer.HostConfig, networking *mobynetwork.NetworkingConfig) {
	if host.NetworkMode != "" && !host.NetworkMode.IsDefault() {
		return
	}
	host.NetworkMode = defaultNetworkMode
	if endpoint, ok := networking.EndpointsConfig[mobynetwork.NetworkDefault]; ok {
		delete(networking.EndpointsConfig, mobynetwork.NetworkDefault)
		networking.EndpointsConfig[defaultNetworkMode] = endpoint
	}
}

// checkMounts drops what a version of the API ignored and refuses what must not
// be ignored.
func checkMounts(mounts []mount.Mount, v Version) error {
	for i := range mounts {
		m := &mounts[i]
		if v.before(42) {
			if m.Type != mount.TypeVolume {
				m.VolumeOptions = nil
			}
			if m.Type != mount.TypeTmpfs {
				m.TmpfsOptions = nil
			}
			if m.BindOptions != nil {
				m.BindOptions.CreateMountpoint = false
			}
		}
		for _, options := range []struct {
			name string
			set  bool
			typ  mount.Type
		}{
			{"VolumeOptions", m.VolumeOptions != nil, mount.TypeVolume},
			{"BindOptions", m.BindOptions != nil, mount.TypeBind},
			{"TmpfsOptions", m.TmpfsOptions != nil, mount.TypeTmpfs},
		} {
			if options.set && m.Type != options.typ && !v.before(42) {
				return invalidf("%s must not be specified on mount type %q", options.name, m.Type)
			}
		}
		switch {
		case v.before(44) && m.BindOptions != nil && m.BindOptions.ReadOnlyForceRecursive:
			return invalidf("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
		case v.before(45) && m.VolumeOptions != nil && m.VolumeOptions.Subpath != "":
			return invalidf("VolumeOptions.Subpath needs API v1.45 or newer")
		case v.before(48) && m.Type == mount.TypeImage:
			return invalidf(`Mount type "Image" needs API v1.48 or newer`)
		}
		if v.before(44) && m.Type == mount.TypeBind && m.ReadOnly {
			// Read-only mounts were not recursive then.
			if m.BindOptions == nil {
				m.BindOptions = &mount.BindOptions{}
			}
			m.BindOptions.ReadOnlyNonRecursive = true
		}
	}
	return nil
}

// emptyBindings gives published ports without a binding one that leaves address
// and port to the engine.
func emptyBindings(host *mobycontainer.HostConfig, v Version) string {
	var ports []string
	for port, bindings := range host.PortBindings {
		if len(bindings) == 0 {
			host.PortBindings[port] = []mobynetwork.PortBinding{{}}
			ports = append(ports, port.String())
		}
	}
	if len(ports) == 0 || v.before(52) {
		return ""
	}
	slices.Sort(ports)
	return "Following container port(s) have an empty list of port-bindings: " + strings.Join(ports, ", ") +
		". Such bindings will be discarded in a future version."
}

// macAddress moves a container-wide MAC address to the endpoint of the
// container's main network.
func macAddress(req *mobycontainer.CreateRequest, mac mobynetwork.HardwareAddr, v Version) (warning string, err error) {
	const deprecated = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
	mode := req.HostConfig.NetworkMode
	if !mode.IsBridge() && !mode.IsUserDefined() {
		return deprecated, nil
	}
	endpoint, err := mainEndpoint(req.NetworkingConfig.EndpointsConfig, string(mode), v)
	if err != nil {
		return "", err
	}
	switch {
	case len(endpoint.MacAddress) == 0:
		endpoint.MacAddress = mac
	case !slices.Equal(endpoint.MacAddress, mac):
		return "", invalidf("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	return deprecated, nil
}

// mainEndpoint finds, or makes, the settings for the network that is the
// container's network mode.
func mainEndpoint(endpoints map[string]*mobynetwork.EndpointSettings, mode string, v Version) (*mobynetwork.EndpointSettings, error) {
	if len(endpoints) == 0 {
		endpoints[mode] = &mobynetwork.EndpointSettings{}
	}
	if v.before(44) { // there is only one, by whatever name of its network
		for _, endpoint := range endpoints {
			return endpoint, nil
		}
	}
	endpoint, ok := endpoints[mode]
	if !ok {
		return nil, invalidf("HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
	}
	return endpoint, nil
}

// createPlatform reads the platform a container is wanted for.
func createPlatform(r *request) (*ocispec.Platform, error) {
	if r.version.before(41) {
		return nil, nil
	}
	return r.query.platform("platform")
}
