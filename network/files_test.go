package network

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHostsFile(t *testing.T) {
	const head = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
	addr := []netip.Addr{netip.MustParseAddr("172.17.0.2"), {}}
	for _, test := range []struct {
		host, domain string
		extra        []string
		want         string
	}{
		{"web", "", nil, "172.17.0.2\tweb\n"},
		{"web", "example.org", []string{"db:10.0.0.1", "six:[fd00::1]"}, "10.0.0.1\tdb\nfd00::1\tsix\n172.17.0.2\tweb.example.org web\n"},
	} {
		got, err := HostsFile(test.host, test.domain, addr, test.extra)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(head+test.want, string(got)); diff != "" {
			t.Error(diff)
		}
	}
	for _, bad := range []string{"db", "db:", ":1.2.3.4", "a b:1.2.3.4", "db:host-gateway", "a\nb:1.2.3.4"} {
		if _, err := HostsFile("web", "", nil, []string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestResolvConf(t *testing.T) {
	const stub = "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"
	for _, test := range []struct {
		name, host, resolved string
		dns, search, options []string
		want                 string
	}{
		{name: "plain", host: "nameserver 10.0.0.53\nnameserver fd00::53\nsearch a b\n", want: "nameserver 10.0.0.53\nsearch a b\n"},
		{name: "stub", host: stub, resolved: "nameserver 192.168.1.1\n", want: "nameserver 192.168.1.1\nsearch lan\noptions edns0 trust-ad\n"},
		{name: "stub alone", host: stub, want: "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch lan\noptions edns0 trust-ad\n"},
		{name: "loopback among others", host: "nameserver 127.0.0.1\nnameserver 10.0.0.1", want: "nameserver 10.0.0.1\n"},
		{name: "nothing", want: "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
		{name: "asked for", host: stub, dns: []string{"1.1.1.1"}, search: []string{"x"}, options: []string{"ndots:2"}, want: "nameserver 1.1.1.1\nsearch x\noptions ndots:2\n"},
		{name: "no search", host: stub, dns: []string{"127.0.0.1"}, search: []string{"."}, want: "nameserver 127.0.0.1\noptions edns0 trust-ad\n"},
	} {
		got := ResolvConf([]byte(test.host), []byte(test.resolved), test.dns, test.search, test.options)
		if diff := cmp.Diff(test.want, string(got)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 10.0.0.1\nsearch a\noptions b\n"))
	f.Fuzz(func(t *testing.T, host []byte) {
		conf := parseResolv(ResolvConf(host, nil, nil, nil, nil))
		if len(conf.servers) == 0 {
			t.Errorf("no server from %q", host)
		}
	})
}

func TestParseHostPort(t *testing.T) {
	for _, test := range []struct {
		in          string
		first, last uint16
		ok          bool
	}{
		{"", 0, 0, true},
		{"0", 0, 0, true},
		{"80", 80, 80, true},
		{"80-90", 80, 90, true},
		{"90-80", 0, 0, false},
		{"0-90", 0, 0, false},
		{"-1", 0, 0, false},
		{"65536", 0, 0, false},
		{"80-", 0, 0, false},
		{"http", 0, 0, false},
	} {
		first, last, err := parseHostPort(test.in)
		if first != test.first || last != test.last || (err == nil) != test.ok {
			t.Errorf("%q: %d, %d, %v", test.in, first, last, err)
		}
	}
}
