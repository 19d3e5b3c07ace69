package container

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"slipway/internal/failpoint"
	"slipway/network"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobynetwork "github.com/moby/moby/api/types/network"
)

// The record says which networks a container wants, and that is what it has after
// its next start. A running container gets its connection first and is recorded as
// wanting it then; it is recorded as not wanting one any more before it loses it. So
// whatever a daemon that is killed leaves half done is a connection too many, which
// the next one takes away (settleNetworks).

// ConnectNetwork connects a container to a network, at once if it runs, and else
// from its next start on.
func (m *Manager) ConnectNetwork(ctx context.Context, ref string, req mobynetwork.ConnectRequest) error {
	c, err := m.find(req.Container)
	if err != nil {
		return err
	}
	settings := &mobynetwork.EndpointSettings{}
	if req.EndpointConfig != nil {
		settings = req.EndpointConfig.Copy()
	}
	ctx = context.WithoutCancel(ctx) // what has begun is finished or undone
	unlock, err := m.transition(ctx, c, "network connect")
	if err != nil {
		return err
	}
	defer unlock()
	name, err := m.checkConnect(c, ref, settings)
	if err != nil {
		return err
	}
	r := c.record.Load()
	if c.run.Load() == nil {
		if r.Networks[name] != nil {
			return nil // as in Docker, with its settings as they were
		}
		return c.update(func(r *Record) { r.Networks[name] = settings })
	}
	failpoint.Hit("container.connect.begin")
	e, err := m.cfg.Networks.Connect(ctx, m.endpointRequest(r, name, settings))
	if err != nil {
		return err
	}
	failpoint.Hit("container.connect.connected")
	if err := c.update(func(r *Record) { r.Networks[name] = settings }); err != nil {
		return errors.Join(err, m.cfg.Networks.Disconnect(ctx, c.id, name))
	}
	failpoint.Hit("container.connect.recorded")
	m.logged(ctx, c, "the files of a container do not show its new network", m.showConnected(c.record.Load(), e))
	return nil
}

// checkConnect refuses what cannot be connected and returns the network's name.
func (m *Manager) checkConnect(c *container, ref string, settings *mobynetwork.EndpointSettings) (string, error) {
	r := c.record.Load()
	if oneOf(r.State.Status, mobycontainer.StateRemoving, mobycontainer.StateDead) {
		return "", removalPending(c)
	}
	if r.Config.NetworkDisabled {
		return "", errdefs.ErrConflict.WithMessage("container " + c.id + " was created without networks")
	}
	if err := refuseEndpoint(settings); err != nil {
		return "", err
	}
	running := c.run.Load() != nil
	name, driver, err := m.cfg.Networks.Resolve(ref)
	if err != nil {
		if errdefs.IsNotFound(err) && !running {
			return ref, nil // there may be one when the container is started
		}
		return "", err
	}
	if err := m.cfg.Networks.CheckEndpoint(name, settings); err != nil {
		return "", err
	}
	if driver == mobynetwork.NetworkHost && !r.HostConfig.NetworkMode.IsHost() {
		return "", errdefs.ErrInvalidArgument.WithMessage(
			"cannot connect container to host network - container must be created in host network mode")
	}
	for other := range r.Networks {
		if other == name {
			continue
		}
		if _, otherDriver, err := m.cfg.Networks.Resolve(other); err != nil {
			continue
		} else if oneOf(mobynetwork.NetworkHost, driver, otherDriver) {
			return "", errdefs.ErrInvalidArgument.WithMessage(
				"container sharing network namespace with another container or host cannot be connected to any other network")
		}
		if oneOf(mobynetwork.NetworkNone, name, other) {
			return "", errdefs.ErrInvalidArgument.WithMessage(
				"container cannot be connected to multiple networks with one of the networks in private (none) mode")
		}
	}
	return name, nil
}

// DisconnectNetwork takes a container off a network. With force, a network that
// does not exist any more can be taken out of the container's record, and what a
// container whose record cannot be read has on a network is removed.
func (m *Manager) DisconnectNetwork(ctx context.Context, ref string, req mobynetwork.DisconnectRequest) error {
	ctx = context.WithoutCancel(ctx)
	c, err := m.find(req.Container)
	if errdefs.IsNotFound(err) && req.Force {
		return m.disconnectUnreadable(ctx, ref, req.Container)
	}
	if err != nil {
		return err
	}
	unlock, err := m.transition(ctx, c, "network disconnect")
	if err != nil {
		return err
	}
	defer unlock()
	r, running := c.record.Load(), c.run.Load() != nil
	if oneOf(r.State.Status, mobycontainer.StateRemoving, mobycontainer.StateDead) {
		return removalPending(c)
	}
	name, driver, missing := m.cfg.Networks.Resolve(ref)
	if missing != nil {
		if running && !req.Force {
			return missing
		}
		name = ref
	}
	if running && driver == mobynetwork.NetworkHost && r.HostConfig.NetworkMode.IsHost() {
		return errdefs.ErrInvalidArgument.WithMessage(
			"cannot disconnect container from host network - container was created in host network mode")
	}
	if r.Networks[name] == nil {
		article := "" // Docker's two messages
		if !running {
			article = "the "
		}
		return fmt.Errorf("container %s is not connected to %snetwork %s", c.id, article, name)
	}
	failpoint.Hit("container.disconnect.record")
	if err := c.update(func(r *Record) { delete(r.Networks, name) }); err != nil {
		return err
	}
	failpoint.Hit("container.disconnect.recorded")
	if missing != nil {
		return nil
	}
	if !running {
		m.cfg.Networks.Disconnected(c.id, name)
		return nil
	}
	return m.unplug(ctx, c, name)
}

