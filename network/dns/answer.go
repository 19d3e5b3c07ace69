package dns

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// ttl is for how long, in seconds, a client may remember an answer of the zone;
// Docker's. Resolvers of C libraries remember nothing.
const ttl = 600

const reverseZone = ".in-addr.arpa"

// answer is the answer to a query that came by the network "udp" or "tcp".
func (s *Server) answer(ctx context.Context, network string, query *dns.Msg) *dns.Msg {
	reply := s.fromZone(query)
	if reply == nil {
		return s.forward(ctx, network, query)
	}
	size := dns.MaxMsgSize
	if option := query.IsEdns0(); option != nil {
		reply.SetEdns0(maxUDPSize, false)
		if network == "udp" {
			size = max(dns.MinMsgSize, min(int(option.UDPSize()), maxUDPSize))
		}
	} else if network == "udp" {
		size = dns.MinMsgSize
	}
	reply.Truncate(size)
	return reply
}

// fromZone answers if the zone knows the name or the address. Of a name that is
// known everything is: asking another server for its IPv6 address or its mail
// exchanger would give a client that a name does not exist of which it has an
// address.
func (s *Server) fromZone(query *dns.Msg) *dns.Msg {
	question := query.Question[0]
	if question.Qclass != dns.ClassINET {
		return nil
	}
	name := strings.TrimSuffix(question.Name, ".")
	header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: ttl}
	if question.Qtype == dns.TypePTR {
		addr, ok := reversed(name)
		if !ok {
			return nil
		}
		found := s.cfg.Zone.Name(addr)
		if found == "" {
			return nil
		}
		return positive(query, &dns.PTR{Hdr: header, Ptr: dns.Fqdn(found)})
	}
	addrs, known := s.cfg.Zone.Addresses(name)
	if !known {
		return nil
	}
	if question.Qtype != dns.TypeA {
		return positive(query)
	}
	// Clients take the first one: so each member has its share.
	addrs = slices.Clone(addrs)
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] }) //nolint:gosec // the order is no secret
	var records []dns.RR
	for _, addr := range addrs {
		records = append(records, &dns.A{Hdr: header, A: addr.AsSlice()})
	}
	return positive(query, records...)
}

func positive(query *dns.Msg, records ...dns.RR) *dns.Msg {
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	reply.Answer = records
	return reply
}

func failure(query *dns.Msg, code int) *dns.Msg {
	reply := new(dns.Msg).SetRcode(query, code)
	reply.RecursionAvailable = true
	return reply
}

// reversed reads the address out of a name such as 2.0.18.172.in-addr.arpa.
func reversed(name string) (netip.Addr, bool) {
	start := len(name) - len(reverseZone)
	if start < 0 || !strings.EqualFold(name[start:], reverseZone) {
		return netip.Addr{}, false
	}
	parts := strings.Split(name[:start], ".")
	slices.Reverse(parts)
	addr, err := netip.ParseAddr(strings.Join(parts, "."))
	return addr, err == nil && addr.Is4()
}
