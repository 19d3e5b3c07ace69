package firewall

import (
	"context"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Conflicts names the other tables' chains that drop forwarded packets unless one
// of their own rules lets them pass: a packet must pass every table, so such a
// chain can cut containers off whatever our table says. The one that was joined is
// not among them.
func (t *Table) Conflicts(ctx context.Context) ([]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	conn, err := connect()
	if err != nil {
		return nil, err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("listing firewall chains: %w", err)
	}
	var found []string
	for _, c := range chains {
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || c.Table.Name == t.table.Name || !carriesIPv4(c.Table.Family) {
			continue
		}
		refuses, err := t.refuses(conn, c)
		if err != nil {
			return nil, err
		}
		if refuses {
			found = append(found, fmt.Sprintf("%s %s %s", familyName(c.Table.Family), c.Table.Name, c.Name))
		}
	}
	return found, nil
}

// refuses reports whether packets of ours that no rule of the chain mentions are dropped.
func (t *Table) refuses(conn *nftables.Conn, c *nftables.Chain) (bool, error) {
	if drops(c) {
		if !isIPTablesForward(c) {
			return true, nil
		}
		joined, err := t.joined(conn, c)
		return !joined, err
	}
	rules, err := conn.GetRules(c.Table, c)
	if err != nil {
		return false, fmt.Errorf("listing firewall chain %s %s: %w", c.Table.Name, c.Name, err)
	}
	return len(rules) > 0 && refusesAll(rules[len(rules)-1]), nil
}

// refusesAll reports whether the rule drops or rejects without a condition.
func refusesAll(r *nftables.Rule) bool {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log, *expr.Limit:
		case *expr.Reject:
			return true
		case *expr.Verdict:
			return e.Kind == expr.VerdictDrop
		default:
			return false
		}
	}
	return false
}

func carriesIPv4(f nftables.TableFamily) bool {
	return f == nftables.TableFamilyIPv4 || f == nftables.TableFamilyINet
}

func familyName(f nftables.TableFamily) string {
	if f == nftables.TableFamilyINet {
		return "inet"
	}
	return "ip"
}
