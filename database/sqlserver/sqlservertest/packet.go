package sqlservertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Types of messages, [MS-TDS] 2.2.3.1.1.
const (
	typeBatch     = 0x01
	typeRPC       = 0x03
	typeReply     = 0x04
	typeAttention = 0x06
	typeLogin7    = 0x10
	typePrelogin  = 0x12
)

const (
	headerSize = 8
	// packetSize is what a server and a client begin with, 4,096 bytes with the header; the double never negotiates another.
	packetSize = 4096
	statusEOM  = 0x01 // last packet of a message
	// maxMessage limits what a client may send as one message.
	maxMessage = 1 << 20
)

var errMalformed = errors.New("malformed TDS message")

// readMessage reads the packets of one message ([MS-TDS] 2.2.3).
func readMessage(r io.Reader) (kind byte, data []byte, err error) {
	for first := true; ; first = false {
		var header [headerSize]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return 0, nil, err
		}
		if first {
			kind = header[0]
		} else if header[0] != kind {
			return 0, nil, fmt.Errorf("%w: a packet of type %#x within a message of type %#x", errMalformed, header[0], kind)
		}
		size := int(binary.BigEndian.Uint16(header[2:]))
		if size < headerSize || len(data)+size > maxMessage {
			return 0, nil, fmt.Errorf("%w: a packet of %d bytes", errMalformed, size)
		}
		at := len(data)
		data = append(data, make([]byte, size-headerSize)...)
		if _, err := io.ReadFull(r, data[at:]); err != nil {
			return 0, nil, err
		}
		if header[1]&statusEOM != 0 {
			return kind, data, nil
		}
	}
}

// writeMessage sends a message in as many packets as it needs.
func writeMessage(w io.Writer, kind byte, data []byte) error {
	for id := byte(1); ; id++ {
		part := data[:min(len(data), packetSize-headerSize)]
		data = data[len(part):]
		header := [headerSize]byte{0: kind, 6: id}
		if len(data) == 0 {
			header[1] = statusEOM
		}
		binary.BigEndian.PutUint16(header[2:], count16(headerSize+len(part)))
		if _, err := w.Write(append(header[:], part...)); err != nil {
			return err
		}
		if len(data) == 0 {
			return nil
		}
	}
}

// handshakeConn carries a TLS handshake inside PRELOGIN messages ([MS-TDS] 3.3.5.2), and nothing but TLS once
// the handshake is done.
type handshakeConn struct {
	net.Conn
	pending []byte
	done    bool
}

func (c *handshakeConn) Read(p []byte) (int, error) {
	if len(c.pending) == 0 {
		if c.done {
			return c.Conn.Read(p)
		}
		kind, data, err := readMessage(c.Conn)
		if err != nil {
			return 0, err
		}
		if kind != typePrelogin {
			return 0, fmt.Errorf("%w: type %#x in a TLS handshake", errMalformed, kind)
		}
		c.pending = data
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

func (c *handshakeConn) Write(p []byte) (int, error) {
	if c.done {
		return c.Conn.Write(p)
	}
	if err := writeMessage(c.Conn, typePrelogin, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
