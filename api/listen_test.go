package api_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"slipway/api"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

func TestListenRefuses(t *testing.T) {
	for _, tt := range []struct {
		spec  string
		opts  api.ListenOptions
		class error
	}{
		{"/run/x.sock", api.ListenOptions{}, errdefs.ErrInvalidArgument},
		{"http://x", api.ListenOptions{}, errdefs.ErrInvalidArgument},
		{"tcp://127.0.0.1:x", api.ListenOptions{PlainTCP: true}, errdefs.ErrInvalidArgument},
		{"tcp://127.0.0.1:70000", api.ListenOptions{PlainTCP: true}, errdefs.ErrInvalidArgument},
		{"tcp://127.0.0.1:0", api.ListenOptions{}, errdefs.ErrPermissionDenied},
		{"tcp://0.0.0.0:0", api.ListenOptions{PlainTCP: true}, errdefs.ErrPermissionDenied},
		{"tcp://[::]:0", api.ListenOptions{PlainTCP: true}, errdefs.ErrPermissionDenied},
		{"tcp://example.com:0", api.ListenOptions{PlainTCP: true}, errdefs.ErrPermissionDenied},
		{"tcp://127.0.0.1:0", api.ListenOptions{TLS: &api.TLSOptions{}}, errdefs.ErrInvalidArgument},
		{"fd://", api.ListenOptions{}, errdefs.ErrNotFound},
	} {
		ls, err := api.Listen(t.Context(), tt.spec, tt.opts)
		for _, l := range ls {
			_ = l.Close()
		}
		if !errors.Is(err, tt.class) {
			t.Errorf("%s %+v: %v", tt.spec, tt.opts, err)
		}
	}
	ls, err := api.Listen(t.Context(), "tcp://localhost:0", api.ListenOptions{PlainTCP: true})
	if err != nil {
		t.Fatal(err)
	}
	_ = ls[0].Close()
}

// TestCheckListen: what is wrong shows without a socket being opened.
func TestCheckListen(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t, "localhost")
	host := newHost(t)
	good := &api.TLSOptions{CAFile: ca.file, CertFile: cert, KeyFile: key}
	for _, tt := range []struct {
		spec  string
		opts  api.ListenOptions
		class error // nil if nothing is wrong
	}{
		{host, api.ListenOptions{Group: "no-such-group", GroupOptional: true}, nil},
		{host, api.ListenOptions{Group: "no-such-group"}, errdefs.ErrNotFound},
		{"tcp://127.0.0.1:0", api.ListenOptions{TLS: good, Group: "no-such-group"}, nil},
		{"fd://", api.ListenOptions{TLS: good}, nil},
		{"tcp://127.0.0.1:0", api.ListenOptions{TLS: &api.TLSOptions{CAFile: ca.file, CertFile: cert, KeyFile: key + ".none"}}, os.ErrNotExist},
		{"fd://", api.ListenOptions{TLS: &api.TLSOptions{CAFile: key, CertFile: cert, KeyFile: key}}, errdefs.ErrInvalidArgument},
	} {
		if err := api.CheckListen(tt.spec, tt.opts); !errors.Is(err, tt.class) {
			t.Errorf("%s %+v: %v", tt.spec, tt.opts, err)
		}
	}
	if conn, err := dialHost(t.Context(), host); err == nil {
		_ = conn.Close()
		t.Error("the check listens")
	}
}

// TestMutualTLS: only clients with a certificate of the authority get in, and
// sessions work over TLS, with half closing and hanging up.
func TestMutualTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	cert, key := ca.issue(t, "localhost")
	ls, err := api.Listen(t.Context(), "tcp://127.0.0.1:0", api.ListenOptions{TLS: &api.TLSOptions{CAFile: ca.file, CertFile: cert, KeyFile: key}})
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t)
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(ls[0]) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := e.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	connect := func(a *authority) (*client.Client, error) {
		ccert, ckey := a.issue(t, "client")
		return client.New(client.WithHost("tcp://"+ls[0].Addr().String()), client.WithTLSClientConfig(ca.file, ccert, ckey))
	}
	good, err := connect(ca)
	if err != nil {
		t.Fatal(err)
	}
	att, err := good.ContainerAttach(t.Context(), "web", client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer att.Close()
	_, _ = io.WriteString(att.Conn, "over TLS")
	_ = att.CloseWrite()
	var stdout bytes.Buffer
	if _, err := stdcopy.StdCopy(&stdout, io.Discard, att.Reader); err != nil || stdout.String() != "over TLS" {
		t.Errorf("%q, %v", stdout.String(), err)
	}

	e.containers.Silent, e.containers.Ended = true, make(chan error, 1)
	att, err = good.ContainerAttach(t.Context(), "web", client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	att.Close()
	if runtime.GOOS != "windows" { // there it shows when something is sent
		select {
		case cause := <-e.containers.Ended:
			t.Logf("ended: %v", cause)
		case <-time.After(soon):
			t.Error("hanging up did not end the session")
		}
	}

	bad, err := connect(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Info(t.Context(), client.InfoOptions{}); err == nil {
		t.Error("a certificate of another authority got in")
	}
	conn, err := tls.Dial("tcp", ls[0].Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		_, _ = io.WriteString(conn, "GET /_ping HTTP/1.0\r\n\r\n")
		if answer, _ := io.ReadAll(conn); len(answer) > 0 {
			t.Errorf("a client without a certificate got %q", answer)
		}
		_ = conn.Close()
	}
}

// authority is a certificate authority.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.file, _, a.cert, a.key = a.make(t, "authority", true)
	return a
}

func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	cert, key, _, _ = a.make(t, name, false)
	return cert, key
}

func (a *authority) make(t *testing.T, name string, isCA bool) (certFile, keyFile string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signer := a.cert, a.key
	if isCA {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+"-key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, cert, key
}
