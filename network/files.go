package network

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"slipway/network/dns"
)

// The host's resolver configuration, and the one with the real servers where
// systemd-resolved puts its own address into the first.
var (
	resolvConfPath    = "/etc/resolv.conf"
	systemdResolvPath = "/run/systemd/resolve/resolv.conf"
)

// fallbackServers are Docker's, for a host that names none a container can reach.
var fallbackServers = []string{"8.8.8.8", "8.8.4.4"}

// HostsFile is the content of a container's /etc/hosts. Each of addrs, the
// container's own, gets the names hostname and, with a domain, hostname.domain;
// extra holds "name:address" as in --add-host, with host-gateway already replaced
// by an address.
func HostsFile(hostname, domain string, addrs []netip.Addr, extra []string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\n" +
		"ff02::2\tip6-allrouters\n")
	for _, line := range extra {
		name, address, ok := strings.Cut(line, ":")
		addr, err := netip.ParseAddr(strings.Trim(address, "[]"))
		if !ok || err != nil || name == "" || strings.ContainsAny(name, " \t\n#") {
			return nil, invalid("bad format for add-host: %q", line)
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
	}
	for _, addr := range addrs {
		if addr.IsValid() && hostname != "" {
			b.WriteString(HostsLine(addr, hostname, domain))
		}
	}
	return b.Bytes(), nil
}

// HostsLine is the line of one of the container's own addresses in /etc/hosts.
func HostsLine(addr netip.Addr, hostname, domain string) string {
	names := hostname
	if domain != "" {
		names = hostname + "." + domain + " " + hostname
	}
	return fmt.Sprintf("%s\t%s\n", addr, names)
}

// ResolverConf is the content of /etc/resolv.conf for a container that has a name
// server of its own. Each of search and options, if not empty, replaces what the
// host's file says; a search of "." means none. servers, which a user has named
// for what the networks do not know, is only a comment, as are the host's otherwise.
//
// Without an ndots option, names without a dot would be asked for with the search
// domains first: 0 has them looked up as they are.
func ResolverConf(host []byte, servers, search, options []string) []byte {
	conf := parseResolv(host)
	conf.servers = []string{dns.Address}
	conf.replace(search, options)
	if !slices.ContainsFunc(conf.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		conf.options = append(slices.Clone(conf.options), "ndots:0")
	}
	others := slices.Clone(servers)
	if len(others) == 0 {
		for _, addr := range nameservers(host) {
			name := addr.String()
			if addr.IsLoopback() {
				name = "host(" + name + ")"
			}
			others = append(others, name)
		}
	}
	var b bytes.Buffer
	b.WriteString("# Written by Slipway, which leaves the file alone once it has been edited.\n\n")
	conf.write(&b)
	fmt.Fprintf(&b, "\n# ExtServers: [%s]\n", strings.Join(others, " "))
	return b.Bytes()
}

// HostResolvConf reads what ResolvConf needs of the host. A file that does not
// exist is empty.
func HostResolvConf() (host, resolved []byte, err error) {
	for path, into := range map[string]*[]byte{resolvConfPath: &host, systemdResolvPath: &resolved} {
		*into, err = os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("the host's resolver configuration: %w", err)
		}
	}
	return host, resolved, nil
}

// ResolvConf is the content of a container's /etc/resolv.conf. It is the host's,
// without name servers on the host's loopback, which a container cannot reach: if
// none other is left there, those of systemd-resolved's own file are taken, and
// failing that Docker's defaults. Each of servers, search and options, if not empty,
// replaces what the host says; a search of "." means none.
func ResolvConf(host, resolved []byte, servers, search, options []string) []byte {
	conf := parseResolv(host)
	if len(conf.servers) == 0 {
		conf.servers = parseResolv(resolved).servers
	}
	if len(conf.servers) == 0 {
		conf.servers = fallbackServers
	}
	if len(servers) > 0 {
		conf.servers = servers
	}
	conf.replace(search, options)
	var b bytes.Buffer
	conf.write(&b)
	return b.Bytes()
}

// nameservers are all servers of a resolver configuration.
func nameservers(data []byte) []netip.Addr {
	var addrs []netip.Addr
	for line := range bytes.Lines(data) {
		if fields := strings.Fields(string(line)); len(fields) > 1 && fields[0] == "nameserver" {
			if addr, err := netip.ParseAddr(fields[1]); err == nil {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs
}

type resolvConf struct {
	servers []string // reachable from another network namespace
	search  []string
	options []string
}

// replace puts in what a user has asked for instead.
func (c *resolvConf) replace(search, options []string) {
	if len(search) > 0 {
		c.search = slices.DeleteFunc(slices.Clone(search), func(s string) bool { return s == "." })
	}
	if len(options) > 0 {
		c.options = options
	}
}

func (c *resolvConf) write(b *bytes.Buffer) {
	for _, s := range c.servers {
		fmt.Fprintf(b, "nameserver %s\n", s)
	}
	if len(c.search) > 0 {
		fmt.Fprintf(b, "search %s\n", strings.Join(c.search, " "))
	}
	if len(c.options) > 0 {
		fmt.Fprintf(b, "options %s\n", strings.Join(c.options, " "))
	}
}

func parseResolv(data []byte) resolvConf {
	var conf resolvConf
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			addr, err := netip.ParseAddr(fields[1])
			if err == nil && !addr.IsLoopback() && addr.Is4() { // sandboxes have no IPv6
				conf.servers = append(conf.servers, addr.String())
			}
		case "search", "domain": // the last one wins, as in the resolver
			conf.search = fields[1:]
		case "options":
			conf.options = append(conf.options, fields[1:]...)
		}
	}
	return conf
}
