package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone is a Zone of fixed names.
type zone map[string][]netip.Addr

func (z zone) Addresses(name string) ([]netip.Addr, bool) {
	addrs, ok := z[strings.ToLower(name)]
	return addrs, ok
}

func (z zone) Name(addr netip.Addr) string {
	for name, addrs := range z {
		if slices.Contains(addrs, addr) {
			return name + ".net"
		}
	}
	return ""
}

var testZone = zone{
	"web":  {netip.MustParseAddr("172.18.0.2")},
	"all":  {netip.MustParseAddr("172.18.0.3"), netip.MustParseAddr("172.18.0.4"), netip.MustParseAddr("172.18.0.5")},
	"many": many(200),
}

func many(count int) []netip.Addr {
	var addrs []netip.Addr
	for i := range count {
		addrs = append(addrs, netip.AddrFrom4([4]byte{172, 19, 0, byte(i)}))
	}
	return addrs
}

func sockets(tb testing.TB) Sockets {
	tb.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return Sockets{UDP: udp, TCP: tcp}
}

// rig is a server in front of upstream servers.
type rig struct {
	*Server

	t        testing.TB
	udp, tcp string
}

func serve(tb testing.TB, upstreams ...*upstream) *rig {
	tb.Helper()
	s := sockets(tb)
	r := &rig{t: tb, udp: s.UDP.LocalAddr().String(), tcp: s.TCP.Addr().String()}
	var list []Upstream
	for _, u := range upstreams {
		list = append(list, Upstream{Addr: netip.MustParseAddrPort(u.udp)})
	}
	r.Server = Serve(Config{
		Zone: testZone, Upstreams: func() []Upstream { return list },
		Dial: func(ctx context.Context, network string, to Upstream) (net.Conn, error) {
			addr := to.Addr.String()
			for _, u := range upstreams {
				if u.udp == addr && network == "tcp" {
					addr = u.tcp
				}
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}, s)
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

func query(name string, kind uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
}

func (r *rig) ask(network string, q *dns.Msg) *dns.Msg {
	r.t.Helper()
	addr := r.udp
	if network == "tcp" {
		addr = r.tcp
	}
	reply, _, err := (&dns.Client{Net: network, Timeout: 10 * time.Second}).Exchange(q, addr)
	if err != nil {
		r.t.Fatalf("%s: %v", q.Question[0].String(), err)
	}
	return reply
}

// upstream answers every query with one address, after a delay.
type upstream struct {
	udp, tcp string
	asked    atomic.Int64
}

func newUpstream(tb testing.TB, answer func(network string, q *dns.Msg) *dns.Msg) *upstream {
	tb.Helper()
	s := sockets(tb)
	u := &upstream{udp: s.UDP.LocalAddr().String(), tcp: s.TCP.Addr().String()}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		u.asked.Add(1)
		if reply := answer(w.LocalAddr().Network(), q); reply != nil {
			_ = w.WriteMsg(reply)
		}
	})
	for _, server := range []*dns.Server{{PacketConn: s.UDP, Handler: handler}, {Listener: s.TCP, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		tb.Cleanup(func() { _ = server.Shutdown() })
	}
	return u
}

func knows(address string) func(string, *dns.Msg) *dns.Msg {
	return func(_ string, q *dns.Msg) *dns.Msg {
		reply := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			reply.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(address)}}
		}
		return reply
	}
}

func fails(code int) func(string, *dns.Msg) *dns.Msg {
	return func(_ string, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, code) }
}

