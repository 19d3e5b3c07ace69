package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/internal/cleanup"
	"slipway/network/firewall"
	"slipway/network/hostport"
	"slipway/network/loopback"
)

// PortError says that a port of the host could not be had. If it is taken, the
// error is also hostport.ErrInUse.
type PortError struct {
	Endpoint string // the container's name and the endpoint's ID
	Host     netip.AddrPort
	Err      error
}

func (e *PortError) Error() string {
	reason := e.Err.Error()
	if errors.Is(e.Err, hostport.ErrInUse) {
		reason = "port is already allocated"
	}
	return fmt.Sprintf("driver failed programming external connectivity on endpoint %s: Bind for %s failed: %s", e.Endpoint, e.Host, reason)
}

func (e *PortError) Unwrap() error { return e.Err }

// reservePorts takes the host ports of a request and returns them in the form of
// inspect: the exposed ports too, without bindings.
func (m *Manager) reservePorts(ctx context.Context, req EndpointRequest, e Endpoint, n *networkState, undo *cleanup.Stack) (mobynetwork.PortMap, error) {
	var held []*hostport.Reservation
	undo.Add(func(context.Context) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.reserved, e.ID)
		return closeAll(held)
	})
	ports, wanted := mobynetwork.PortMap{}, wantedPorts(req)
	for _, port := range sortedPorts(wanted) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !port.IsValid() || port.Num() == 0 {
			return nil, invalid("invalid container port %s", port)
		}
		ports[port] = nil
		for _, binding := range wanted[port] {
			r, err := m.reserve(port, binding, n.HostIP, e)
			if err != nil {
				return nil, err
			}
			held = append(held, r)
			ports[port] = append(ports[port], mobynetwork.PortBinding{
				HostIP: r.Addr.Addr(), HostPort: strconv.Itoa(int(r.Addr.Port())),
			})
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(held) > 0 {
		m.reserved[e.ID] = held
	}
	return ports, nil
}

// wantedPorts adds the exposed ports to the published ones.
func wantedPorts(req EndpointRequest) mobynetwork.PortMap {
	wanted := maps.Clone(req.Ports)
	if wanted == nil {
		wanted = mobynetwork.PortMap{}
	}
	for port := range req.Exposed {
		if _, there := wanted[port]; there {
			continue
		}
		wanted[port] = nil
		if req.PublishAll {
			wanted[port] = []mobynetwork.PortBinding{{}}
		}
	}
	return wanted
}

func sortedPorts(ports mobynetwork.PortMap) []mobynetwork.Port {
	return slices.SortedFunc(maps.Keys(ports), func(a, b mobynetwork.Port) int {
		return cmp.Or(cmp.Compare(a.Num(), b.Num()), cmp.Compare(a.Proto(), b.Proto()))
	})
}

// reserve takes the first free port that the binding allows.
func (m *Manager) reserve(port mobynetwork.Port, binding mobynetwork.PortBinding, hostIP netip.Addr, e Endpoint) (*hostport.Reservation, error) {
	proto := hostport.Protocol(port.Proto())
	if proto != hostport.TCP && proto != hostport.UDP {
		return nil, unsupported("publishing the %s port %d", port.Proto(), port.Num())
	}
	if binding.HostIP.IsValid() {
		hostIP = binding.HostIP.Unmap()
	}
	if !hostIP.Is4() {
		return nil, unsupported("publishing port %s on the IPv6 address %s", port, hostIP)
	}
	first, last, err := parseHostPort(binding.HostPort)
	if err != nil {
		return nil, err
	}
	for number := first; ; number++ {
		at := netip.AddrPortFrom(hostIP, number)
		r, err := m.platform.reserve(hostport.Request{Protocol: proto, Addr: at, Container: port.Num(), OnHost: e.OnHost})
		if err == nil {
			return r, nil
		}
		if number == last || !errors.Is(err, hostport.ErrInUse) {
			return nil, &PortError{Endpoint: fmt.Sprintf("%s (%s)", e.ContainerName, e.ID), Host: at, Err: err}
		}
	}
}

// parseHostPort reads "", "8080" or "8080-8090"; nothing and 0 mean any free port.
func parseHostPort(s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, nil
	}
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	a, errA := strconv.ParseUint(low, 10, 16)
	b, errB := strconv.ParseUint(high, 10, 16)
	if errA != nil || errB != nil || a > b || (a == 0 && b != 0) {
		return 0, 0, invalid("invalid host port %q", s)
	}
	return uint16(a), uint16(b), nil
}

func closeAll(reservations []*hostport.Reservation) error {
	var errs []error
	for _, r := range reservations {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// forwards are the redirections that the endpoint's published ports need.
func (e Endpoint) forwards() []firewall.Forward {
	var all []firewall.Forward
	for port, bindings := range e.Ports {
		for _, b := range bindings {
			number, _, err := parseHostPort(b.HostPort)
			if err != nil || number == 0 {
				continue // a record holds only what reservePorts returned
			}
			all = append(all, firewall.Forward{
				Protocol: hostport.Protocol(port.Proto()),
				Host:     netip.AddrPortFrom(b.HostIP, number),
				To:       netip.AddrPortFrom(e.listensAt(), port.Num()),
			})
		}
	}
	return all
}

// listensAt is the address on which the container's programs listen.
func (e Endpoint) listensAt() netip.Addr {
	if e.OnHost {
		return loopback.Host
	}
	return e.Address.Addr()
}

func (r sandboxRecord) forwards() []firewall.Forward {
	return forwardsOf(r.Endpoints)
}

func forwardsOf(endpoints []Endpoint) []firewall.Forward {
	var all []firewall.Forward
	for _, e := range endpoints {
		all = append(all, e.forwards()...)
	}
	return all
}

func logError(err error) slog.Attr {
	return slog.String("error", err.Error())
}
