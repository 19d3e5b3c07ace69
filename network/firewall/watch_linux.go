package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// quiet is how long the host's rules must have been left alone before they are
// looked at: other tools change them in many steps.
const quiet = 300 * time.Millisecond

// Watch keeps the table as it should be until ctx ends: it builds it again when
// somebody has flushed the host's rules, or a set or map of ours, and joins
// iptables' FORWARD chain when somebody, such as a Docker that starts later, makes
// it drop.
func (t *Table) Watch(ctx context.Context) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return fmt.Errorf("watching the firewall: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })() // wakes Receive
	for {
		if err := awaitQuiet(ctx, conn); err != nil || ctx.Err() != nil {
			return err
		}
		if err := t.repair(); err != nil {
			t.log.ErrorContext(ctx, "the firewall could not be repaired", slog.String("error", err.Error()))
		}
	}
}

// awaitQuiet returns when the rules were changed and then not for a while, or when
// ctx ends.
func awaitQuiet(ctx context.Context, conn *netlink.Conn) error {
	changed := false
	for {
		var deadline time.Time
		if changed {
			deadline = time.Now().Add(quiet)
		}
		if err := conn.SetReadDeadline(deadline); err != nil {
			return fmt.Errorf("watching the firewall: %w", err)
		}
		if ctx.Err() != nil { // its wake-up may have come before our deadline
			return nil
		}
		_, err := conn.Receive()
		switch {
		case err == nil || errors.Is(err, unix.ENOBUFS): // ENOBUFS: more changes than fit
			changed = true
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			return fmt.Errorf("watching the firewall: %w", err)
		}
	}
}

// repair rebuilds the table if it is gone or anything in it was, and joins.
func (t *Table) repair() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.networks) == 0 {
		return nil // not built yet
	}
	conn, err := connect()
	if err != nil {
		return err
	}
	whole, err := t.whole(conn)
	if err != nil {
		return err
	}
	if !whole {
		if err := t.rebuild(); err != nil {
			return err
		}
		// Meanwhile, datagrams to published ports were the host's own.
		err = forgetFlows(slices.Collect(maps.Values(t.forwards)))
	}
	return errors.Join(err, t.join())
}

// whole reports whether the kernel's table has all of its chains with rules in
// them, and in its sets and maps what should be there and nothing else.
func (t *Table) whole(conn *nftables.Conn) (bool, error) {
	chains, err := conn.ListChainsOfTableFamily(t.table.Family)
	if err != nil {
		return false, fmt.Errorf("listing firewall chains: %w", err)
	}
	filled := 0
	for _, c := range chains {
		if c.Table.Name != t.table.Name {
			continue
		}
		rules, err := conn.GetRules(t.table, c)
		if err != nil {
			return false, fmt.Errorf("listing firewall chain %s: %w", c.Name, err)
		}
		if len(rules) > 0 {
			filled++
		}
	}
	if filled < chainCount {
		return false, nil // and perhaps without its sets
	}
	for _, wanted := range t.wanted() {
		present, err := conn.GetSetElements(wanted.set)
		if err != nil {
			return false, fmt.Errorf("firewall set %s: %w", wanted.set.Name, err)
		}
		if !sameElements(present, wanted.values) {
			return false, nil
		}
	}
	return true, nil
}

// sameElements compares what decides where a packet goes, in any order.
func sameElements(a, b []nftables.SetElement) bool {
	if len(a) != len(b) {
		return false
	}
	type member struct {
		key, value string
		last       bool
	}
	members := make(map[member]bool, len(a))
	for _, e := range a {
		members[member{string(e.Key), string(e.Val), e.IntervalEnd}] = true
	}
	return !slices.ContainsFunc(b, func(e nftables.SetElement) bool {
		return !members[member{string(e.Key), string(e.Val), e.IntervalEnd}]
	})
}