// unplug takes a running container off a network.
func (m *Manager) unplug(ctx context.Context, c *container, name string) error {
	before := m.addresses(c.id)
	if err := m.cfg.Networks.Disconnect(ctx, c.id, name); err != nil {
		return err
	}
	failpoint.Hit("container.disconnect.done")
	m.logged(ctx, c, "the files of a container still show a network that it has left", m.showDisconnected(c.id, before))
	return nil
}

// disconnectUnreadable is for containers of which only their id is known.
func (m *Manager) disconnectUnreadable(ctx context.Context, ref, id string) error {
	name, _, err := m.cfg.Networks.Resolve(ref)
	if err != nil {
		return err
	}
	for _, known := range m.unreadable {
		if strings.HasPrefix(known, id) {
			return m.cfg.Networks.Disconnect(ctx, known, name)
		}
	}
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("endpoint %s not found", id))
}

// settleNetworks takes away connections that a running container does not want: of
// a connect or disconnect that a daemon before this one began. It also tells the
// networks the container's name, which it may have got then.
func (m *Manager) settleNetworks(ctx context.Context, c *container) {
	r := c.record.Load()
	for _, e := range m.cfg.Networks.Endpoints(c.id) {
		if !r.wants(e) {
			m.logged(ctx, c, "a container that was taken over could not be taken off a network", m.unplug(ctx, c, e.NetworkName))
		}
	}
	m.logged(ctx, c, "others on its networks do not know a container's new name", m.cfg.Networks.Rename(ctx, c.id, r.Name))
}

// wants reports whether the container is to have the endpoint. Records have networks
// by name; older ones have them as they were asked for, which may be by ID.
func (r *Record) wants(e network.Endpoint) bool {
	for ref := range r.Networks {
		if ref == e.NetworkName || strings.HasPrefix(e.NetworkID, ref) {
			return true
		}
	}
	return false
}

// wantedNetworks are the endpoints of a create request by network: those of the
// networking configuration, or else the network mode's.
func (m *Manager) wantedNetworks(networking *mobynetwork.NetworkingConfig, host *mobycontainer.HostConfig) (map[string]*mobynetwork.EndpointSettings, error) {
	mode := host.NetworkMode
	if mode.IsContainer() {
		return nil, errdefs.ErrNotImplemented.WithMessage("network mode \"container:\" is not supported yet")
	}
	wanted := map[string]*mobynetwork.EndpointSettings{}
	if networking != nil {
		for ref, settings := range networking.EndpointsConfig {
			if settings == nil {
				settings = &mobynetwork.EndpointSettings{}
			}
			name, err := m.checkWanted(ref, settings)
			if err != nil {
				return nil, err
			}
			wanted[name] = settings.Copy()
		}
	}
	if len(wanted) == 0 {
		name, err := m.checkWanted(mode.NetworkName(), &mobynetwork.EndpointSettings{})
		if err != nil {
			return nil, err
		}
		wanted[name] = &mobynetwork.EndpointSettings{}
	}
	if (mode.IsHost() || mode.IsNone()) && (len(wanted) > 1 || wanted[mode.NetworkName()] == nil) {
		return nil, errdefs.ErrInvalidArgument.WithMessage("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	return wanted, nil
}

// checkLinks wants the other ends of --link to exist. That one does not is no
// NotFound: a client would pull the image then.
func (m *Manager) checkLinks(links []string) error {
	for _, link := range links {
		name, _, _ := strings.Cut(link, ":")
		if _, err := m.find(name); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("could not get container for %s: %s", name, err))
		}
	}
	return nil
}

// checkWanted returns the name of a network that a create request names in any
// way. One that does not exist may be made before the container is started.
func (m *Manager) checkWanted(ref string, settings *mobynetwork.EndpointSettings) (name string, err error) {
	if err := refuseEndpoint(settings); err != nil {
		return "", err
	}
	name, _, err = m.cfg.Networks.Resolve(ref)
	if errdefs.IsNotFound(err) {
		return ref, nil
	}
	if err != nil {
		return "", err
	}
	if err := m.cfg.Networks.CheckEndpoint(name, settings); err != nil {
		return "", fmt.Errorf("invalid config for network %s: %w", name, err)
	}
	return name, nil
}

// refuseEndpoint names the options of an endpoint that are not honoured yet.
func refuseEndpoint(s *mobynetwork.EndpointSettings) error {
	ipam := s.IPAMConfig
	if ipam == nil {
		ipam = &mobynetwork.EndpointIPAMConfig{}
	}
	for _, option := range []struct {
		given bool
		name  string
	}{
		{ipam.IPv6Address.IsValid(), "--ip6 (IPAMConfig.IPv6Address)"},
		{len(ipam.LinkLocalIPs) > 0, "--link-local-ip (IPAMConfig.LinkLocalIPs)"},
		{len(s.DriverOpts) > 0, "driver-opt of a network (DriverOpts)"},
	} {
		if option.given {
			return errdefs.ErrNotImplemented.WithMessage(option.name + " is not supported yet")
		}
	}
	return nil
}

func removalPending(c *container) error {
	return fmt.Errorf("Container %s is marked for removal and cannot be connected or disconnected to the network", c.id) //nolint:staticcheck // Docker's words
}
