package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"slipway/network/hostport"
)

// socketBuffer holds the largest transaction, a rebuild with thousands of ports.
const socketBuffer = 8 << 20

// chunk is how many set elements go into one netlink message, whose attributes
// are limited to 64 KB. Even, so that the two ends of an interval stay together.
const chunk = 256

// Table is one daemon's table: the wanted state in memory, and the same in the
// kernel. Its methods may be called concurrently.
type Table struct {
	layout
	log *slog.Logger

	mu       sync.Mutex
	conn     *nftables.Conn     // nil until needed, and after an error
	networks map[string]Network // by bridge
	forwards map[entrance]Forward
	guarded  bool
}

// entrance is what a forward occupies on the host.
type entrance struct {
	protocol hostport.Protocol
	host     netip.AddrPort
}

func (f Forward) entrance() entrance {
	return entrance{protocol: f.Protocol, host: f.Host}
}

// New returns the table of that name without touching the kernel; Reset builds it.
func New(name string, log *slog.Logger) *Table {
	return &Table{layout: newLayout(name), log: log, networks: map[string]Network{}, forwards: map[entrance]Forward{}}
}

// Name is the table's name in the kernel.
func (t *Table) Name() string {
	return t.table.Name
}

// Reset replaces the table, or makes it, so that it holds exactly the given
// networks and ports. Packets see the old table or the new one, nothing between.
func (t *Table) Reset(ctx context.Context, networks []Network, forwards []Forward) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.networks, t.forwards = map[string]Network{}, map[entrance]Forward{}
	t.want(networks, forwards)
	if err := t.rebuild(); err != nil {
		return err
	}
	t.tryJoin(ctx)
	return nil
}

// Guard drops forwarded packets between interfaces none of which is a bridge. Where
// the table is not built yet, it is a part of it from Reset on.
func (t *Table) Guard(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.guarded {
		return nil
	}
	t.guarded = true
	if len(t.networks) == 0 {
		return nil
	}
	return t.rebuild()
}

// settle does what goes with a change of the table but is no reason to take it back.
func (t *Table) settle(ctx context.Context, networks []Network, forwards []Forward) {
	if len(networks) > 0 {
		t.tryJoin(ctx)
	}
	if err := forgetFlows(forwards); err != nil {
		t.log.WarnContext(ctx, "datagrams may go where they went before for a while", slog.String("error", err.Error()))
	}
}

// tryJoin is not worth failing for: Conflicts names the chain.
func (t *Table) tryJoin(ctx context.Context) {
	if err := t.join(); err != nil {
		t.log.WarnContext(ctx, "the bridges could not be let through another program's firewall chain", slog.String("error", err.Error()))
	}
}

// Delete removes the table, and our rules in iptables' chain.
func (t *Table) Delete() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.networks)
	clear(t.forwards)
	defer t.disconnect()
	return errors.Join(t.join(), t.transact(func(conn *nftables.Conn) error {
		conn.AddTable(t.table) // so that there is one to delete
		conn.DelTable(t.table)
		return nil
	}))
}

// AddNetwork makes the bridge known. Adding it again does nothing.
func (t *Table) AddNetwork(ctx context.Context, n Network) error {
	return t.add(ctx, []Network{n}, nil)
}

// RemoveNetwork forgets the bridge; it is no error if it is not known.
func (t *Table) RemoveNetwork(ctx context.Context, n Network) error {
	return t.remove(ctx, []Network{n}, nil)
}

// Open starts redirecting the ports. Opening one again does nothing.
func (t *Table) Open(ctx context.Context, forwards []Forward) error {
	return t.add(ctx, nil, forwards)
}

// Close stops redirecting the ports; it is no error if some are not redirected.
func (t *Table) Close(ctx context.Context, forwards []Forward) error {
	return t.remove(ctx, nil, forwards)
}

func (t *Table) add(ctx context.Context, networks []Network, forwards []Forward) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	networks = slices.DeleteFunc(slices.Clone(networks), func(n Network) bool { return t.networks[n.Bridge] == n })
	forwards = slices.DeleteFunc(slices.Clone(forwards), func(f Forward) bool { return t.forwards[f.entrance()] == f })
	t.want(networks, forwards)
	if err := t.apply(networks, forwards, (*nftables.Conn).SetAddElements); err != nil {
		t.forget(networks, forwards)
		return err
	}
	t.settle(ctx, networks, forwards)
	return nil
}