func short(m *dns.Msg) string {
	var data []string
	for _, rr := range m.Answer {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(data)
	return strings.Join(append([]string{dns.RcodeToString[m.Rcode]}, data...), " ")
}

func TestAnswers(t *testing.T) {
	r := serve(t, newUpstream(t, knows("192.0.2.1")))
	for _, tc := range []struct {
		name string
		kind uint16
		want string
	}{
		{"web", dns.TypeA, "NOERROR 172.18.0.2"},
		{"WEB", dns.TypeA, "NOERROR 172.18.0.2"},
		{"web", dns.TypeAAAA, "NOERROR"},
		{"web", dns.TypeMX, "NOERROR"},
		{"web", dns.TypeTXT, "NOERROR"},
		{"all", dns.TypeA, "NOERROR 172.18.0.3 172.18.0.4 172.18.0.5"},
		{"2.0.18.172.in-addr.arpa", dns.TypePTR, "NOERROR web.net."},
		{"9.0.18.172.in-addr.arpa", dns.TypePTR, "NOERROR"}, // the upstream's answer
		{"example.org", dns.TypeA, "NOERROR 192.0.2.1"},
		{"example.org", dns.TypeAAAA, "NOERROR"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := short(r.ask(network, query(tc.name, tc.kind))); got != tc.want {
				t.Errorf("%s %s by %s: %s, want %s", tc.name, dns.TypeToString[tc.kind], network, got, tc.want)
			}
		}
	}
}

// TestSpread: clients take the first address, so each must come first.
func TestSpread(t *testing.T) {
	r := serve(t)
	first := map[string]int{}
	for range 200 {
		first[r.ask("udp", query("all", dns.TypeA)).Answer[0].(*dns.A).A.String()]++
	}
	if len(first) != 3 {
		t.Errorf("first addresses: %v", first)
	}
}

// TestUpstreamOrder: the next server is asked if one cannot answer, but that a
// name does not exist is an answer.
func TestUpstreamOrder(t *testing.T) {
	broken, refusing := newUpstream(t, fails(dns.RcodeServerFailure)), newUpstream(t, fails(dns.RcodeRefused))
	good, never := newUpstream(t, knows("192.0.2.1")), newUpstream(t, knows("192.0.2.2"))
	if got := short(serve(t, broken, refusing, good, never).ask("udp", query("example.org", dns.TypeA))); got != "NOERROR 192.0.2.1" {
		t.Errorf("got %s", got)
	}
	if got := short(serve(t, newUpstream(t, fails(dns.RcodeNameError)), never).ask("udp", query("example.org", dns.TypeA))); got != "NXDOMAIN" {
		t.Errorf("got %s", got)
	}
	if got := short(serve(t, broken).ask("udp", query("example.org", dns.TypeA))); got != "SERVFAIL" {
		t.Errorf("got %s", got)
	}
	if got := short(serve(t).ask("udp", query("example.org", dns.TypeA))); got != "SERVFAIL" {
		t.Errorf("without any: %s", got)
	}
	if never.asked.Load() != 0 {
		t.Error("a server was asked after an answer")
	}
}

// TestForgedAnswer: an answer to another question is none.
func TestForgedAnswer(t *testing.T) {
	forger := newUpstream(t, func(_ string, q *dns.Msg) *dns.Msg {
		reply := knows("192.0.2.66")("", q)
		reply.Question[0].Name = "bank.example."
		return reply
	})
	if got := short(serve(t, forger, newUpstream(t, knows("192.0.2.1"))).ask("udp", query("example.org", dns.TypeA))); got != "NOERROR 192.0.2.1" {
		t.Errorf("got %s", got)
	}
}

// TestTruncation: what does not fit into a datagram is asked for again by TCP, of
// the zone's names and of others.
func TestTruncation(t *testing.T) {
	big := newUpstream(t, func(network string, q *dns.Msg) *dns.Msg {
		reply := new(dns.Msg).SetReply(q)
		if reply.Truncated = network == "udp"; !reply.Truncated {
			for i := range 100 {
				reply.Answer = append(reply.Answer, &dns.A{
					Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, byte(i)),
				})
			}
		}
		return reply
	})
	r := serve(t, big)
	for name, count := range map[string]int{"many": 200, "big.example": 100} {
		q := query(name, dns.TypeA)
		reply := r.ask("udp", q)
		if reply.Compress = true; !reply.Truncated || reply.Len() > dns.MinMsgSize {
			t.Errorf("%s: truncated %v, %d bytes", name, reply.Truncated, reply.Len())
		}
		if reply := r.ask("tcp", q); reply.Truncated || len(reply.Answer) != count {
			t.Errorf("%s by TCP: truncated %v, %d answers", name, reply.Truncated, len(reply.Answer))
		}
	}
	q := query("many", dns.TypeA)
	q.SetEdns0(4096, false)
	if reply := r.ask("udp", q); reply.Truncated || len(reply.Answer) != 200 || reply.IsEdns0() == nil {
		t.Errorf("with room: truncated %v, %d answers", reply.Truncated, len(reply.Answer))
	}
}

