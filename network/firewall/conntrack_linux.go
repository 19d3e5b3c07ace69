package firewall

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/network/hostport"
)

// forgetFlows makes the kernel decide anew where datagrams to the ports go. It
// decides once a flow, and a client that keeps sending from one port keeps a UDP
// flow alive: to the host itself from before the port was published, or to a
// container that is gone. TCP needs none of it: a new connection is a new flow.
func forgetFlows(forwards []Forward) error {
	var filters []netlink.CustomConntrackFilter
	for _, f := range forwards {
		if f.Protocol != hostport.UDP {
			continue
		}
		filter := &netlink.ConntrackFilter{}
		if err := filter.AddProtocol(unix.IPPROTO_UDP); err != nil {
			return fmt.Errorf("conntrack filter: %w", err)
		}
		if err := filter.AddPort(netlink.ConntrackOrigDstPort, f.Host.Port()); err != nil {
			return fmt.Errorf("conntrack filter: %w", err)
		}
		filters = append(filters, filter)
	}
	if len(filters) == 0 {
		return nil
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filters...); err != nil {
		return fmt.Errorf("forgetting the flows of UDP ports: %w", err)
	}
	return nil
}
