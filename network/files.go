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
)

// The host's resolver configuration, and the one with the real servers where
// systemd-resolved puts its own address into the first.
const (
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
	names := hostname
	if domain != "" {
		names = hostname + "." + domain + " " + hostname
	}
	for _, addr := range addrs {
		if addr.IsValid() && hostname != "" {
			fmt.Fprintf(&b, "%s\t%s\n", addr, names)
		}
	}
	return b.Bytes(), nil
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
// failing that Docker's defaults. Each of dns, search and options, if not empty,
// replaces what the host says; a search of "." means none.
func ResolvConf(host, resolved []byte, dns, search, options []string) []byte {
	conf := parseResolv(host)
	if len(conf.servers) == 0 {
		conf.servers = parseResolv(resolved).servers
	}
	if len(conf.servers) == 0 {
		conf.servers = fallbackServers
	}
	if len(dns) > 0 {
		conf.servers = dns
	}
	if len(search) > 0 {
		conf.search = slices.DeleteFunc(slices.Clone(search), func(s string) bool { return s == "." })
	}
	if len(options) > 0 {
		conf.options = options
	}
	var b bytes.Buffer
	for _, s := range conf.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(conf.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(conf.search, " "))
	}
	if len(conf.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(conf.options, " "))
	}
	return b.Bytes()
}

type resolvConf struct {
	servers []string // reachable from another network namespace
	search  []string
	options []string
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