func (t *Table) remove(ctx context.Context, networks []Network, forwards []Forward) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	networks = slices.DeleteFunc(slices.Clone(networks), func(n Network) bool { return t.networks[n.Bridge] != n })
	forwards = slices.DeleteFunc(slices.Clone(forwards), func(f Forward) bool { return t.forwards[f.entrance()] != f })
	t.forget(networks, forwards)
	if err := t.apply(networks, forwards, (*nftables.Conn).SetDeleteElements); err != nil {
		t.want(networks, forwards)
		return err
	}
	t.settle(ctx, networks, forwards)
	return nil
}

func (t *Table) want(networks []Network, forwards []Forward) {
	for _, n := range networks {
		t.networks[n.Bridge] = n
	}
	for _, f := range forwards {
		t.forwards[f.entrance()] = f
	}
}

func (t *Table) forget(networks []Network, forwards []Forward) {
	for _, n := range networks {
		delete(t.networks, n.Bridge)
	}
	for _, f := range forwards {
		delete(t.forwards, f.entrance())
	}
}

type operation func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error

// apply changes the kernel's table by the given members. If it turns out that the
// table is not what it was left as, because somebody flushed the host's rules, it
// is built anew.
func (t *Table) apply(networks []Network, forwards []Forward, op operation) error {
	if len(networks) == 0 && len(forwards) == 0 {
		return nil
	}
	err := t.transact(func(conn *nftables.Conn) error {
		return change(conn, t.elements(networks, forwards), op)
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) {
		return t.rebuild()
	}
	return err
}

func (t *Table) rebuild() error {
	return t.transact(func(conn *nftables.Conn) error {
		conn.AddTable(t.table)
		conn.DelTable(t.table)
		if err := t.build(conn, t.guarded); err != nil {
			return err
		}
		return change(conn, t.wanted(), (*nftables.Conn).SetAddElements)
	})
}

// wanted is everything that should be in the sets and maps.
func (t *Table) wanted() []elements {
	return t.elements(slices.Collect(maps.Values(t.networks)), slices.Collect(maps.Values(t.forwards)))
}

func change(conn *nftables.Conn, all []elements, op operation) error {
	for _, e := range all {
		for part := range slices.Chunk(e.values, chunk) {
			if err := op(conn, e.set, part); err != nil {
				return fmt.Errorf("set %s: %w", e.set.Name, err)
			}
		}
	}
	return nil
}

// transact sends what fill adds to the batch as one transaction. The connection
// stays open: closing one makes the kernel wait for its clean-up of what was
// deleted, more than ten milliseconds. After an error it may hold answers that
// nobody read, and the next transaction starts with a new one.
func (t *Table) transact(fill func(*nftables.Conn) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("firewall table %s: %w", t.table.Name, err)
			t.disconnect()
		}
	}()
	if t.conn == nil {
		if t.conn, err = connect(nftables.AsLasting()); err != nil {
			return err
		}
	}
	if err := fill(t.conn); err != nil {
		return err
	}
	return t.conn.Flush()
}

func (t *Table) disconnect() {
	if t.conn != nil {
		_ = t.conn.CloseLasting() // nothing is lost with it
		t.conn = nil
	}
}

func connect(options ...nftables.ConnOption) (*nftables.Conn, error) {
	conn, err := nftables.New(append(options, nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer))
	}))...)
	if err != nil {
		return nil, fmt.Errorf("nftables connection: %w", err)
	}
	return conn, nil
}

// Forwards lists the ports that the kernel redirects now.
func (t *Table) Forwards(ctx context.Context) ([]Forward, error) {
	present, err := t.read(ctx, t.addrPorts, t.anyPorts)
	if err != nil {
		return nil, err
	}
	found := make([]Forward, len(present))
	for i, e := range present {
		if found[i], err = parseForward(e); err != nil {
			return nil, fmt.Errorf("firewall table %s: %w", t.table.Name, err)
		}
	}
	return found, nil
}

// Bridges lists the bridges that the kernel's table knows.
func (t *Table) Bridges(ctx context.Context) ([]string, error) {
	present, err := t.read(ctx, t.bridges)
	names := make([]string, len(present))
	for i, e := range present {
		names[i] = parseName(e.Key)
	}
	return names, err
}

// read returns the members of the sets; there are none if the table is gone.
func (t *Table) read(ctx context.Context, sets ...*nftables.Set) ([]nftables.SetElement, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	conn, err := connect()
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTablesOfFamily(t.table.Family)
	if err != nil {
		return nil, fmt.Errorf("listing firewall tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == t.table.Name }) {
		return nil, nil
	}
	var found []nftables.SetElement
	for _, set := range sets {
		members, err := conn.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("firewall set %s: %w", set.Name, err)
		}
		found = append(found, members...)
	}
	return found, nil
}