// TestSilentUpstream: queries that wait for a server hold up no others, are limited
// in number, and end when the server is closed.
func TestSilentUpstream(t *testing.T) {
	silent := newUpstream(t, func(string, *dns.Msg) *dns.Msg { return nil })
	r := serve(t, silent)
	conn, err := net.Dial("udp", r.udp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range maxForwards {
		packed, err := query(fmt.Sprintf("n%d.example", i), dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(packed); err != nil {
			t.Fatal(err)
		}
		// Not faster than they are read: the socket's buffer is not ours.
		for deadline := time.Now().Add(5 * time.Second); silent.asked.Load() <= int64(i) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	if got := short(r.ask("udp", query("web", dns.TypeA))); got != "NOERROR 172.18.0.2" {
		t.Errorf("a known name: %s", got)
	}
	began := time.Now()
	if got := short(r.ask("udp", query("one.too.many", dns.TypeA))); got != "REFUSED" {
		t.Errorf("beyond the limit: %s after %s", got, time.Since(began))
	}
	began = time.Now()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > upstreamTimeout/2 {
		t.Errorf("closing took %s", took)
	}
}

// TestConnections: connections beyond the limit are closed at once, and there is
// room again when others end.
func TestConnections(t *testing.T) {
	r := serve(t)
	var open []net.Conn
	for range maxConnections {
		conn, err := net.Dial("tcp", r.tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
		if got := askOn(t, conn, "web"); got != "NOERROR 172.18.0.2" {
			t.Fatalf("connection %d: %s", len(open), got)
		}
	}
	extra, err := net.Dial("tcp", r.tcp)
	if err == nil {
		defer extra.Close()
		_ = extra.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := extra.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("one more connection is not closed: %v", err)
		}
	}
	_ = open[0].Close()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		reply, _, err := (&dns.Client{Net: "tcp"}).Exchange(query("web", dns.TypeA), r.tcp)
		if err == nil && short(reply) == "NOERROR 172.18.0.2" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after one has ended: %v", err)
		}
	}
}

func askOn(t *testing.T, conn net.Conn, name string) string {
	t.Helper()
	reply, _, err := new(dns.Client).ExchangeWithConn(query(name, dns.TypeA), &dns.Conn{Conn: conn})
	if err != nil {
		return err.Error()
	}
	return short(reply)
}

// TestRubbish: what is no query gets an error or nothing, and the next query its
// answer.
func TestRubbish(t *testing.T) {
	r := serve(t)
	conn, err := net.Dial("udp", r.udp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	good, err := query("web", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, packet := range [][]byte{{}, {1}, good[:11], good[:len(good)-1], slices.Repeat([]byte{0xff}, 4000), append(good[:12:12], 0xc0, 0x0c, 0, 1, 0, 1)} {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		if got := short(r.ask("udp", query("web", dns.TypeA))); got != "NOERROR 172.18.0.2" {
			t.Errorf("after %x: %s", packet[:min(len(packet), 20)], got)
		}
	}
}

// FuzzAnswer: whatever can be unpacked gets an answer with its number that can be
// packed and is no larger than the client allows.
func FuzzAnswer(f *testing.F) {
	for _, q := range []*dns.Msg{query("web", dns.TypeA), query("all", dns.TypeAAAA), query("2.0.18.172.in-addr.arpa", dns.TypePTR), query("x", dns.TypeANY)} {
		q.SetEdns0(1232, true)
		packed, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	s := &Server{cfg: Config{Zone: testZone, Upstreams: func() []Upstream { return nil }}, forwards: make(chan struct{}, 1)}
	f.Fuzz(func(t *testing.T, packet []byte) {
		var q dns.Msg
		if q.Unpack(packet) != nil || len(q.Question) != 1 {
			return // the library answers these
		}
		for network, limit := range map[string]int{"udp": maxUDPSize, "tcp": dns.MaxMsgSize} {
			reply := s.answer(t.Context(), network, &q)
			packed, err := reply.Pack()
			if err != nil || reply.Id != q.Id || !reply.Response || len(packed) > limit {
				t.Errorf("%s: %d bytes, number %d of %d: %v", network, len(packed), reply.Id, q.Id, err)
			}
		}
	})
}

func TestReversed(t *testing.T) {
	for name, want := range map[string]string{
		"2.0.18.172.in-addr.arpa": "172.18.0.2", "2.0.18.172.IN-ADDR.ARPA": "172.18.0.2",
		"0.18.172.in-addr.arpa": "", "1.2.0.18.172.in-addr.arpa": "", "in-addr.arpa": "", ".in-addr.arpa": "", "x": "", "2.0.18.172.ip6.arpa": "", "::1.in-addr.arpa": "",
	} {
		addr, ok := reversed(name)
		if ok != (want != "") || ok && addr.String() != want {
			t.Errorf("%s: %v %v, want %q", name, addr, ok, want)
		}
	}
}
