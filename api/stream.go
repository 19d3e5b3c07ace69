package api

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/jsonstream"
)

// streamGrace is how long a stream that has to end may take to send its last
// bytes to a client that reads slowly.
const streamGrace = time.Second

// streamWriter writes an answer of unknown length. Writes that block because the
// client does not read end with ctx.
type streamWriter struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	live bool // every write goes out at once
	stop func() bool
}

// newStreamWriter makes a writer that sends each write at once if live, else
// whenever enough has come together. The header goes out with the first write,
// or with start. It must be closed.
func newStreamWriter(ctx context.Context, w http.ResponseWriter, live bool) *streamWriter {
	rc := http.NewResponseController(w)
	return &streamWriter{w: w, rc: rc, live: live, stop: context.AfterFunc(ctx, func() {
		_ = rc.SetWriteDeadline(time.Now().Add(streamGrace)) // if it cannot, closing the server still does
	})}
}

// start sends the header, so that the client knows that it can begin to wait.
func (f *streamWriter) start() error {
	f.w.WriteHeader(http.StatusOK)
	return f.rc.Flush()
}

func (f *streamWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil || !f.live {
		return n, err
	}
	return n, f.rc.Flush()
}

// close ends the watch over ctx. It does not close the connection.
func (f *streamWriter) close() { f.stop() }

// maxFrame is the largest payload of one frame. Readers hold a whole frame in
// memory.
const maxFrame = 64 << 10

// frameMux lets several streams share a connection. A frame is the stream's
// number, three zero bytes, the length as four bytes in big-endian order, and the
// payload. Each frame is one write, so frames of different streams never mix.
type frameMux struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

func newFrameMux(w io.Writer) *frameMux { return &frameMux{w: w} }

// stream returns the writer of one stream. Streams may be written concurrently.
func (m *frameMux) stream(t stdcopy.StdType) io.Writer { return frameWriter{m, t} }

type frameWriter struct {
	mux    *frameMux
	stream stdcopy.StdType
}

func (f frameWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		part := p[:min(len(p), maxFrame)]
		if err := f.mux.frame(f.stream, part); err != nil {
			return written, err
		}
		written += len(part)
		p = p[len(part):]
	}
	return written, nil
}

func (m *frameMux) frame(stream stdcopy.StdType, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.buf = append(m.buf[:0], byte(stream), 0, 0, 0)
	m.buf = binary.BigEndian.AppendUint32(m.buf, uint32(len(p))) //nolint:gosec // at most maxFrame
	m.buf = append(m.buf, p...)
	n, err := m.w.Write(m.buf)
	if err == nil && n < len(m.buf) {
		return io.ErrShortWrite
	}
	return err
}

// streamType returns the media type of a stream, which tells new clients whether
// it has frames.
func streamType(v Version, framed bool) string {
	if framed && !v.before(42) {
		return types.MediaTypeMultiplexedStream
	}
	return types.MediaTypeRawStream
}

// progressStream sends a client the messages of a long operation as JSON. Until
// the first message an error can still become the status.
type progressStream struct {
	out *streamWriter
	w   *response
	err error // the first failed write
}

func newProgressStream(ctx context.Context, w *response) *progressStream {
	w.Header().Set("Content-Type", "application/json")
	return &progressStream{out: newStreamWriter(ctx, w, true), w: w}
}

// progressMessage carries the error also as text, which is what clients other
// than Docker's own look at.
type progressMessage struct {
	jsonstream.Message

	ErrorText string `json:"error,omitempty"`
}

// send is a [Progress]. It forgets messages once the client is gone; the
// operation ends by its context.
func (p *progressStream) send(msg jsonstream.Message) {
	if p.err != nil {
		return
	}
	m := progressMessage{Message: msg}
	if msg.Error != nil {
		m.ErrorText = msg.Error.Message
	}
	line, err := json.Marshal(m)
	if err == nil {
		_, err = p.out.Write(append(line, '\r', '\n'))
	}
	p.err = err
}

// finish ends the stream with the operation's error, if any: as the answer if
// nothing was sent, else as the last message.
func (p *progressStream) finish(err error) error {
	defer p.out.close()
	switch {
	case err == nil:
		if !p.w.started() {
			return p.out.start()
		}
		return nil
	case !p.w.started():
		return err
	}
	var je *jsonstream.Error
	if !errors.As(err, &je) {
		je = &jsonstream.Error{Message: err.Error()}
	}
	p.send(jsonstream.Message{Error: je})
	return nil
}
