package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	mobyevents "github.com/moby/moby/api/types/events"
	mobynetwork "github.com/moby/moby/api/types/network"

	"slipway/internal/keylock"
	"slipway/network/dns"
	"slipway/network/firewall"
	"slipway/network/hostport"
	"slipway/network/ipam"
	"slipway/state"
)

// DefaultBridge is the default network's bridge where the configuration names none.
const DefaultBridge = "slipway0"

// Manager owns the networks of one daemon. Its methods may be called concurrently.
type Manager struct {
	cfg      Config
	defaults defaults
	platform platform
	locks    *keylock.Locker
	log      *slog.Logger

	networkRecords    *state.Bucket[networkRecord]
	sandboxRecords    *state.Bucket[sandboxRecord]
	forwardingRecords *state.Bucket[forwardingRecord]

	mu        sync.Mutex
	networks  map[string]*networkState           // by ID
	names     map[string]string                  // name → ID, also of networks in the making
	making    map[string]networkRecord           // by ID, networks whose name, bridge and subnet are taken but which are not there yet
	sandboxes map[string]sandboxRecord           // by container ID
	zones     map[string]*zone                   // by network ID
	resolvers map[string]*dns.Server             // by container ID
	reserved  map[string][]*hostport.Reservation // by endpoint ID
	pruning   bool
	claims    []io.Closer // bridges that are this daemon's alone
}

// networkState is a network in memory; the record in it is immutable.
type networkState struct {
	networkRecord
	pool *ipam.Pool // nil on host and none
}

// New claims the bridge, so that no other daemon takes this one's interfaces for
// leftovers of its own, and loads the records. It changes nothing else in the
// kernel: call Restore before any other method that does.
func New(_ context.Context, cfg Config) (*Manager, error) {
	if cfg.BridgeName == "" {
		cfg.BridgeName = DefaultBridge
	}
	if len(cfg.AddressPools) == 0 {
		cfg.AddressPools = defaultRanges(cfg)
	}
	if !cfg.HostIP.IsValid() {
		cfg.HostIP = netip.IPv4Unspecified()
	}
	wanted, err := parseDefaults(cfg)
	if err != nil {
		return nil, err
	}
	p, err := newPlatform(cfg)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg, defaults: wanted, platform: p, locks: keylock.New(), log: cfg.Logger,
		networks: map[string]*networkState{}, names: map[string]string{}, making: map[string]networkRecord{},
		zones: map[string]*zone{}, resolvers: map[string]*dns.Server{},
		sandboxes: map[string]sandboxRecord{}, reserved: map[string][]*hostport.Reservation{},
	}
	if err := m.claimBridge(cfg.BridgeName); err != nil {
		return nil, err
	}
	if err := m.load(); err != nil {
		return nil, errors.Join(err, m.dropClaims())
	}
	return m, nil
}

