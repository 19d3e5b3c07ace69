// Package ipam hands out IPv4 subnets and the addresses in them. It holds no
// records and does no I/O: its owner, package network, keeps leases inside the
// records of the endpoints that use them and fills the pools from those at start,
// so that a lease and its endpoint cannot disagree after a crash.
//
// Locks: each Pool has one mutex of its own, held for memory operations only.
package ipam

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"
)

// Range is a block of addresses that is cut into subnets of Size prefix bits.
type Range struct {
	Base netip.Prefix
	Size int
}

// DefaultRanges are the blocks Docker uses when the user names none.
func DefaultRanges() []Range {
	return []Range{
		{Base: netip.MustParsePrefix("172.17.0.0/16"), Size: 16},
		{Base: netip.MustParsePrefix("172.18.0.0/16"), Size: 16},
		{Base: netip.MustParsePrefix("172.19.0.0/16"), Size: 16},
		{Base: netip.MustParsePrefix("172.20.0.0/14"), Size: 16},
		{Base: netip.MustParsePrefix("172.24.0.0/14"), Size: 16},
		{Base: netip.MustParsePrefix("172.28.0.0/14"), Size: 16},
		{Base: netip.MustParsePrefix("192.168.0.0/16"), Size: 20},
	}
}

// Validate refuses a range that cannot be cut into usable subnets.
func (r Range) Validate() error {
	if !r.Base.IsValid() || !r.Base.Addr().Is4() || r.Size < r.Base.Bits() || r.Size > 30 {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid address pool: base %s, size %d", r.Base, r.Size))
	}
	return nil
}

// Choose returns the first subnet of the ranges that overlaps none of the taken
// prefixes.
func Choose(ranges []Range, taken []netip.Prefix) (netip.Prefix, error) {
	for _, r := range ranges {
		at, end := bounds(r.Base.Masked())
		for {
			candidate := netip.PrefixFrom(fromUint(at), r.Size)
			_, last := bounds(candidate)
			free := true
			for _, t := range taken {
				if candidate.Overlaps(t) {
					free = false
					_, over := bounds(t.Masked())
					last = max(last, over) // a bigger prefix covers many candidates
				}
			}
			if free {
				return candidate, nil
			}
			if last >= end {
				break
			}
			at = last + 1
		}
	}
	return netip.Prefix{}, errdefs.ErrInvalidArgument.WithMessage("all predefined address pools have been fully subnetted")
}

// Pool leases the addresses of one subnet.
type Pool struct {
	subnet netip.Prefix
	first  uint32 // lowest and highest address that may be leased without being asked for
	last   uint32

	mu   sync.Mutex
	used map[netip.Addr]struct{}
	next uint32 // where the next search starts: a released address rests as long as possible
}

// NewPool makes a pool for subnet whose dynamic leases come from within (the
// whole subnet if it is the zero Prefix). The reserved addresses, such as the
// gateway, are never leased, and neither are the network and broadcast addresses.
func NewPool(subnet, within netip.Prefix, reserved ...netip.Addr) *Pool {
	if !within.IsValid() {
		within = subnet
	}
	p := &Pool{subnet: subnet.Masked(), used: map[netip.Addr]struct{}{}}
	p.first, p.last = bounds(within.Masked())
	low, high := bounds(p.subnet)
	p.used[fromUint(low)], p.used[fromUint(high)] = struct{}{}, struct{}{}
	for _, addr := range reserved {
		if addr.IsValid() {
			p.used[addr] = struct{}{}
		}
	}
	p.next = p.first
	return p
}

// Lease takes addr, or the next free address if addr is not valid.
func (p *Pool) Lease(addr netip.Addr) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if addr.IsValid() {
		if !p.subnet.Contains(addr) {
			return netip.Addr{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
				"no configured subnet contains IP address %s", addr))
		}
		if _, taken := p.used[addr]; taken {
			return netip.Addr{}, errdefs.ErrPermissionDenied.WithMessage("Address already in use")
		}
		p.used[addr] = struct{}{}
		return addr, nil
	}
	size := uint64(p.last) - uint64(p.first) + 1
	for range size {
		candidate := fromUint(p.next)
		if p.next == p.last {
			p.next = p.first
		} else {
			p.next++
		}
		if _, taken := p.used[candidate]; !taken {
			p.used[candidate] = struct{}{}
			return candidate, nil
		}
	}
	return netip.Addr{}, errdefs.ErrResourceExhausted.WithMessage(
		"no available IPv4 addresses on this network's address pools: " + p.subnet.String())
}

// Release gives addr back; releasing a free address does nothing.
func (p *Pool) Release(addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, addr)
}

// FirstAddress is the lowest address of subnet that a host may have: the
// gateway, by Docker's convention.
func FirstAddress(subnet netip.Prefix) netip.Addr {
	return subnet.Masked().Addr().Next()
}

// Bounds are the lowest and the highest address of the prefix.
func Bounds(p netip.Prefix) (low, high netip.Addr) {
	first, last := bounds(p.Masked())
	return fromUint(first), fromUint(last)
}

func bounds(p netip.Prefix) (low, high uint32) {
	low = toUint(p.Addr())
	return low, low | (1<<(32-p.Bits()) - 1) // a shift by 32 leaves 0, and 0 - 1 every bit
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}
