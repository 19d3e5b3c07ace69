package firewall

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// The chain of iptables in which forwarded packets pass Docker's, ufw's and an
// administrator's own rules.
const (
	iptablesTable = "filter"
	iptablesChain = "FORWARD"
)

// passage is a rule of ours at the end of that chain: what no other rule there has
// decided about may pass if it comes from, or goes to, one of our bridges.
type passage struct {
	key    expr.MetaKey
	bridge string
}

// mark is the rule's comment, by which it is recognised.
func (t *Table) mark(p passage) string {
	if p.key == expr.MetaKeyIIFNAME {
		return t.table.Name + " from " + p.bridge
	}
	return t.table.Name + " to " + p.bridge
}

func (t *Table) passages() []passage {
	var all []passage
	for _, n := range t.networks {
		all = append(all, passage{expr.MetaKeyIIFNAME, n.Bridge}, passage{expr.MetaKeyOIFNAME, n.Bridge})
	}
	return all
}

// join lets our bridges through iptables' FORWARD chain where its policy is to
// drop, as Docker and ufw make it. The rules come last, so that all that others
// say about a packet goes first, such as Docker's isolation of its own bridges;
// what may reach our bridges is still our own table's to decide. Without the
// policy, or without a bridge, our rules are taken out again.
func (t *Table) join() error {
	conn, err := connect()
	if err != nil {
		return err
	}
	chain, err := forwardChain(conn)
	if err != nil || chain == nil {
		return err
	}
	rules, err := conn.GetRules(chain.Table, chain)
	if err != nil {
		return fmt.Errorf("listing chain %s: %w", iptablesChain, err)
	}
	var missing []passage
	if drops(chain) {
		missing = t.passages()
	}
	for _, r := range rules {
		comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		if !strings.HasPrefix(comment, t.table.Name+" ") {
			continue
		}
		i := slices.IndexFunc(missing, func(p passage) bool { return t.mark(p) == comment })
		if i >= 0 {
			missing = slices.Delete(missing, i, i+1)
			continue
		}
		if err := conn.DelRule(r); err != nil {
			return fmt.Errorf("chain %s: %w", iptablesChain, err)
		}
	}
	for _, p := range missing {
		conn.AddRule(&nftables.Rule{
			Table: chain.Table, Chain: chain, UserData: userdata.AppendString(nil, userdata.TypeComment, t.mark(p)),
			Exprs: []expr.Any{ // in the form that iptables itself uses and can show
				&expr.Meta{Key: p.key, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(p.bridge + "\x00")},
				&expr.Counter{},
				verdict(expr.VerdictAccept),
			},
		})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("joining chain %s: %w", iptablesChain, err)
	}
	return nil
}

// joined reports whether join has nothing left to do in the chain.
func (t *Table) joined(conn *nftables.Conn, chain *nftables.Chain) (bool, error) {
	rules, err := conn.GetRules(chain.Table, chain)
	if err != nil {
		return false, fmt.Errorf("listing chain %s: %w", chain.Name, err)
	}
	present := map[string]bool{}
	for _, r := range rules {
		comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		present[comment] = true
	}
	for _, p := range t.passages() {
		if !present[t.mark(p)] {
			return false, nil
		}
	}
	return true, nil
}

func forwardChain(conn *nftables.Conn) (*nftables.Chain, error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, fmt.Errorf("listing firewall chains: %w", err)
	}
	if i := slices.IndexFunc(chains, isIPTablesForward); i >= 0 {
		return chains[i], nil
	}
	return nil, nil //nolint:nilnil // no chain, nothing to join
}

func isIPTablesForward(c *nftables.Chain) bool {
	return c.Table.Name == iptablesTable && c.Name == iptablesChain && c.Table.Family == nftables.TableFamilyIPv4
}

func drops(c *nftables.Chain) bool {
	return c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
}
