package ipam

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
)

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func TestChoose(t *testing.T) {
	small := []Range{{Base: netip.MustParsePrefix("10.0.0.0/29"), Size: 30}}
	for _, test := range []struct {
		name   string
		ranges []Range
		taken  []netip.Prefix
		want   string // empty: none is left
	}{
		{"first", DefaultRanges(), nil, "172.17.0.0/16"},
		{"host on the first", DefaultRanges(), prefixes("172.17.3.0/24"), "172.18.0.0/16"},
		{"gap", DefaultRanges(), prefixes("172.17.0.0/16", "172.18.0.0/16", "172.20.0.0/16"), "172.19.0.0/16"},
		{"all of 172.16/12", DefaultRanges(), prefixes("172.16.0.0/12"), "192.168.0.0/20"},
		{"and a home network", DefaultRanges(), prefixes("172.16.0.0/12", "192.168.1.0/24"), "192.168.16.0/20"},
		{"a route for half the world", DefaultRanges(), prefixes("128.0.0.0/1"), ""},
		{"a small range", small, prefixes("10.0.0.0/30"), "10.0.0.4/30"},
		{"a full range", small, prefixes("10.0.0.0/30", "10.0.0.4/32"), ""},
		{"the end of all addresses", []Range{{Base: netip.MustParsePrefix("255.255.255.0/24"), Size: 25}}, prefixes("255.255.255.0/24"), ""},
	} {
		got, err := Choose(test.ranges, test.taken)
		if test.want == "" {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: got %s, %v", test.name, got, err)
			}
			continue
		}
		if err != nil || got.String() != test.want {
			t.Errorf("%s: got %s, %v; want %s", test.name, got, err, test.want)
		}
	}
}

func TestPool(t *testing.T) {
	gateway := netip.MustParseAddr("10.0.0.1")
	p := NewPool(netip.MustParsePrefix("10.0.0.0/29"), netip.Prefix{}, gateway)
	var got []netip.Addr
	for {
		addr, err := p.Lease(netip.Addr{})
		if err != nil {
			if !errdefs.IsResourceExhausted(err) {
				t.Fatal(err)
			}
			break
		}
		got = append(got, addr)
	}
	if len(got) != 5 || got[0].String() != "10.0.0.2" || got[4].String() != "10.0.0.6" {
		t.Errorf("leased %v", got)
	}
	for _, taken := range []string{"10.0.0.1", "10.0.0.3", "10.0.0.0", "10.0.0.7"} {
		if _, err := p.Lease(netip.MustParseAddr(taken)); !errdefs.IsPermissionDenied(err) {
			t.Errorf("%s was leased twice: %v", taken, err)
		}
	}
	if _, err := p.Lease(netip.MustParseAddr("10.0.0.8")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an address outside the subnet: %v", err)
	}
	p.Release(got[1])
	p.Release(got[1])
	if addr, err := p.Lease(got[1]); err != nil || addr != got[1] {
		t.Errorf("leasing a released address: %v, %v", addr, err)
	}
}

func TestPoolLetsAddressesRest(t *testing.T) {
	p := NewPool(netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.0.0.64/30"))
	var order []string
	for range 5 {
		addr, err := p.Lease(netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		p.Release(addr)
		order = append(order, addr.String())
	}
	if order[0] != "10.0.0.64" || order[3] != "10.0.0.67" || order[4] != "10.0.0.64" {
		t.Errorf("order %v", order)
	}
}
