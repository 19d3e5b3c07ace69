package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/containerd/errdefs"
	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/network/ipam"
)

// The options of Docker's bridge driver that are honoured.
const (
	optionBridge        = "com.docker.network.bridge.name"
	optionDefaultBridge = "com.docker.network.bridge.default_bridge"
	optionICC           = "com.docker.network.bridge.enable_icc"
	optionMasquerade    = "com.docker.network.bridge.enable_ip_masquerade"
	optionHostIP        = "com.docker.network.bridge.host_binding_ipv4"
	optionMTU           = "com.docker.network.driver.mtu"
	optionIPv4          = "com.docker.network.enable_ipv4"
	optionIPv6          = "com.docker.network.enable_ipv6"
)

// Limits of the kernel.
const (
	minMTU, maxMTU     = 68, 65535
	maxInterfaceName   = 15
	minSubnet          = 30 // prefix bits: network, gateway, one container, broadcast
	maxNetworkName     = 255
	firstMulticastByte = 224
)

// defaults is the default network as the daemon's configuration wants it; a
// subnet that is not valid is to be chosen.
type defaults struct {
	subnet  netip.Prefix
	gateway netip.Addr
	within  netip.Prefix
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) error {
	return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(format, args...) + " is not supported by Slipway")
}

func parseDefaults(cfg Config) (defaults, error) {
	var d defaults
	if err := checkInterfaceName(cfg.BridgeName); err != nil {
		return d, err
	}
	if err := checkMTU(cfg.MTU); cfg.MTU != 0 && err != nil {
		return d, err
	}
	for _, r := range cfg.AddressPools {
		if err := r.Validate(); err != nil {
			return d, err
		}
	}
	if cfg.BIP != "" {
		bip, err := netip.ParsePrefix(cfg.BIP)
		if err != nil {
			return d, invalid("invalid --bip %q: %v", cfg.BIP, err)
		}
		if err := checkSubnet(bip); err != nil {
			return d, err
		}
		d.subnet, d.gateway = bip.Masked(), bip.Addr()
		if err := checkGateway(d.subnet, d.gateway); err != nil {
			return d, err
		}
	}
	if cfg.FixedCIDR != "" {
		within, err := netip.ParsePrefix(cfg.FixedCIDR)
		if err != nil {
			return d, invalid("invalid --fixed-cidr %q: %v", cfg.FixedCIDR, err)
		}
		d.within = within.Masked()
		if !d.subnet.IsValid() { // as Docker: the range names the subnet
			if err := checkSubnet(d.within); err != nil {
				return d, err
			}
			d.subnet, d.gateway = d.within, ipam.FirstAddress(d.within)
		}
		if err := checkRange(d.subnet, d.within); err != nil {
			return d, err
		}
	}
	return d, nil
}

// parseCreate turns the request into a record without ID, and with a subnet only
// if the request has one. What is not honoured is refused by name.
func parseCreate(req mobynetwork.CreateRequest) (networkRecord, error) {
	n := networkRecord{
		Version: recordVersion, Name: req.Name, Driver: req.Driver, Created: time.Now().UTC(), Internal: req.Internal, Attachable: req.Attachable,
		Options: req.Options, Labels: req.Labels, ICC: true, Masquerade: true,
	}
	if n.Driver == "" {
		n.Driver = defaultDriver
	}
	for _, check := range []func() error{
		func() error { return checkName(n.Name) },
		func() error { return checkCreate(req) },
		func() error { return checkKind(req) },
		func() error { return n.applyOptions(req.Options) },
		func() error { return n.applyIPAM(req.IPAM) },
	} {
		if err := check(); err != nil {
			return networkRecord{}, err
		}
	}
	return n, nil
}

func checkName(name string) error {
	if strings.TrimSpace(name) == "" {
		return invalid("invalid network name: name is empty")
	}
	if len(name) > maxNetworkName || strings.ContainsRune(name, '/') || strings.IndexFunc(name, unicode.IsControl) >= 0 {
		return invalid("invalid network name %q: at most %d characters, without slashes and control characters", name, maxNetworkName)
	}
	switch name {
	case defaultNetwork, mobynetwork.NetworkHost, mobynetwork.NetworkNone, mobynetwork.NetworkDefault:
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("operation is not permitted on predefined %s network ", name))
	}
	return nil
}

func checkKind(req mobynetwork.CreateRequest) error {
	switch req.Driver {
	case "", defaultDriver:
	case mobynetwork.NetworkHost, "null":
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("only one instance of %q network is allowed", req.Driver))
	case "macvlan", "ipvlan", "overlay":
		return unsupported("network driver %q", req.Driver)
	default:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("could not find plugin %s in v1 plugin registry: plugin not found", req.Driver))
	}
	switch {
	case req.Scope != "" && req.Scope != "local":
		return unsupported("network scope %q", req.Scope)
	case req.EnableIPv6 != nil && *req.EnableIPv6:
		return unsupported("IPv6 (EnableIPv6) on a network")
	case req.EnableIPv4 != nil && !*req.EnableIPv4:
		return unsupported("a network without IPv4 (EnableIPv4)")
	case req.Ingress:
		return unsupported("an ingress network")
	case req.ConfigOnly:
		return unsupported("a config-only network")
	case req.ConfigFrom != nil && req.ConfigFrom.Network != "":
		return unsupported("the network option config-from")
	}
	return nil
}

