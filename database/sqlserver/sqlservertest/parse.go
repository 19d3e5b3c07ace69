package sqlservertest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Options of PRELOGIN, [MS-TDS] 2.2.6.5.
const (
	preloginVersion    = 0x00
	preloginEncryption = 0x01
	preloginInstance   = 0x02
	preloginThread     = 0x03
	preloginMARS       = 0x04
	preloginEnd        = 0xff
)

// Values of the option ENCRYPTION.
const (
	encryptOff    = 0 // the login alone
	encryptOn     = 1
	encryptNotSup = 2
)

// parsePrelogin reads the options of a PRELOGIN message.
func parsePrelogin(data []byte) (map[byte][]byte, error) {
	options := map[byte][]byte{}
	for at := 0; ; at += 5 {
		if at >= len(data) {
			return nil, fmt.Errorf("%w: PRELOGIN has no terminator", errMalformed)
		}
		if data[at] == preloginEnd {
			return options, nil
		}
		if at+5 > len(data) {
			return nil, fmt.Errorf("%w: PRELOGIN ends within an option", errMalformed)
		}
		offset := int(binary.BigEndian.Uint16(data[at+1:]))
		length := int(binary.BigEndian.Uint16(data[at+3:]))
		if offset+length > len(data) {
			return nil, fmt.Errorf("%w: an option of PRELOGIN lies outside of it", errMalformed)
		}
		options[data[at]] = data[offset : offset+length]
	}
}

// LoginRequest is what a client says of itself in LOGIN7 ([MS-TDS] 2.2.6.4).
type LoginRequest struct {
	Host, User, Password, App, Server, Database string
	// Integrated tells that the client asked for Windows authentication.
	Integrated bool
}

const login7Fixed = 94 // bytes before the variable part

// parseLogin7 reads a LOGIN7 message.
func parseLogin7(data []byte) (LoginRequest, error) {
	var l LoginRequest
	if len(data) < login7Fixed || int(binary.LittleEndian.Uint32(data)) != len(data) {
		return l, fmt.Errorf("%w: LOGIN7 has not the length that it says", errMalformed)
	}
	field := func(at int) ([]byte, error) {
		offset, chars := int(binary.LittleEndian.Uint16(data[at:])), int(binary.LittleEndian.Uint16(data[at+2:]))
		if chars > 0 && (offset < login7Fixed || offset+2*chars > len(data)) {
			return nil, fmt.Errorf("%w: a field of LOGIN7 lies outside of it", errMalformed)
		}
		if chars == 0 {
			return nil, nil
		}
		return data[offset : offset+2*chars], nil
	}
	for _, f := range []struct {
		at     int
		target *string
	}{{36, &l.Host}, {40, &l.User}, {44, &l.Password}, {48, &l.App}, {52, &l.Server}, {68, &l.Database}} {
		raw, err := field(f.at)
		if err != nil {
			return l, err
		}
		if f.target == &l.Password {
			raw = unmangle(raw)
		}
		*f.target = decodeUTF16(raw)
	}
	l.Integrated = data[25]&0x80 != 0 // fIntSecurity of OptionFlags2
	return l, nil
}

// unmangle undoes what a client does to a password before it sends it: the halves of each byte are swapped, then
// it is combined with 0xA5 by exclusive or.
func unmangle(raw []byte) []byte {
	out := make([]byte, len(raw))
	for i, b := range raw {
		b ^= 0xA5
		out[i] = b<<4 | b>>4
	}
	return out
}

// parseBatch returns the text of a SQLBatch message.
func parseBatch(data []byte) (string, error) {
	data, err := skipHeaders(data)
	if err != nil {
		return "", err
	}
	if len(data)%2 != 0 {
		return "", fmt.Errorf("%w: half a character in SQLBatch", errMalformed)
	}
	return decodeUTF16(data), nil
}