// claimBridge makes the bridge this daemon's alone, until Close or the end of the process.
func (m *Manager) claimBridge(name string) error {
	claim, err := m.platform.claim(claimName(name))
	if errdefs.IsUnavailable(err) {
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("another slipwayd uses the bridge %s: choose another with --bridge", name))
	}
	if err != nil {
		return fmt.Errorf("claiming the bridge %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims = append(m.claims, claim)
	return nil
}

// load fills memory from the records.
func (m *Manager) load() (err error) {
	if m.networkRecords, err = state.NewBucket[networkRecord](m.cfg.State, "networks"); err != nil {
		return err
	}
	if m.sandboxRecords, err = state.NewBucket[sandboxRecord](m.cfg.State, "sandboxes"); err != nil {
		return err
	}
	if m.forwardingRecords, err = state.NewBucket[forwardingRecord](m.cfg.State, "forwarding"); err != nil {
		return err
	}
	networks, err := m.networkRecords.All()
	if err != nil {
		return fmt.Errorf("loading networks: %w", err)
	}
	if m.sandboxes, err = m.sandboxRecords.All(); err != nil {
		return fmt.Errorf("loading network endpoints: %w", err)
	}
	for _, n := range networks {
		if n.Version != recordVersion {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("network %s was recorded in form %d, which this version does not know", n.Name, n.Version))
		}
		m.publishNetwork(n)
	}
	for _, s := range m.sandboxes {
		if s.Version != recordVersion {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("network endpoints of %s were recorded in form %d, which this version does not know", s.ID, s.Version))
		}
		m.index(s)
		for _, e := range s.Endpoints {
			if err := m.leaseAgain(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Manager) leaseAgain(e Endpoint) error {
	n := m.networks[e.NetworkID]
	if n == nil || n.pool == nil || !e.Address.IsValid() {
		return nil
	}
	if _, err := n.pool.Lease(e.Address.Addr()); err != nil {
		return fmt.Errorf("address %s of %s on network %s: %w", e.Address, e.ContainerName, e.NetworkName, err)
	}
	return nil
}

// publishNetwork makes the network visible to everyone.
func (m *Manager) publishNetwork(n networkRecord) {
	known := &networkState{networkRecord: n}
	if n.Subnet.IsValid() {
		reserved := []netip.Addr{n.Gateway}
		for _, addr := range n.Aux {
			reserved = append(reserved, addr)
		}
		known.pool = ipam.NewPool(n.Subnet, n.Range, reserved...)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.networks[n.ID] = known
	m.names[n.Name] = n.ID
	delete(m.making, n.ID)
}

// forgetNetwork takes back publishNetwork, and claims of names and subnets.
func (m *Manager) forgetNetwork(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.networks, id)
	delete(m.making, id)
	for name, owner := range m.names {
		if owner == id {
			delete(m.names, name)
		}
	}
}

// lookup finds a network by name, ID or a unique prefix of an ID.
func (m *Manager) lookup(ref string) (*networkState, error) {
	if ref == mobynetwork.NetworkDefault {
		ref = defaultNetwork
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.networks[m.names[ref]]; n != nil {
		return n, nil
	}
	if n := m.networks[ref]; n != nil {
		return n, nil
	}
	var found []*networkState
	for id, n := range m.networks {
		if ref != "" && strings.HasPrefix(id, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", ref))
	default:
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("network %s is ambiguous (%d matches found on ID prefix)", ref, len(found)))
	}
}

// sandbox returns the published record, or an empty one.
func (m *Manager) sandbox(id string) sandboxRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.sandboxes[id]; ok {
		return s
	}
	return sandboxRecord{Version: recordVersion, ID: id}
}

// storeSandbox makes the record durable and then visible. One without endpoints
// is deleted.
func (m *Manager) storeSandbox(s sandboxRecord) error {
	var err error
	if len(s.Endpoints) == 0 {
		err = m.sandboxRecords.Delete(s.ID)
	} else {
		err = m.sandboxRecords.Put(s.ID, s)
	}
	if err != nil {
		return fmt.Errorf("recording the network endpoints of %s: %w", s.ID, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unindex(m.sandboxes[s.ID])
	if len(s.Endpoints) == 0 {
		delete(m.sandboxes, s.ID)
	} else {
		m.sandboxes[s.ID] = s
		m.index(s)
	}
	return nil
}

// Close waits for what is being removed in the background and lets go of the
// reserved ports of the host and of the bridge, and stops answering name queries.
// Containers stay connected, and the next daemon's Restore takes them over.
func (m *Manager) Close() error {
	ctx := context.Background()
	errs := []error{m.awaitRemovals(ctx)}
	m.mu.Lock()
	resolving := slices.Collect(maps.Keys(m.resolvers))
	m.mu.Unlock()
	for _, id := range resolving {
		m.stopResolver(ctx, id)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, reservations := range m.reserved {
		errs = append(errs, closeAll(reservations))
	}
	clear(m.reserved)
	return errors.Join(append(errs, m.dropClaims())...)
}

// dropClaims requires m.mu, or that nobody else has the Manager yet.
func (m *Manager) dropClaims() error {
	var errs []error
	for _, claim := range m.claims {
		errs = append(errs, claim.Close())
	}
	m.claims = nil
	return errors.Join(errs...)
}

// HostGateway is the host's address on the default network, which the name
// host-gateway stands for. It is not valid before Restore.
func (m *Manager) HostGateway() netip.Addr {
	n, err := m.lookup(defaultNetwork)
	if err != nil {
		return netip.Addr{}
	}
	return n.Gateway
}

// Conflicts names firewall chains of other programs that may cut containers off.
func (m *Manager) Conflicts(ctx context.Context) ([]string, error) {
	return m.platform.Conflicts(ctx)
}

// Watch keeps the firewall as it should be, whatever other programs do to it,
// until ctx ends; it returns early only if it cannot watch.
func (m *Manager) Watch(ctx context.Context) error {
	return m.platform.Watch(ctx)
}

func (m *Manager) publish(action mobyevents.Action, n *networkState, containerID string) {
	attributes := map[string]string{"name": n.Name, "type": n.Driver}
	if containerID != "" {
		attributes["container"] = containerID
	}
	m.cfg.Events.Publish(mobyevents.NetworkEventType, action, n.ID, attributes)
}

// firewallNetwork is the network as the firewall must know it.
func (n networkRecord) firewallNetwork() firewall.Network {
	return firewall.Network{Bridge: n.Bridge, Subnet: n.Subnet, ICC: n.ICC, Masquerade: n.Masquerade, Internal: n.Internal}
}

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func sandboxKey(id string) string { return "sandbox/" + id }

// removalsKey is held, shared, while interfaces are removed in the background.
const removalsKey = "network-removals"

func networkKey(id string) string { return "network/" + id }
