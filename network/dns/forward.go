package dns

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxForwards is how many queries of one container may wait for upstream
	// servers at once.
	maxForwards = 256
	// maxUpstreams is how many servers are tried, as in the C libraries.
	maxUpstreams = 3
	// upstreamTimeout is how long one server may take. Clients ask again after 5 s.
	upstreamTimeout = 4 * time.Second
)

var (
	errTooSlow    = errors.New("the name server does not answer")
	errOtherReply = errors.New("the name server answers another question")
)

// forward asks the upstream servers, one after the other, until one knows.
func (s *Server) forward(ctx context.Context, network string, query *dns.Msg) *dns.Msg {
	select {
	case s.forwards <- struct{}{}:
		defer func() { <-s.forwards }()
	default:
		return failure(query, dns.RcodeRefused)
	}
	servers := s.cfg.Upstreams()
	for _, server := range servers[:min(len(servers), maxUpstreams)] {
		reply, err := s.exchange(ctx, network, server, query)
		if err != nil || reply.Rcode == dns.RcodeServerFailure || reply.Rcode == dns.RcodeRefused {
			continue // another one may do better
		}
		reply.Id, reply.Compress = query.Id, true
		return reply
	}
	return failure(query, dns.RcodeServerFailure)
}

// exchange asks one server. A number of our own and a fresh port make it hard to
// guess what a forged answer would have to look like.
func (s *Server) exchange(ctx context.Context, network string, server Upstream, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, upstreamTimeout, errTooSlow)
	defer cancel()
	conn, err := s.cfg.Dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The library looks at the context's deadline only.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	asked := query.Copy()
	asked.Id = dns.Id()
	client := &dns.Client{Net: network, Timeout: upstreamTimeout, UDPSize: dns.MaxMsgSize}
	reply, _, err := client.ExchangeWithConnContext(ctx, asked, &dns.Conn{Conn: conn})
	if err != nil {
		return nil, err
	}
	if !sameQuestion(asked, reply) {
		return nil, errOtherReply
	}
	return reply, nil
}

func sameQuestion(query, reply *dns.Msg) bool {
	if len(reply.Question) != 1 {
		return false
	}
	q, r := query.Question[0], reply.Question[0]
	return q.Qtype == r.Qtype && q.Qclass == r.Qclass && strings.EqualFold(q.Name, r.Name)
}

// limited refuses connections beyond a number.
type limited struct {
	net.Listener

	open chan struct{}
}

func (l limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.open <- struct{}{}:
			return &limitedConn{Conn: conn, open: l.open}, nil
		default:
			_ = conn.Close()
		}
	}
}
