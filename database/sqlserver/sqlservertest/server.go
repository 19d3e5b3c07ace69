package sqlservertest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Config is a server as a test wants it.
type Config struct {
	// Name is what messages say as the server's name.
	Name string
	// Version is the product's version; zero is that of SQL Server 2022.
	Version [4]byte
	// Passwords are the logins that exist, with their passwords.
	Passwords map[string]string
	// Refuse answers the first logins, whatever they say, one message each.
	Refuse []Message
	// OldCertificate gives the server a certificate whose serial number is negative, as SQL Server 2017 and earlier make one
	// at about every other start.
	OldCertificate bool
	// LoginOnly encrypts nothing but the login, if the client does not insist: a server without the option "Force encryption".
	LoginOnly bool
	// Always are statements that are answered whenever they come, and need not come.
	Always []Step
	// Script are the statements that must come, in order.
	Script []Step
}

// Step is a statement that a client sends, and the answer.
type Step struct {
	// Page is the title of the page of Microsoft's documentation that the statement follows. It must be there.
	Page string
	// SQL is the statement; white space counts as one space.
	SQL string
	// Args are the values of its parameters, if it has some: string, int64, bool or nil.
	Args []any
	// In is the database in which it must run, if not empty.
	In string

	// Info are notices that come with the answer.
	Info []Message
	// Rows is the result set, if there is one.
	Rows *Table
	// Errors end the statement, in this order.
	Errors []Message
	// Use is the database that the session is in afterwards (USE).
	Use string
	// Hang gives no answer until the client gives up; [Server.Hanging] tells when it has come so far.
	Hang bool
	// Stop ends the server before the answer, as SHUTDOWN does.
	Stop bool
}

// Table is a result set; values are string, int, bool or nil.
type Table struct {
	Columns []string
	Rows    [][]any
}

// Server is a running double.
type Server struct {
	tb       testing.TB
	cfg      Config
	listener net.Listener
	tls      *tls.Config
	stopped  chan struct{}
	hanging  chan struct{}
	wg       sync.WaitGroup

	mu     sync.Mutex
	script []Step
	refuse []Message
	logins []LoginRequest
	conns  map[net.Conn]bool
	ended  bool
}

// New starts a double on a free port of the loopback address. At the end of the test it is stopped, and steps that nobody sent
// are errors of the test.
func New(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	if cfg.Version == [4]byte{} {
		cfg.Version = [4]byte{16, 0, 0x03, 0xe8}
	}
	for _, step := range slices.Concat(cfg.Always, cfg.Script) {
		if step.Page == "" {
			tb.Fatalf("the statement %q names no page of the documentation", step.SQL)
		}
	}
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := certificate(cfg.OldCertificate)
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{
		tb: tb, cfg: cfg, listener: listener, stopped: make(chan struct{}), hanging: make(chan struct{}, 1),
		// TLS 1.3 is for TDS 8.0 alone, where the whole protocol lies within TLS.
		//nolint:gosec // G402: this is the version that such a server speaks
		tls:    &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12},
		script: slices.Clone(cfg.Script), refuse: slices.Clone(cfg.Refuse), conns: map[net.Conn]bool{},
	}
	s.wg.Go(s.accept)
	tb.Cleanup(func() {
		s.Stop()
		s.wg.Wait()
		for _, step := range s.script {
			tb.Errorf("this statement did not come (%s):\n%s", step.Page, clip(step.SQL))
		}
	})
	return s
}

// Port is the TCP port on which the double listens.
func (s *Server) Port() uint16 {
	return s.listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

// Logins are the logins that were tried, in order.
func (s *Server) Logins() []LoginRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logins)
}

// Stopped is closed when the server has ended.
func (s *Server) Stopped() <-chan struct{} { return s.stopped }

// Hanging gets a value whenever a client begins to wait for a step that hangs.
func (s *Server) Hanging() <-chan struct{} { return s.hanging }

// Stop ends the server and its connections at once.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	_ = s.listener.Close() // nothing was written to it
	for c := range s.conns {
		_ = c.Close() // the client has to live with it
	}
	close(s.stopped)
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.ended {
			s.mu.Unlock()
			_ = conn.Close() // too late
			return
		}
		s.conns[conn] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			err := s.serve(conn)
			s.mu.Lock()
			ended := s.ended
			delete(s.conns, conn)
			s.mu.Unlock()
			_ = conn.Close() // what matters was sent
			// A client may go at any time, and does when it gives up.
			gone := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(*net.OpError))
			if err != nil && !ended && !gone {
				s.tb.Errorf("connection to the double of SQL Server: %v", err)
			}
		})
	}
}

// serve speaks with one client until it goes.
func (s *Server) serve(conn net.Conn) error {
	ses := &session{server: s, transport: conn, database: "master"}
	if err := ses.negotiate(s.tb.Context(), conn); err != nil {
		return err
	}
	if ok, err := ses.login(); !ok || err != nil {
		return err
	}
	for {
		kind, data, err := readMessage(ses.transport)
		if err != nil {
			return err
		}
		var statement string
		var args []any
		switch kind {
		case typeBatch:
			statement, err = parseBatch(data)
		case typeRPC:
			statement, args, err = parseRPC(data)
		case typeAttention: // it came too late for the statement it meant
			err = ses.attention()
			statement = ""
		default:
			err = fmt.Errorf("%w: type %#x", errMalformed, kind)
		}
		if err != nil {
			return err
		}
		if kind == typeAttention {
			continue
		}
		if goOn, err := ses.answer(statement, args, kind); !goOn || err != nil {
			return err
		}
	}
}

// next takes the step that a statement is, or complains.
func (s *Server) next(statement string, args []any) (Step, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := func(step Step) bool {
		return squeeze(step.SQL) == squeeze(statement) && slices.Equal(step.Args, args)
	}
	if len(s.script) > 0 && is(s.script[0]) {
		step := s.script[0]
		s.script = s.script[1:]
		return step, nil
	}
	for _, step := range s.cfg.Always {
		if is(step) {
			return step, nil
		}
	}
	want := "nothing"
	if len(s.script) > 0 {
		want = fmt.Sprintf("%s %q", clip(s.script[0].SQL), s.script[0].Args)
	}
	return Step{}, fmt.Errorf("unexpected statement\n  got  %s %q\n  want %s", clip(statement), args, want)
}

// certificate makes what SQL Server makes at its start when it was given none: a self-signed certificate.
func certificate(old bool) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "SSL_Self_Signed_Fallback"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if old {
		// Nobody makes such a certificate any more, so the number is changed; nobody checks the signature either.
		der = bytes.Replace(der, []byte{2, 1, 1}, []byte{2, 1, 0x81}, 1)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
