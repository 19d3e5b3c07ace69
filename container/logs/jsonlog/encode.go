// Package jsonlog is the json-file log format, byte for byte Docker's: how output is cut into
// pieces, how a piece becomes a record and how a record is read back.
//
// A record is one line:
//
//	{"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2006-01-02T15:04:05.999999999Z"}
//
// attrs is there only if the container's log options ask for it. A record whose log text lacks the
// newline is part of a longer line, or the end of output that did not end in a newline.
package jsonlog

import (
	"bytes"
	"time"
	"unicode/utf8"
)

// MaxPiece is the number of bytes of output after which a line is cut into pieces.
const MaxPiece = 16 << 10

// Split returns the length of the first piece of b, or 0 if more output is needed to tell. With
// last, no more output will come and what is left is a piece.
//
// Where output is cut depends on its bytes only, never on how it arrived.
func Split(b []byte, last bool) int {
	head := b[:min(len(b), MaxPiece)]
	if i := bytes.IndexByte(head, '\n'); i >= 0 {
		return i + 1
	}
	if len(head) == MaxPiece || last {
		return len(head)
	}
	return 0
}

// Append appends the record of one piece of output to dst. attrs is the attributes' JSON object or
// empty.
func Append(dst, piece []byte, stream string, attrs []byte, t time.Time) []byte {
	dst = append(dst, `{"log":`...)
	dst = appendString(dst, piece)
	dst = append(dst, `,"stream":"`...)
	dst = append(dst, stream...)
	dst = append(dst, '"')
	if len(attrs) > 0 {
		dst = append(dst, `,"attrs":`...)
		dst = append(dst, attrs...)
	}
	dst = append(dst, `,"time":"`...)
	dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"', '}', '\n')
}

const hex = "0123456789abcdef"

// plain tells the bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for b := range utf8.RuneSelf {
		t[b] = b >= ' ' && b != '"' && b != '\\' && b != '<' && b != '>' && b != '&'
	}
	return t
}()

// appendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD, one each.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if plain[b] {
			i++
			continue
		}
		if b < utf8.RuneSelf {
			dst = append(dst, s[start:i]...)
			dst = appendEscaped(dst, b)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, `\ufffd`...)
			i++
			start = i
			continue
		}
		// Valid JSON, but not valid JavaScript.
		if r == '\u2028' || r == '\u2029' {
			dst = append(dst, s[start:i]...)
			dst = append(dst, `\u202`...)
			dst = append(dst, hex[r&0xf])
			start = i + size
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func appendEscaped(dst []byte, b byte) []byte {
	switch b {
	case '\\', '"':
		return append(dst, '\\', b)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	default:
		return append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&0xf])
	}
}

// Rotated is the JSON in the gzip header of a compressed log file.
type Rotated struct {
	LastTime time.Time `json:"lastTime"`        // when the file was last written
	Inode    uint64    `json:"inode,omitempty"` // of the file before it was compressed
}
