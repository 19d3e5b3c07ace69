package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/docker/go-units"
)

var errNeedBaseAndSize = errors.New(`an address pool needs "base" and "size"`)

func anything(s string) (string, error) { return s, nil }

func notEmpty(s string) (string, error) {
	if s == "" {
		return "", errors.New("must not be empty")
	}
	return s, nil
}

func oneWord(s string) (string, error) {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "", errors.New("must be one word")
	}
	return s, nil
}

func oneOf(values ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(values, s) {
			return "", fmt.Errorf("must be one of %s", strings.Join(values, ", "))
		}
		return s, nil
	}
}

func keyValue(s string) (string, error) {
	if k, _, ok := strings.Cut(s, "="); !ok || k == "" {
		return "", errors.New("must be key=value")
	}
	return s, nil
}

// interfaceName is a name that the kernel takes for an interface. dockerd's
// "none" (no default network) is refused rather than taken for a name.
func interfaceName(s string) (string, error) {
	if _, err := oneWord(s); err != nil || len(s) > 15 || strings.ContainsAny(s, "/:") || s == "." || s == ".." {
		return "", errors.New("must be an interface name of up to 15 characters")
	}
	if s == "none" {
		return "", errors.New(`"none" is not supported: the default network is always there`)
	}
	return s, nil
}

// bridgeAddress is the bridge's own address with its network, "10.0.0.1/24".
func bridgeAddress(s string) (netip.Prefix, error) {
	p, err := ipv4Prefix(s)
	if err != nil {
		return p, err
	}
	if p.Bits() > 30 {
		return netip.Prefix{}, errors.New("leaves no address for containers")
	}
	if p.Addr() == p.Masked().Addr() {
		return netip.Prefix{}, fmt.Errorf("must be the bridge's own address in the network, such as %s/%d", p.Addr().Next(), p.Bits())
	}
	return p, nil
}

func subnet(s string) (netip.Prefix, error) {
	p, err := ipv4Prefix(s)
	return p.Masked(), err
}

func ipv4Prefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, errors.New("must be an IPv4 address with prefix, such as 10.0.0.1/24")
	}
	return p, nil
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func ipAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, errors.New("must be an IP address")
	}
	return a, nil
}

func addressPool(s string) (AddressPool, error) {
	var base, size string
	for part := range strings.SplitSeq(s, ",") {
		k, v, _ := strings.Cut(part, "=")
		switch k {
		case "base":
			base = v
		case "size":
			size = v
		default:
			return AddressPool{}, fmt.Errorf("unknown field %q in an address pool", k)
		}
	}
	if base == "" || size == "" {
		return AddressPool{}, errNeedBaseAndSize
	}
	bits, err := strconv.Atoi(size)
	if err != nil {
		return AddressPool{}, fmt.Errorf("address pool size %q is not a number", size)
	}
	return newAddressPool(base, bits)
}

func newAddressPool(base string, size int) (AddressPool, error) {
	p, err := subnet(base)
	if err != nil {
		return AddressPool{}, fmt.Errorf("address pool base %q: %w", base, err)
	}
	if size < p.Bits() || size > 30 {
		return AddressPool{}, fmt.Errorf("address pool size %d must be from %d (the base's own) to 30", size, p.Bits())
	}
	return AddressPool{Base: p, Size: size}, nil
}

// String is the pool as the command line takes it.
func (p AddressPool) String() string { return fmt.Sprintf("base=%s,size=%d", p.Base, p.Size) }

func newUlimit(key, name string, soft, hard *int64) (*units.Ulimit, error) {
	if name != "" && name != key {
		return nil, fmt.Errorf("%q has another name inside: %q", key, name)
	}
	if soft == nil || hard == nil {
		return nil, fmt.Errorf(`%q needs "Soft" and "Hard"`, key)
	}
	return units.ParseUlimit(fmt.Sprintf("%s=%d:%d", key, *soft, *hard))
}

func memorySize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, errors.New("must be a size such as 64m")
	}
	return n, nil
}

func byteText(n int64) string { return strconv.FormatInt(n, 10) }

// set takes one "name=value" of storage-opt.
func (p *Pool) set(s string) error {
	k, v, _ := strings.Cut(s, "=")
	switch k {
	case "pool.size":
		n, err := memorySize(v)
		if err != nil {
			return fmt.Errorf("pool.size %w", err)
		}
		p.Size = n
	case "pool.method":
		if _, err := oneOf("reflink", "pool", "copy")(v); err != nil {
			return fmt.Errorf("pool.method %w", err)
		}
		p.Method = v
	default:
		return fmt.Errorf("unknown storage option %q", k)
	}
	return nil
}

// registryHost is "host", "host:port" or a CIDR.
func registryHost(s string) (string, error) {
	if _, err := netip.ParsePrefix(s); err == nil {
		return s, nil
	}
	if _, err := oneWord(s); err != nil || strings.Contains(s, "/") {
		return "", errors.New("must be host[:port] or a CIDR, without scheme or path")
	}
	if u, err := url.Parse("//" + s); err != nil || u.Host != s {
		return "", errors.New("must be host[:port] or a CIDR, without scheme or path")
	}
	return s, nil
}

// parseHost reads one value of --host.
func parseHost(s string, secure bool) (Address, error) {
	bad := func(why string) (Address, error) { return Address{}, fmt.Errorf("invalid host %q: %s", s, why) }
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "tcp", s // as dockerd reads it
	}
	switch scheme {
	case "unix":
		if !strings.HasPrefix(rest, "/") {
			return bad("a unix socket needs an absolute path")
		}
		if len(rest) > 107 {
			return bad("the path of a unix socket has at most 107 bytes")
		}
	case "fd":
		if rest == "*" {
			rest = ""
		}
	case "npipe":
		if !strings.HasPrefix(rest, "//./pipe/") {
			return bad("a named pipe is npipe:////./pipe/NAME")
		}
	case "tcp":
		addr, why := tcpAddress(rest, secure)
		if why != "" {
			return bad(why)
		}
		rest = addr
	default:
		return bad("must begin with unix://, tcp://, fd:// or npipe://")
	}
	return Address{scheme, rest}, nil
}

// tcpAddress completes host and port with dockerd's defaults.
func tcpAddress(s string, secure bool) (addr, why string) {
	host, port := s, ""
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	} else if strings.Contains(strings.Trim(s, "[]"), ":") && !isIP(strings.Trim(s, "[]")) {
		return "", "must be host:port"
	}
	host = strings.Trim(host, "[]")
	if host == "" {
		host = "127.0.0.1"
	}
	if strings.ContainsAny(host, "/?#@ ") {
		return "", "must be host:port"
	}
	if port == "" {
		port = "2375"
		if secure {
			port = "2376"
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "the port must be from 1 to 65535"
	}
	return net.JoinHostPort(host, port), ""
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// decodeStrict is decode for objects with a fixed set of fields.
func decodeStrict(raw json.RawMessage, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := decode(raw, into); err != nil {
		return err
	}
	if err := dec.Decode(into); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}
