package dns

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxUDPSize is the largest datagram that is read or, if the client can take
	// it, sent.
	maxUDPSize = 4096
	// maxConnections is how many TCP connections of one container are served.
	maxConnections = 64
	// closing bounds the wait for clients at the end, who have nothing to wait for.
	closing = 5 * time.Second
)

// Server answers the queries of one container.
type Server struct {
	cfg      Config
	forwards chan struct{}
	servers  []*dns.Server
	stop     context.CancelCauseFunc
	wg       sync.WaitGroup

	mu     sync.Mutex
	failed error
}

var errClosed = errors.New("the name server is closed")

// Serve answers queries on the sockets, which it owns from here on, until Close.
func Serve(cfg Config, sockets Sockets) *Server {
	ctx, stop := context.WithCancelCause(context.Background())
	s := &Server{cfg: cfg, forwards: make(chan struct{}, maxForwards), stop: stop}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		// A client that has gone away needs no answer.
		_ = w.WriteMsg(s.answer(ctx, w.LocalAddr().Network(), query))
	})
	s.servers = []*dns.Server{
		{PacketConn: sockets.UDP, Handler: handler, UDPSize: maxUDPSize},
		{Listener: limited{sockets.TCP, make(chan struct{}, maxConnections)}, Handler: handler},
	}
	for _, server := range s.servers {
		started := make(chan struct{})
		server.NotifyStartedFunc = sync.OnceFunc(func() { close(started) })
		s.wg.Go(func() {
			err := server.ActivateAndServe()
			server.NotifyStartedFunc() // also if it did not
			if err != nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.failed = errors.Join(s.failed, err)
			}
		})
		<-started
	}
	return s
}

// Close ends the serving, with queries that wait for an upstream server, and
// closes the sockets. It returns why the serving ended before, if it did.
func (s *Server) Close() error {
	s.stop(errClosed)
	ctx, cancel := context.WithTimeoutCause(context.Background(), closing, errClosed)
	defer cancel()
	for _, server := range s.servers {
		_ = server.ShutdownContext(ctx) // fails only if it has ended, or by ctx
	}
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// limitedConn gives its place back when it is closed.
type limitedConn struct {
	net.Conn

	open chan struct{}
	once sync.Once
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.open })
	return c.Conn.Close()
}
