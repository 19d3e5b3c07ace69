package network

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// forwardingKey is the key of the only forwardingRecord.
const forwardingKey = "host"

// forwardingRecord says that in this boot of the machine it was this daemon that
// made the host forward packets. With the next boot the kernel's setting is gone,
// and the record says nothing.
type forwardingRecord struct {
	Version int
	Boot    string
}

// guardHost has the firewall keep the host's other interfaces apart if the host
// would not forward packets but for this daemon. It comes before the forwarding is
// enabled, and at the start before the firewall's reset, with which it takes effect.
func (m *Manager) guardHost(ctx context.Context) error {
	on, boot, err := m.platform.Forwarding()
	if err != nil {
		return err
	}
	if on {
		record, err := m.forwardingRecords.Get(forwardingKey)
		if errdefs.IsNotFound(err) || err == nil && record.Boot != boot {
			return nil // somebody else did
		}
		if err != nil {
			return fmt.Errorf("loading who made the host forward packets: %w", err)
		}
		return m.platform.Guard(ctx)
	}
	if err := m.forwardingRecords.Put(forwardingKey, forwardingRecord{Version: recordVersion, Boot: boot}); err != nil {
		return fmt.Errorf("recording who made the host forward packets: %w", err)
	}
	m.log.InfoContext(ctx, "IP forwarding is turned on for containers; between interfaces that are not bridges it stays off, "+
		"unless net.ipv4.ip_forward is 1 when the host has started")
	return m.platform.Guard(ctx)
}
