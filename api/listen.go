package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/coreos/go-systemd/v22/activation"
)

// ListenOptions says how [Listen] protects what it opens. Whoever can talk to
// the API is root.
type ListenOptions struct {
	// Group may use unix sockets and named pipes: a name or a number, on Windows
	// a name or a SID. Empty: root alone, on Windows administrators and the system.
	Group string
	// GroupOptional leaves them to root if there is no such group.
	GroupOptional bool
	// TLS is required for TCP.
	TLS *TLSOptions
	// PlainTCP allows TCP without TLS on loopback addresses.
	PlainTCP bool
}

// TLSOptions names the PEM files for mutual TLS: clients must show a certificate
// of the authority.
type TLSOptions struct {
	CAFile, CertFile, KeyFile string
}

// Listen opens what a --host option names: unix:///path, npipe:////./pipe/name (on
// Windows), tcp://host:port, fd:// (sockets passed by systemd: all, or one by
// number or name). Only fd:// gives more than one listener.
func Listen(ctx context.Context, spec string, opts ListenOptions) ([]net.Listener, error) {
	scheme, address, ok := strings.Cut(spec, "://")
	if !ok {
		return nil, invalidf("invalid host %q: it must begin with unix://, npipe://, tcp:// or fd://", spec)
	}
	switch scheme {
	case "unix":
		return one(listenUnix(ctx, address, opts))
	case "tcp":
		return one(listenTCP(ctx, address, opts))
	case "fd":
		return listenActivated(address, opts)
	case "npipe":
		return one(listenPipe(address, opts))
	default:
		return nil, invalidf("invalid host %q: unknown protocol %s", spec, scheme)
	}
}

// CheckListen finds what [Listen] would find wrong with the group and the
// certificates, and opens nothing.
func CheckListen(spec string, opts ListenOptions) error {
	switch scheme, _, _ := strings.Cut(spec, "://"); scheme {
	case "unix":
		return checkUnix(opts)
	case "npipe":
		return checkPipe(opts)
	case "tcp", "fd": // a passed socket may be one of TCP
		if opts.TLS != nil {
			_, err := serverTLS(*opts.TLS)
			return err
		}
	}
	return nil
}

func one(l net.Listener, err error) ([]net.Listener, error) {
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// The ports that Docker's clients use by default.
const (
	plainPort = "2375"
	tlsPort   = "2376"
)

func listenTCP(ctx context.Context, address string, opts ListenOptions) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), ""
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || strconv.FormatUint(n, 10) != port) {
		return nil, invalidf("invalid host tcp://%s: %q is no port", address, port)
	}
	if host == "" {
		host = "127.0.0.1" // as in Docker, all addresses must be asked for: 0.0.0.0
	}
	if port == "" {
		port = plainPort
		if opts.TLS != nil {
			port = tlsPort
		}
	}
	if opts.TLS == nil && host != "localhost" {
		// Before anything is open to anybody. Names are not trusted to stay
		// what they are.
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
			return nil, plainRefused(address)
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	return secure(l, opts)
}

func plainRefused(address string) error {
	return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
		"refusing plain TCP on %s, which makes everybody who reaches it root: use --tlsverify with --tlscacert, --tlscert and --tlskey, "+
			"or a unix socket; plain TCP is possible on loopback addresses only, and only when allowed explicitly", address))
}

// secure puts TLS on TCP listeners, or refuses them. It closes a listener that it
// refuses.
func secure(l net.Listener, opts ListenOptions) (net.Listener, error) {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return l, nil
	}
	if opts.TLS != nil {
		cfg, err := serverTLS(*opts.TLS)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		return tls.NewListener(l, cfg), nil
	}
	if !opts.PlainTCP || !addr.IP.IsLoopback() {
		return nil, errors.Join(plainRefused(addr.String()), l.Close())
	}
	return l, nil
}

func serverTLS(opts TLSOptions) (*tls.Config, error) {
	for _, file := range []struct{ flag, path string }{
		{"--tlscacert", opts.CAFile}, {"--tlscert", opts.CertFile}, {"--tlskey", opts.KeyFile},
	} {
		if file.path == "" {
			return nil, invalidf("TLS needs %s", file.flag)
		}
	}
	cert, err := tls.LoadX509KeyPair(opts.CertFile, opts.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("loading the TLS certificate %s and key %s: %w", opts.CertFile, opts.KeyFile, err)
	}
	ca, err := os.ReadFile(opts.CAFile)
	if err != nil {
		return nil, fmt.Errorf("loading the certificate authority for clients: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(ca) {
		return nil, invalidf("no certificate in %s", opts.CAFile)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
		NextProtos:   []string{"http/1.1"}, // connections are taken over, which HTTP/2 has not
	}, nil
}

// firstFD is the first descriptor that systemd passes.
const firstFD = 3

// listenActivated takes the sockets that systemd has passed. Those that are not
// asked for are closed.
func listenActivated(which string, opts ListenOptions) ([]net.Listener, error) {
	var (
		all  []net.Listener
		errs []error
	)
	for i, f := range activation.Files(true) {
		wanted := which == "" || which == "*" || which == f.Name() || which == strconv.Itoa(firstFD+i)
		if wanted {
			l, err := net.FileListener(f)
			if err == nil {
				l, err = secure(l, opts)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("taking systemd's socket %s: %w", f.Name(), err))
			} else {
				all = append(all, l)
			}
		}
		errs = append(errs, f.Close()) // the listener has a descriptor of its own
	}
	if len(all) == 0 {
		errs = append(errs, errdefs.ErrNotFound.WithMessage(
			"no such sockets were passed by systemd: start the daemon by its socket unit, or do not use fd://"))
	}
	if err := errors.Join(errs...); err != nil {
		for _, l := range all {
			err = errors.Join(err, l.Close())
		}
		return nil, err
	}
	return all, nil
}
