package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	mobynetwork "github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"
)

// look asks the name server of a sandbox and returns the answer's addresses or
// names, or the code if it is not success.
func look(tb testing.TB, path, name string, kind uint16) string {
	tb.Helper()
	got := map[string]string{}
	for _, network := range []string{"udp", "tcp"} {
		reply, err := in(tb, path, func() (*dns.Msg, error) {
			conn, err := net.DialTimeout(network, "127.0.0.11:53", time.Second)
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			client := &dns.Client{Net: network, Timeout: 5 * time.Second}
			reply, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), &dns.Conn{Conn: conn})
			return reply, err
		})
		if err != nil {
			if got[network] = err.Error(); errors.Is(err, unix.ECONNREFUSED) {
				got[network] = "refused"
			}
			continue
		}
		var data []string
		for _, rr := range reply.Answer {
			data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
		slices.Sort(data)
		if got[network] = strings.Join(data, " "); reply.Rcode != dns.RcodeSuccess {
			got[network] = dns.RcodeToString[reply.Rcode]
		}
	}
	if got["udp"] != got["tcp"] {
		tb.Errorf("%s: %q by UDP, %q by TCP", name, got["udp"], got["tcp"])
	}
	return got["udp"]
}

func wantLook(tb testing.TB, path, name, want string) {
	tb.Helper()
	if got := look(tb, path, name, dns.TypeA); got != want {
		tb.Errorf("%s: %q, want %q", name, got, want)
	}
}

// nobody is an upstream server that cannot be reached.
var nobody = []netip.Addr{netip.MustParseAddr("127.0.0.11")}

func member(network string, more func(*EndpointRequest)) func(*EndpointRequest) {
	return func(r *EndpointRequest) {
		r.Network, r.DNS = network, nobody
		if more != nil {
			more(r)
		}
	}
}

func TestNames(t *testing.T) {
	d := newDaemon(t, nil)
	for _, name := range []string{"front", "back", "dotted.net"} {
		must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: name}))
	}
	aliased := func(r *EndpointRequest) { r.Aliases = []string{"Service", "both"}; r.Hostname = "a-host" }
	a := d.guest("web-a", member("front", aliased))
	b := d.guest("web-b", member("front", func(r *EndpointRequest) { r.Aliases = []string{"both"} }))
	hidden := d.guest("hidden", member("back", nil))
	front := d.guest("double", member("front", nil))
	back := d.guest("double", member("back", nil))
	dotted := d.guest("double", member("dotted.net", nil))
	alone := d.guest("on-the-default-bridge", nil)
	addr := func(e Endpoint) string { return e.Address.Addr().String() }
	both := []string{addr(a), addr(b)}
	slices.Sort(both)

	for name, want := range map[string]string{
		"web-a": addr(a), "WEB-A": addr(a), "web-a.front": addr(a), "service": addr(a), "a-host": addr(a), id("web-a")[:12]: addr(a),
		"both": strings.Join(both, " "), "both.front": strings.Join(both, " "), "web-b": addr(b), "double": addr(front),
		"hidden": "SERVFAIL", "hidden.back": "SERVFAIL", "web-a.back": "SERVFAIL", "on-the-default-bridge": "SERVFAIL", "": "SERVFAIL", "front": "SERVFAIL",
	} {
		wantLook(t, d.ns("web-b"), name, want)
	}
	for name, want := range map[string]string{
		"hidden": addr(hidden), "web-a": addr(a), "double": addr(back), "double.front": addr(front), "double.dotted.net": addr(dotted), "double.net": "SERVFAIL",
	} {
		wantLook(t, d.ns("double"), name, want)
	}
	reverse, err := dns.ReverseAddr(addr(a))
	must(t, err)
	if got := look(t, d.ns("web-b"), reverse, dns.TypePTR); got != "web-a.front." {
		t.Errorf("name of %s: %q", addr(a), got)
	}
	if got := look(t, d.ns("hidden"), reverse, dns.TypePTR); got != "SERVFAIL" {
		t.Errorf("name of %s from another network: %q", addr(a), got)
	}
	if got := look(t, d.ns("web-b"), "web-a", dns.TypeAAAA); got != "" {
		t.Errorf("IPv6 of web-a: %q", got)
	}
	if got := look(t, d.ns("on-the-default-bridge"), "web-a", dns.TypeA); got != "refused" {
		t.Errorf("there is a name server on the default bridge: %q", got)
	}

	must(t, d.Rename(t.Context(), id("web-a"), "renamed"))
	wantLook(t, d.ns("web-b"), "renamed", addr(a))
	wantLook(t, d.ns("web-b"), "web-a", "SERVFAIL")
	must(t, d.Disconnect(t.Context(), id("web-a"), "front"))
	wantLook(t, d.ns("web-b"), "renamed", "SERVFAIL")
	wantLook(t, d.ns("web-b"), "both", addr(b))
	d.guest("on-the-default-bridge", member("back", nil))
	wantLook(t, d.ns("on-the-default-bridge"), "hidden", addr(hidden))
	_ = alone

	// The next daemon takes the name servers over; the ports of the old are forgotten.
	d.crash()
	if got := look(t, d.ns("web-b"), "both", dns.TypeA); got != "refused" {
		t.Errorf("without a daemon: %q", got)
	}
	d.open()
	live := []string{id("web-a"), id("web-b"), id("hidden"), id("double"), id("on-the-default-bridge")}
	d.restore(live...)
	wantLook(t, d.ns("web-b"), "both", addr(b))
	wantLook(t, d.ns("double"), "hidden", addr(hidden))
	must(t, d.DeleteSandbox(t.Context(), id("hidden")))
	wantLook(t, d.ns("double"), "hidden", "SERVFAIL")
	wantNoLeaks(t, d, live...)
}