// skipHeaders skips ALL_HEADERS ([MS-TDS] 2.2.5.2).
func skipHeaders(data []byte) ([]byte, error) {
	if len(data) < 4 {
		return nil, fmt.Errorf("%w: no headers", errMalformed)
	}
	total := binary.LittleEndian.Uint32(data)
	if total < 4 || uint64(total) > uint64(len(data)) {
		return nil, fmt.Errorf("%w: headers of %d bytes", errMalformed, total)
	}
	return data[total:], nil
}

const procExecuteSQL = 10 // sp_executesql's number in RPCRequest

// parseRPC reads a call of sp_executesql: the statement and the values of its parameters.
func parseRPC(data []byte) (statement string, args []any, err error) {
	data, err = skipHeaders(data)
	if err != nil {
		return "", nil, err
	}
	r := &reader{data: data}
	if r.uint16() != 0xffff || r.uint16() != procExecuteSQL {
		return "", nil, fmt.Errorf("%w: a remote procedure call of something else than sp_executesql", errMalformed)
	}
	r.uint16() // option flags
	var values []any
	for !r.failed && len(r.data) > 0 {
		r.take(2 * int(r.byte())) // name
		r.byte()                  // status flags
		values = append(values, r.value())
	}
	if r.failed {
		return "", nil, fmt.Errorf("%w: a parameter of a type or size that is not known here", errMalformed)
	}
	if len(values) == 0 {
		return "", nil, fmt.Errorf("%w: sp_executesql without a statement", errMalformed)
	}
	statement, ok := values[0].(string)
	if !ok {
		return "", nil, fmt.Errorf("%w: the statement of sp_executesql is no string", errMalformed)
	}
	if len(values) > 2 { // the second declares the parameters
		args = values[2:]
	}
	return statement, args, nil
}

// reader takes values off a message; after the first failure it returns zeros.
type reader struct {
	data   []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.data) {
		r.failed = true
		return nil
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// Data types, [MS-TDS] 2.2.5.4.
const (
	typeIntN     = 0x26
	typeBitN     = 0x68
	typeNVarChar = 0xe7
	maxLength    = 0xffff // a partially length-prefixed value follows, or null in one that is not
)

// value reads TYPE_INFO and a value: an integer, a bit or Unicode text.
func (r *reader) value() any {
	switch kind := r.byte(); kind {
	case typeIntN, typeBitN:
		r.byte() // greatest length
		raw := r.take(int(r.byte()))
		switch {
		case kind == typeBitN && len(raw) == 1:
			return raw[0] != 0
		case kind == typeIntN && len(raw) == 8:
			return int64(binary.LittleEndian.Uint64(raw)) //nolint:gosec // two's complement is meant
		case len(raw) == 0:
			return nil
		}
	case typeNVarChar:
		long := r.uint16() == maxLength
		r.take(5) // collation
		if long {
			return r.longText()
		}
		length := r.uint16()
		if length == maxLength {
			return nil
		}
		return decodeUTF16(r.take(int(length)))
	}
	r.failed = true
	return nil
}

// longText reads a partially length-prefixed value ([MS-TDS] 2.2.5.2.3).
func (r *reader) longText() any {
	total := r.take(8)
	if total == nil {
		return nil
	}
	if binary.LittleEndian.Uint64(total) == 0xffffffffffffffff {
		return nil
	}
	var text []byte
	for {
		size := r.take(4)
		if size == nil {
			return nil
		}
		n := binary.LittleEndian.Uint32(size)
		if n == 0 {
			return decodeUTF16(text)
		}
		if n > maxMessage {
			r.failed = true
			return nil
		}
		text = append(text, r.take(int(n))...)
	}
}

func decodeUTF16(raw []byte) string {
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(raw[2*i:])
	}
	return string(utf16.Decode(units))
}

func encodeUTF16(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

// squeeze makes texts comparable that differ in white space only.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// clip makes a statement fit for a message.
func clip(s string) string {
	if s = squeeze(s); len(s) > 1000 {
		return s[:1000] + "…"
	}
	return s
}