func (n *networkRecord) applyOptions(options map[string]string) error {
	for key, value := range options {
		var err error
		switch key {
		case optionBridge:
			n.Bridge, err = value, checkInterfaceName(value)
		case optionMTU:
			if n.MTU, err = strconv.Atoi(value); err == nil {
				err = checkMTU(n.MTU)
			}
		case optionICC:
			n.ICC, err = strconv.ParseBool(value)
		case optionMasquerade:
			n.Masquerade, err = strconv.ParseBool(value)
		case optionHostIP:
			if n.HostIP, err = netip.ParseAddr(value); err == nil && !n.HostIP.Is4() {
				err = unsupported("an IPv6 host address")
			}
		case optionDefaultBridge, optionIPv6:
			err = refuseUnless(value, false)
		case optionIPv4:
			err = refuseUnless(value, true)
		default:
			return unsupported("network option %q", key)
		}
		if err != nil {
			return fmt.Errorf("network option %s=%s: %w", key, value, asInvalid(err))
		}
	}
	return nil
}

// asInvalid gives errors of the standard parsers their class.
func asInvalid(err error) error {
	if errdefs.IsNotImplemented(err) || errdefs.IsInvalidArgument(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument, err)
}

func refuseUnless(value string, want bool) error {
	got, err := strconv.ParseBool(value)
	if err == nil && got != want {
		err = unsupported("this value")
	}
	return err
}

func (n *networkRecord) applyIPAM(cfg *mobynetwork.IPAM) error {
	if cfg == nil {
		return nil
	}
	if cfg.Driver != "" && cfg.Driver != "default" {
		return unsupported("IPAM driver %q", cfg.Driver)
	}
	for key := range cfg.Options {
		return unsupported("IPAM option %q", key)
	}
	switch len(cfg.Config) {
	case 0:
		return nil
	case 1:
	default:
		return unsupported("a network with more than one IPAM configuration")
	}
	c := cfg.Config[0]
	if !c.Subnet.IsValid() {
		if c.Gateway.IsValid() || c.IPRange.IsValid() || len(c.AuxAddress) > 0 {
			return invalid("invalid network config: a gateway, IP range or auxiliary address needs a subnet")
		}
		return nil
	}
	if err := checkSubnet(c.Subnet); err != nil {
		return err
	}
	n.Subnet, n.Gateway, n.Range, n.Aux, n.UserSubnet = c.Subnet.Masked(), c.Gateway, c.IPRange, c.AuxAddress, true
	if n.Range.IsValid() {
		n.Range = n.Range.Masked()
		if err := checkRange(n.Subnet, n.Range); err != nil {
			return err
		}
	}
	if !n.Gateway.IsValid() {
		n.Gateway = ipam.FirstAddress(n.Subnet)
	}
	for name, addr := range n.Aux {
		if !n.Subnet.Contains(addr) {
			return invalid("invalid network config: auxiliary address %s=%s is not in subnet %s", name, addr, n.Subnet)
		}
	}
	return checkGateway(n.Subnet, n.Gateway)
}

func checkSubnet(p netip.Prefix) error {
	if !p.Addr().Is4() {
		return unsupported("the IPv6 subnet %s", p)
	}
	first := p.Masked().Addr().As4()[0]
	if p.Bits() > minSubnet || p.Bits() == 0 || first == 0 || first == 127 || first >= firstMulticastByte {
		return invalid("invalid subnet %s: containers need a unicast subnet between /1 and /%d", p, minSubnet)
	}
	return nil
}

func checkRange(subnet, within netip.Prefix) error {
	if !within.Addr().Is4() || within.Bits() < subnet.Bits() || !subnet.Contains(within.Addr()) {
		return invalid("invalid network config: allocatable range %s is not in subnet %s", within, subnet)
	}
	return nil
}

func checkGateway(subnet netip.Prefix, gateway netip.Addr) error {
	if !subnet.Contains(gateway) || gateway == subnet.Addr() {
		return invalid("invalid network config: gateway %s is not an address of subnet %s", gateway, subnet)
	}
	return nil
}

func checkMTU(mtu int) error {
	if mtu < minMTU || mtu > maxMTU {
		return invalid("invalid MTU %d: must be between %d and %d", mtu, minMTU, maxMTU)
	}
	return nil
}

func checkInterfaceName(name string) error {
	bad := func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) || unicode.IsControl(r) }
	if name == "" || name == "." || name == ".." || len(name) > maxInterfaceName || strings.IndexFunc(name, bad) >= 0 {
		return invalid("invalid bridge name %q: an interface name has 1 to %d characters, without spaces, slashes and colons", name, maxInterfaceName)
	}
	return nil
}
