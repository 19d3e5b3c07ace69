package network

import (
	"cmp"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/events"
	"slipway/network/ipam"
	"slipway/state"
)

// Config of a Manager.
type Config struct {
	// ExecRoot is the directory, on a tmpfs, in which network namespaces are pinned.
	ExecRoot string
	// BridgeName is the bridge of the default network; "slipway0" if empty. Daemons
	// on one host must have different ones: New refuses one that is in use.
	BridgeName string
	// BIP is the default bridge's address with its prefix length; chosen if empty.
	BIP string
	// FixedCIDR limits the addresses that containers get on the default network.
	FixedCIDR string
	// MTU of the default network in bytes; 0 leaves the kernel's.
	MTU int
	// DisableICC keeps containers of the default network apart.
	DisableICC bool
	// DisableMasquerade leaves the addresses of the default network's containers as
	// they are when they talk to the world.
	DisableMasquerade bool
	// HostIP is the host address for published ports that name none; 0.0.0.0 if not valid.
	HostIP netip.Addr
	// AddressPools are where subnets come from; Docker's if empty.
	AddressPools []ipam.Range

	State  *state.Store
	Events *events.Bus
	Logger *slog.Logger
}

// EndpointRequest asks for a sandbox's connection to one network.
type EndpointRequest struct {
	SandboxID     string // the container's ID
	Network       string // ID, name, or a unique prefix of an ID; "default" is the bridge
	ContainerName string
	Hostname      string
	MAC           mobynetwork.HardwareAddr // derived from the address if empty
	IPv4          netip.Addr               // the next free one if not valid
	Aliases       []string
	// Links are other members of the network, "name" or "name:alias", that only
	// this sandbox knows by the alias.
	Links []string
	// GwPriority decides which endpoint is the sandbox's way to the world.
	GwPriority int
	// DNS are the servers that are asked for names which no network knows; the
	// host's if empty.
	DNS        []netip.Addr
	Ports      mobynetwork.PortMap // ports to publish
	Exposed    mobynetwork.PortSet // ports to show, and to publish if PublishAll
	PublishAll bool
	// OnHost says that the container's programs listen on the host's addresses and
	// not on the endpoint's, which is possible where they share the host's network.
	OnHost bool
	// Gate reserves the published ports but redirects nothing until OpenPorts.
	Gate bool
}

// Endpoint is a sandbox's connection to a network. It is also its durable record.
type Endpoint struct {
	ID            string
	NetworkID     string
	NetworkName   string
	Driver        string
	ContainerName string
	// Interface is its name in the sandbox; empty on the host and none networks, as
	// are all fields of addresses.
	Interface string                   `json:",omitempty"`
	HostVeth  string                   `json:",omitempty"`
	Address   netip.Prefix             `json:",omitzero"`
	Gateway   netip.Addr               `json:",omitzero"`
	MAC       mobynetwork.HardwareAddr `json:",omitempty"`
	Aliases   []string                 `json:",omitempty"`
	DNSNames  []string                 `json:",omitempty"`
	Links     []string                 `json:",omitempty"`
	// GwPriority is compared with that of the sandbox's other endpoints; see Primary.
	GwPriority int `json:",omitempty"`
	// Primary is the sandbox's way to the world: it has the default route and the
	// published ports.
	Primary bool `json:",omitempty"`
	// OnHost is that of the request.
	OnHost bool `json:",omitempty"`
	// Ports is in the form of inspect: the exposed ports, and where each is published.
	Ports mobynetwork.PortMap `json:",omitempty"`
}

// Settings is the endpoint in the form of inspect.
func (e Endpoint) Settings() *mobynetwork.EndpointSettings {
	s := &mobynetwork.EndpointSettings{
		NetworkID:  e.NetworkID,
		EndpointID: e.ID,
		Gateway:    e.Gateway,
		IPAddress:  e.Address.Addr(),
		MacAddress: slices.Clone(e.MAC),
		Aliases:    slices.Clone(e.Aliases),
		DNSNames:   slices.Clone(e.DNSNames),
		GwPriority: e.GwPriority,
	}
	if e.Address.IsValid() {
		s.IPPrefixLen = e.Address.Bits()
	}
	return s
}