func TestLinks(t *testing.T) {
	d := newDaemon(t, nil)
	for _, name := range []string{"front", "back"} {
		must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: name}))
	}
	db := d.guest("db", member("front", nil)).Address.Addr().String()
	d.guest("app", member("front", func(r *EndpointRequest) {
		r.Links = []string{"db:storage", id("db") + ":by-id", "db", "later:soon"}
	}))
	d.guest("app", member("back", nil))
	d.guest("other", member("front", nil))
	for _, name := range []string{"storage", "Storage", "by-id", "db", "storage.front"} {
		wantLook(t, d.ns("app"), name, db)
	}
	wantLook(t, d.ns("app"), "storage.back", "SERVFAIL")
	wantLook(t, d.ns("other"), "storage", "SERVFAIL")
	wantLook(t, d.ns("app"), "soon", "SERVFAIL")
	later := d.guest("later", member("front", nil)).Address.Addr().String()
	wantLook(t, d.ns("app"), "soon", later)
}

// nameServer answers every name with the address, at address:53 in the namespace.
func nameServer(t *testing.T, path, address, answer string) {
	t.Helper()
	conn, err := in(t, path, func() (net.PacketConn, error) { return net.ListenPacket("udp4", address+":53") })
	must(t, err)
	listener, err := in(t, path, func() (net.Listener, error) { return net.Listen("tcp4", address+":53") })
	must(t, err)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		reply.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET}, A: net.ParseIP(answer),
		}}
		_ = w.WriteMsg(reply)
	})
	for _, server := range []*dns.Server{{PacketConn: conn, Handler: handler}, {Listener: listener, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
}

// TestUpstreams: what the networks do not know is asked from where the server can
// be reached: the host's own on its loopback from the host, those that a user names
// from the container. An internal network gets nothing from outside.
func TestUpstreams(t *testing.T) {
	d := newDaemon(t, nil)
	outside := neighbour(t)
	for name, internal := range map[string]bool{"front": false, "inner": true} {
		must1(t)(d.Create(t.Context(), mobynetwork.CreateRequest{Name: name, Internal: internal}))
	}
	nameServer(t, outside, "10.99.0.2", "192.0.2.10")
	nameServer(t, "", "127.0.0.53", "192.0.2.53")
	join := func(name, network string, servers ...string) {
		t.Helper()
		d.guest(name, func(r *EndpointRequest) {
			r.Network = network
			for _, s := range servers {
				r.DNS = append(r.DNS, netip.MustParseAddr(s))
			}
		})
	}
	join("named", "front", "10.99.0.2")
	wantLook(t, d.ns("named"), "example.org", "192.0.2.10")
	join("inside", "inner", "10.99.0.2")
	wantLook(t, d.ns("inside"), "example.org", "SERVFAIL")
	wantLook(t, d.ns("inside"), "inside", d.Endpoints(id("inside"))[0].Address.Addr().String())

	// A server in the container itself has port 53 to itself.
	join("server", "front", "127.0.0.1")
	nameServer(t, d.ns("server"), "0.0.0.0", "192.0.2.1")
	wantLook(t, d.ns("server"), "example.org", "192.0.2.1")
	wantLook(t, d.ns("server"), "named", d.Endpoints(id("named"))[0].Address.Addr().String())

	// And one on an internal network can be asked by its members.
	join("resolver", "inner")
	nameServer(t, d.ns("resolver"), "0.0.0.0", "192.0.2.2")
	join("asking", "inner", d.Endpoints(id("resolver"))[0].Address.Addr().String())
	wantLook(t, d.ns("asking"), "example.org", "192.0.2.2")

	hostFile := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(hostFile, []byte("search lan\nnameserver 127.0.0.53\nnameserver 10.99.0.2\nnameserver fd00::1\n"), 0o600))
	old := resolvConfPath
	resolvConfPath = hostFile
	t.Cleanup(func() { resolvConfPath = old })
	join("default", "front")
	join("default-inside", "inner")
	wantLook(t, d.ns("default"), "example.org", "192.0.2.53")
	wantLook(t, d.ns("default-inside"), "example.org", "SERVFAIL")
	must(t, os.WriteFile(hostFile, []byte("nameserver 10.99.0.2\n"), 0o600)) // the host has moved
	wantLook(t, d.ns("default"), "example.org", "192.0.2.10")
}
