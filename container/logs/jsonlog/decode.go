package jsonlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"
)

// ErrCorrupt reports a line that is not a record: torn by a power cut, or not written by a log
// keeper at all.
var ErrCorrupt = errors.New("corrupt log record")

// Record is one decoded record.
type Record struct {
	Log    []byte // the output, with its newline if it had one
	Stream string // "stdout" or "stderr"
	Attrs  []byte // the attributes' JSON object, or nil
	Time   time.Time
}

// Decode reads one line (with or without its newline) into r, whose Log buffer is reused. The
// record's Attrs alias line.
func (r *Record) Decode(line []byte) error {
	line = bytes.TrimRight(line, "\r\n")
	if r.decodeOwn(line) {
		return nil
	}
	return r.decodeAny(line)
}

// decodeOwn reads a line as Append writes it and reports whether it was one.
func (r *Record) decodeOwn(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return false
	}
	r.Log, rest, ok = unquote(r.Log[:0], rest)
	if !ok {
		return false
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"stream":"`)); !ok {
		return false
	}
	switch {
	case bytes.HasPrefix(rest, []byte(`stdout"`)):
		r.Stream = "stdout"
	case bytes.HasPrefix(rest, []byte(`stderr"`)):
		r.Stream = "stderr"
	default:
		return false
	}
	rest, ok = bytes.CutPrefix(rest[len(`stdout"`):], []byte(`,"time":"`))
	r.Attrs = nil
	if !ok {
		return false // with attributes: the general way
	}
	stamp, ok := bytes.CutSuffix(rest, []byte(`"}`))
	if !ok {
		return false
	}
	return r.Time.UnmarshalText(stamp) == nil
}

// decodeAny reads any JSON object with the record's fields.
func (r *Record) decodeAny(line []byte) error {
	var v struct {
		Log    string          `json:"log"`
		Stream string          `json:"stream"`
		Attrs  json.RawMessage `json:"attrs"`
		Time   time.Time       `json:"time"`
	}
	if err := json.Unmarshal(line, &v); err != nil || v.Time.IsZero() {
		return ErrCorrupt
	}
	r.Log = append(r.Log[:0], v.Log...)
	r.Stream, r.Time, r.Attrs = v.Stream, v.Time, nil
	if len(v.Attrs) > 0 && v.Attrs[0] == '{' {
		r.Attrs = v.Attrs
	}
	return nil
}

// unquote appends the JSON string that starts after the opening quote at s to dst and returns what
// follows the closing quote. Surrogate pairs and odd escapes are left to the general decoder.
func unquote(dst, s []byte) (out, rest []byte, ok bool) {
	for {
		i := 0
		for i < len(s) && s[i] >= ' ' && s[i] != '"' && s[i] != '\\' {
			i++
		}
		if !utf8.Valid(s[:i]) {
			return dst, nil, false
		}
		dst = append(dst, s[:i]...)
		if i == len(s) {
			return dst, nil, false
		}
		switch {
		case s[i] == '"':
			return dst, s[i+1:], true
		case s[i] != '\\' || i+1 == len(s):
			return dst, nil, false
		}
		esc := s[i+1]
		s = s[i+2:]
		switch esc {
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case '"', '\\', '/':
			dst = append(dst, esc)
		case 'u':
			v, valid := hex4(s)
			if !valid || v >= 0xd800 && v < 0xe000 {
				return dst, nil, false
			}
			dst = utf8.AppendRune(dst, v)
			s = s[4:]
		default:
			return dst, nil, false
		}
	}
}

func hex4(s []byte) (v rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | rune(c)
	}
	return v, true
}