// recordVersion is written into every record. A reader of a later version
// converts older ones; there is none older than 1.
const recordVersion = 1

// networkRecord is a network as it is stored.
type networkRecord struct {
	Version    int
	ID         string
	Name       string
	Driver     string
	Created    time.Time
	Subnet     netip.Prefix          `json:",omitzero"`
	Range      netip.Prefix          `json:",omitzero"`
	Gateway    netip.Addr            `json:",omitzero"`
	Aux        map[string]netip.Addr `json:",omitempty"`
	UserSubnet bool                  `json:",omitempty"` // named by the user, who may then choose addresses too
	Bridge     string                `json:",omitempty"`
	MTU        int                   `json:",omitempty"`
	ICC        bool                  `json:",omitempty"`
	Masquerade bool                  `json:",omitempty"`
	HostIP     netip.Addr            `json:",omitzero"`
	Internal   bool                  `json:",omitempty"`
	Attachable bool                  `json:",omitempty"`
	Options    map[string]string     `json:",omitempty"`
	Labels     map[string]string     `json:",omitempty"`
}

// sandboxRecord is a sandbox's connections as they are stored. The leases of
// addresses and host ports are in here and nowhere else.
type sandboxRecord struct {
	Version   int
	ID        string
	Gated     bool         `json:",omitempty"`
	DNS       []netip.Addr `json:",omitempty"` // asked for names that no network knows; empty for the host's servers
	Endpoints []Endpoint
}

// with returns a copy that has the endpoint in place of one with the same ID, or
// at the end. Published records are never changed in place.
func (r sandboxRecord) with(e Endpoint) sandboxRecord {
	r.Endpoints = slices.Clone(r.Endpoints)
	if i := slices.IndexFunc(r.Endpoints, func(o Endpoint) bool { return o.ID == e.ID }); i >= 0 {
		r.Endpoints[i] = e
	} else {
		r.Endpoints = append(r.Endpoints, e)
	}
	return r
}

func (r sandboxRecord) without(endpointID string) sandboxRecord {
	r.Endpoints = slices.DeleteFunc(slices.Clone(r.Endpoints), func(e Endpoint) bool { return e.ID == endpointID })
	return r
}

func (r sandboxRecord) on(networkID string) (Endpoint, bool) {
	for _, e := range r.Endpoints {
		if e.NetworkID == networkID {
			return e, true
		}
	}
	return Endpoint{}, false
}

func (r sandboxRecord) primary() (Endpoint, bool) {
	for _, e := range r.Endpoints {
		if e.Primary {
			return e, true
		}
	}
	return Endpoint{}, false
}

// elect returns a copy in which the endpoint is primary that Docker would choose:
// on a network with a way to the world, of the highest priority, and among equals
// the first by the network's name. It has the published ports.
func (r sandboxRecord) elect(ports mobynetwork.PortMap, internal func(networkID string) bool) sandboxRecord {
	best := -1
	for i, e := range r.Endpoints {
		if e.Interface == "" || internal(e.NetworkID) {
			continue
		}
		if best < 0 || compareGateways(e, r.Endpoints[best]) < 0 {
			best = i
		}
	}
	r.Endpoints = slices.Clone(r.Endpoints)
	for i := range r.Endpoints {
		e := &r.Endpoints[i]
		if e.Primary = i == best; e.Primary {
			e.Ports = ports
		} else {
			e.Ports = nil
		}
	}
	return r
}

// compareGateways orders endpoints as ways to the world, the best first.
func compareGateways(a, b Endpoint) int {
	return cmp.Or(cmp.Compare(b.GwPriority, a.GwPriority), cmp.Compare(a.NetworkName, b.NetworkName))
}

// claimName is what that daemon claims. It never is another daemon's table.
func claimName(bridgeName string) string {
	return "slipwayd-" + inTableName(bridgeName)
}

func inTableName(bridgeName string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, bridgeName)
}
