// Package wire is the protocol between the daemon and the log keeper (cmd/slipway-logger).
//
// One request travels over one connection to the keeper, a unix socket in the exec root or, on Windows, a named pipe. The client sends a Request
// as one line of JSON; the keeper answers with a Reply as one line of JSON. Only attach sends more:
// after its reply, frames flow from the keeper to the client until both streams have ended.
//
// A frame is eight bytes of header and a payload: one byte Kind, three zero bytes, the payload's
// length as a big-endian uint32. It is the layout of Docker's multiplexed streams, so that a dump of
// the socket can be read with the usual tools.
//
// The package has next to no dependencies: the keeper must stay small.
package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Version is the protocol's version. A keeper that speaks another one answers every request with
// CodeVersion, except OpRetire, which every version understands.
const Version = 1

// Op names a request.
type Op string

// The requests of a client.
const (
	OpPing       Op = "ping"       // tells version and pid; used to watch the keeper: the connection stays open
	OpRegister   Op = "register"   // starts reading a container's FIFOs; idempotent for the same run
	OpAttach     Op = "attach"     // streams the output from now on
	OpFinish     Op = "finish"     // the task has exited: returns when the streams have ended
	OpWait       Op = "wait"       // returns when the streams have ended by themselves
	OpStatus     Op = "status"     // tells one container's state
	OpList       Op = "list"       // tells every container's state
	OpUnregister Op = "unregister" // forgets a container; idempotent
	OpRetire     Op = "retire"     // the keeper stops reading and exits; what is in the FIFOs stays there for the next
	OpShutdown   Op = "shutdown"   // as retire, but refused while a container is registered
)

// Code says what kind of error a Reply carries.
type Code string

// The error codes of a Reply.
const (
	CodeNone     Code = ""
	CodeInvalid  Code = "invalid"
	CodeNotFound Code = "not_found"
	CodeBusy     Code = "busy"
	CodeVersion  Code = "version"
	CodeInternal Code = "internal"
)

// LogConfig says how a container's output is kept.
type LogConfig struct {
	Driver   string            `json:"driver"`             // "json-file" or "none"
	Path     string            `json:"path,omitempty"`     // the log file, json-file only
	MaxSize  int64             `json:"max_size,omitempty"` // bytes after which the file is rotated; 0: never
	MaxFile  int               `json:"max_file,omitempty"` // files kept, the current one included; 0: 1
	Compress bool              `json:"compress,omitempty"` // rotated files are compressed with gzip
	Attrs    map[string]string `json:"attrs,omitempty"`    // added to every line
}

// Register is what OpRegister needs beyond the container's id.
type Register struct {
	Run    string    `json:"run"`              // tells one run of the container from the next
	Stdout string    `json:"stdout"`           // path of the FIFO
	Stderr string    `json:"stderr,omitempty"` // path of the FIFO; empty with a terminal
	Log    LogConfig `json:"log"`
	Expect int       `json:"expect,omitempty"` // attachments to an earlier keeper that will be resumed: what they miss is kept for a while
}

// Attach is what OpAttach needs beyond the container's id.
type Attach struct {
	Stdout bool      `json:"stdout,omitempty"`
	Stderr bool      `json:"stderr,omitempty"`
	From   *[2]int64 `json:"from,omitempty"` // positions to resume at, of stdout and stderr; nil: from now on
}

// Request is one request of a client.
type Request struct {
	Version  int       `json:"version"`
	Op       Op        `json:"op"`
	ID       string    `json:"id,omitempty"`
	Register *Register `json:"register,omitempty"`
	Attach   *Attach   `json:"attach,omitempty"`
	Now      bool      `json:"now,omitempty"` // OpFinish: end the streams even if somebody still holds them open
}

// Status is the state of one registered container.
type Status struct {
	ID       string   `json:"id"`
	Run      string   `json:"run"`
	Position [2]int64 `json:"position"` // bytes read so far of stdout and stderr
	Ended    bool     `json:"ended"`    // both streams have ended and the log is complete
	Attached int      `json:"attached"` // attached clients
	Dropped  int64    `json:"dropped"`  // lines that the log file could not take (disk full)
	Failure  string   `json:"failure,omitempty"`
}

// Reply is the keeper's answer.
type Reply struct {
	Version  int       `json:"version"`
	PID      int       `json:"pid"`
	Code     Code      `json:"code,omitempty"`
	Error    string    `json:"error,omitempty"`
	Status   *Status   `json:"status,omitempty"`
	List     []Status  `json:"list,omitempty"`
	Position *[2]int64 `json:"position,omitempty"` // OpAttach: where the streams begin
}

// Kind tells what a frame carries.
type Kind byte

// The kinds of frames.
const (
	KindStdout Kind = 1
	KindStderr Kind = 2
	KindEnd    Kind = 16 // both streams have ended; nothing follows
)

// HeaderSize is the size of a frame's header in bytes.
const HeaderSize = 8

// MaxPayload is the largest payload of a frame in bytes.
const MaxPayload = 64 << 10

// maxLine bounds a request or reply line (labels and environment can be long).
const maxLine = 4 << 20

// ErrTooLong reports a request, reply or frame beyond the protocol's bounds.
var ErrTooLong = errors.New("log keeper protocol: message too long")

// PutHeader writes a frame's header to the first HeaderSize bytes of b.
func PutHeader(b []byte, kind Kind, size int) {
	_ = b[HeaderSize-1]
	b[0], b[1], b[2], b[3] = byte(kind), 0, 0, 0
	binary.BigEndian.PutUint32(b[4:], uint32(size)) //nolint:gosec // bounded by MaxPayload
}

// ReadHeader reads a frame's header.
func ReadHeader(r io.Reader) (Kind, int, error) {
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, 0, err
	}
	size := binary.BigEndian.Uint32(b[4:])
	if size > MaxPayload {
		return 0, 0, ErrTooLong
	}
	return Kind(b[0]), int(size), nil
}

// WriteLine sends v as one line of JSON.
func WriteLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("log keeper protocol: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// ReadLine receives one line of JSON into v.
func ReadLine(r *bufio.Reader, v any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return ErrTooLong
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("log keeper protocol: %w", err)
	}
	return nil
}
