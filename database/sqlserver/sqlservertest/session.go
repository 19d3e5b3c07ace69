package sqlservertest

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// session is one client's connection.
type session struct {
	server    *Server
	transport io.ReadWriter
	after     io.ReadWriter // the transport after the login, if that alone is encrypted
	database  string
}

// negotiate answers PRELOGIN and makes the TLS connection.
func (c *session) negotiate(ctx context.Context, conn net.Conn) error {
	kind, data, err := readMessage(conn)
	if err != nil {
		return err
	}
	if kind != typePrelogin {
		return fmt.Errorf("%w: the first message has type %#x", errMalformed, kind)
	}
	options, err := parsePrelogin(data)
	if err != nil {
		return err
	}
	wish, ok := options[preloginEncryption]
	if !ok || len(wish) != 1 {
		return fmt.Errorf("%w: no wish for encryption", errMalformed)
	}
	answer := byte(encryptOn)
	if c.server.cfg.LoginOnly && wish[0] == encryptOff {
		answer = encryptOff
	}
	if c.server.cfg.LoginOnly && wish[0] == encryptNotSup {
		answer = encryptNotSup
	}
	if err := writeMessage(conn, typeReply, preloginReply(c.server.cfg.Version, answer)); err != nil {
		return err
	}
	if answer == encryptNotSup {
		return nil
	}
	wrapped := &handshakeConn{Conn: conn}
	secure := tls.Server(wrapped, c.server.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	wrapped.done = true
	c.transport = secure
	if answer == encryptOff {
		c.after = conn
	}
	return nil
}

func preloginReply(version [4]byte, encryption byte) []byte {
	values := []struct {
		token byte
		data  []byte
	}{
		{preloginVersion, append(version[:], 0, 0)},
		{preloginEncryption, []byte{encryption}},
		{preloginInstance, []byte{0}},
		{preloginThread, nil},
		{preloginMARS, []byte{0}},
	}
	var head, body []byte
	offset := 5*len(values) + 1
	for _, v := range values {
		head = append(head, v.token)
		head = binary.BigEndian.AppendUint16(head, count16(offset+len(body)))
		head = binary.BigEndian.AppendUint16(head, count16(len(v.data)))
		body = append(body, v.data...)
	}
	return append(append(head, preloginEnd), body...)
}

// login answers LOGIN7 and tells whether the client is in.
func (c *session) login() (bool, error) {
	kind, data, err := readMessage(c.transport)
	if err != nil {
		return false, err
	}
	if c.after != nil {
		c.transport = c.after
	}
	if kind != typeLogin7 {
		return false, fmt.Errorf("%w: type %#x instead of a login", errMalformed, kind)
	}
	l, err := parseLogin7(data)
	if err != nil {
		return false, err
	}
	s := c.server
	s.mu.Lock()
	s.logins = append(s.logins, l)
	var refusal *Message
	if len(s.refuse) > 0 {
		refusal, s.refuse = &s.refuse[0], s.refuse[1:]
	} else if password, ok := s.cfg.Passwords[l.User]; !ok || l.Integrated || password != l.Password {
		m := LoginFailed(l.User)
		refusal = &m
	}
	s.mu.Unlock()
	r := &reply{}
	if refusal != nil {
		r.message(tokenError, *refusal, s.cfg.Name)
		r.done(tokenDone, doneError, 0)
		return false, c.send(r)
	}
	if l.Database != "" {
		c.database = l.Database
	}
	r.envChange(envDatabase, c.database, "master")
	r.message(tokenInfo, Message{5701, 0, 2, fmt.Sprintf("Changed database context to '%s'.", c.database)}, s.cfg.Name)
	r.loginAck(s.cfg.Version)
	r.done(tokenDone, 0, 0)
	return true, c.send(r)
}

func (c *session) send(r *reply) error { return writeMessage(c.transport, typeReply, r.data) }

// answer runs the next step and tells whether the connection lives on.
func (c *session) answer(statement string, args []any, kind byte) (bool, error) {
	step, err := c.server.next(statement, args)
	if err == nil && step.In != "" && step.In != c.database {
		err = fmt.Errorf("this statement came in database %s instead of %s:\n%s", c.database, step.In, clip(statement))
	}
	if err != nil {
		// The client must not wait for ever, and the test must fail.
		r := &reply{}
		r.message(tokenError, Message{50000, 16, 1, err.Error()}, c.server.cfg.Name)
		r.done(tokenDone, doneError, 0)
		c.server.tb.Error(err)
		return true, c.send(r)
	}
	if step.Hang {
		select {
		case c.server.hanging <- struct{}{}:
		default: // nobody listens
		}
		kind, _, err := readMessage(c.transport)
		if err != nil {
			return false, err
		}
		if kind != typeAttention {
			return false, fmt.Errorf("%w: type %#x while a statement runs", errMalformed, kind)
		}
		return true, c.attention()
	}
	if step.Stop {
		c.server.Stop()
		return false, nil
	}
	r, last, err := c.compose(step, kind)
	if err != nil {
		return false, err
	}
	return last < fatal, c.send(r)
}

// compose makes the answer of a step, and returns the highest severity in it.
func (c *session) compose(step Step, kind byte) (*reply, byte, error) {
	r := &reply{}
	var highest byte
	for _, m := range step.Info {
		r.message(tokenInfo, m, c.server.cfg.Name)
	}
	if step.Use != "" {
		r.envChange(envDatabase, step.Use, c.database)
		c.database = step.Use
	}
	status, rows := 0, 0
	if step.Rows != nil {
		if err := r.table(step.Rows); err != nil {
			return nil, 0, err
		}
		status, rows = doneCount, len(step.Rows.Rows)
	}
	for _, m := range step.Errors {
		r.message(tokenError, m, c.server.cfg.Name)
		highest = max(highest, m.Severity)
		status |= doneError
	}
	if highest >= fatal {
		status |= doneSrvError
	}
	if kind == typeRPC {
		r.bytes(tokenReturnStatus)
		r.uint32(0)
		r.done(tokenDoneProc, status, rows)
	} else {
		r.done(tokenDone, status, rows)
	}
	return r, highest, nil
}

// attention confirms that a statement was given up.
func (c *session) attention() error {
	r := &reply{}
	r.done(tokenDone, doneAttn, 0)
	return c.send(r)
}
