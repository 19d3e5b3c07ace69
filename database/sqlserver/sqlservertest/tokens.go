package sqlservertest

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// Tokens of a reply, [MS-TDS] 2.2.7.
const (
	tokenReturnStatus = 0x79
	tokenColMetadata  = 0x81
	tokenError        = 0xaa
	tokenInfo         = 0xab
	tokenLoginAck     = 0xad
	tokenRow          = 0xd1
	tokenEnvChange    = 0xe3
	tokenDone         = 0xfd
	tokenDoneProc     = 0xfe
)

// Bits of a DONE token's status.
const (
	doneMore     = 0x001
	doneError    = 0x002
	doneCount    = 0x010
	doneAttn     = 0x020
	doneSrvError = 0x100
)

// fatal is the severity from which SQL Server ends the connection ("Database Engine Error Severities": 20 to 25).
const fatal = 20

const (
	envDatabase   = 1
	envPacketSize = 4
	tds74         = 0x04000074
)

// reply is a message to the client under construction.
type reply struct{ data []byte }

func (r *reply) bytes(b ...byte) { r.data = append(r.data, b...) }

func (r *reply) uint16(v int) { r.data = binary.LittleEndian.AppendUint16(r.data, count16(v)) }

func (r *reply) uint32(v uint32) { r.data = binary.LittleEndian.AppendUint32(r.data, v) }

func (r *reply) uint64(v int) {
	r.data = binary.LittleEndian.AppendUint64(r.data, uint64(v)) //nolint:gosec // two's complement is meant
}

// short writes a text whose length is one byte.
func (r *reply) short(s string) {
	u := encodeUTF16(s)
	chars := len(u) / 2
	if chars > math.MaxUint8 {
		panic("sqlservertest: a name of more than 255 characters")
	}
	r.bytes(byte(chars))
	r.bytes(u...)
}

// long writes a text whose length is two bytes.
func (r *reply) long(s string) {
	u := encodeUTF16(s)
	r.uint16(len(u) / 2)
	r.bytes(u...)
}

func (r *reply) sized(body *reply) {
	r.uint16(len(body.data))
	r.bytes(body.data...)
}

// count16 makes a number of a length that the protocol gives two bytes.
func count16(n int) uint16 {
	if n < 0 || n > math.MaxUint16 {
		panic("sqlservertest: more than 65,535 bytes in one element of the protocol")
	}
	return uint16(n)
}

func (r *reply) message(token byte, m Message, server string) {
	body := &reply{}
	body.uint32(m.Number)
	body.bytes(m.State, m.Severity)
	body.long(m.Text)
	body.short(server)
	body.short("")
	body.uint32(1)
	r.bytes(token)
	r.sized(body)
}

func (r *reply) envChange(kind byte, now, before string) {
	body := &reply{}
	body.bytes(kind)
	body.short(now)
	body.short(before)
	r.bytes(tokenEnvChange)
	r.sized(body)
}

func (r *reply) loginAck(version [4]byte) {
	body := &reply{}
	body.bytes(1) // T-SQL
	body.data = binary.BigEndian.AppendUint32(body.data, tds74)
	body.short("Microsoft SQL Server")
	body.bytes(version[:]...)
	r.bytes(tokenLoginAck)
	r.sized(body)
	r.envChange(envPacketSize, strconv.Itoa(packetSize), strconv.Itoa(packetSize))
}

func (r *reply) done(token byte, status, rows int) {
	r.bytes(token)
	r.uint16(status)
	r.uint16(0)
	r.uint64(rows)
}

// table writes a result set. Every column has the type of its first value that is not nil: text, integer or bit.
func (r *reply) table(t *Table) error {
	r.bytes(tokenColMetadata)
	r.uint16(len(t.Columns))
	kinds := make([]byte, len(t.Columns))
	for i, name := range t.Columns {
		kinds[i] = typeNVarChar
		for _, row := range t.Rows {
			if len(row) != len(t.Columns) {
				return fmt.Errorf("a row of %d values in a table of %d columns", len(row), len(t.Columns))
			}
			switch row[i].(type) {
			case int:
				kinds[i] = typeIntN
			case bool:
				kinds[i] = typeBitN
			}
		}
		r.uint32(0)    // user type
		r.uint16(0x01) // nullable
		r.bytes(kinds[i])
		switch kinds[i] {
		case typeIntN:
			r.bytes(8)
		case typeBitN:
			r.bytes(1)
		default:
			r.uint16(8000)
			r.bytes(0x09, 0x04, 0xd0, 0x00, 0x34) // SQL_Latin1_General_CP1_CI_AS
		}
		r.short(name)
	}
	for _, row := range t.Rows {
		r.bytes(tokenRow)
		for i, v := range row {
			if err := r.cell(kinds[i], v); err != nil {
				return fmt.Errorf("column %s: %w", t.Columns[i], err)
			}
		}
	}
	return nil
}

func (r *reply) cell(kind byte, v any) error {
	switch v := v.(type) {
	case nil:
		if kind == typeNVarChar {
			r.uint16(maxLength)
		} else {
			r.bytes(0)
		}
		return nil
	case int:
		if kind == typeIntN {
			r.bytes(8)
			r.uint64(v)
			return nil
		}
	case bool:
		if kind == typeBitN {
			r.bytes(1, map[bool]byte{true: 1}[v])
			return nil
		}
	case string:
		if kind == typeNVarChar {
			u := encodeUTF16(v)
			r.uint16(len(u))
			r.bytes(u...)
			return nil
		}
	}
	return fmt.Errorf("%T among values of another type", v)
}
