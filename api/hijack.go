package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"slipway/container"

	"github.com/moby/moby/api/pkg/stdcopy"
)

// errClientGone is the cause of a stream's context when its client has closed
// the connection.
var errClientGone = errors.New("the client closed the connection")

// session is a connection that was taken over from the HTTP server, with the
// client's ends of a process's streams.
type session struct {
	conn   net.Conn
	in     io.Reader
	out    io.Writer // the process's output, or frames
	err    io.Writer
	stdout io.Writer // for messages of our own
}

// takeOver answers the request by turning its connection into a raw stream:
// with 101 if the client asks for an upgrade, else with 200, as for clients
// before upgrades. The session's streams end with the returned context, which
// itself ends when the client closes the connection; half closing it only ends
// the input. It must be closed.
func (s *Server) takeOver(ctx context.Context, w *response, r *request, framed bool) (context.Context, *session, func(), error) {
	conn, rw, err := w.hijack()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("taking over the connection: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	unwatch := watchHangup(conn, func() { cancel(errClientGone) }, watched)
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Now().Add(streamGrace)) // a broken connection needs none
	})
	closeSession := func() {
		inOrder := ctx.Err() == nil
		stop()
		cancel(nil)
		unwatch()
		<-watched
		if inOrder {
			drain(conn)
		}
		_ = conn.Close()
	}
	status, upgrade := "200 OK", ""
	if r.Header.Get("Upgrade") != "" {
		status, upgrade = "101 UPGRADED", "Connection: Upgrade\r\nUpgrade: tcp\r\n"
		w.status = 101
	} else {
		w.status = 200
	}
	media := streamType(r.version, framed && upgrade != "")
	h := w.Header()
	_, err = fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Type: %s\r\n%sApi-Version: %s\r\nOstype: %s\r\nServer: %s\r\n\r\n",
		status, media, upgrade, h.Get("Api-Version"), h.Get("Ostype"), h.Get("Server"))
	if err != nil {
		closeSession()
		return nil, nil, nil, err
	}
	// The HTTP server's reader is left as soon as what it holds is read: it would
	// end the request's context when the client ends its input.
	sess := &session{conn: conn, in: io.MultiReader(io.LimitReader(rw.Reader, int64(rw.Reader.Buffered())), conn), out: conn, err: conn, stdout: conn}
	if framed {
		mux := newFrameMux(conn)
		sess.out, sess.err = mux.stream(stdcopy.Stdout), mux.stream(stdcopy.Stderr)
		sess.stdout = sess.out
	}
	return ctx, sess, closeSession, nil
}

// drain ends the output and waits a moment for the client to end its input: to
// close a connection with unread input would make the client lose the end of the
// output.
func drain(conn net.Conn) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(streamGrace)) // if it fails, so does the read
	_, _ = io.Copy(io.Discard, conn)
}

// streams are the session's ends for the process. Docker's client sends stdin
// only if it asked to; a nil reader leaves what is sent unread.
func (s *session) streams(stdin, stdout, stderr bool) container.Streams {
	var streams container.Streams
	if stdin {
		streams.Stdin = s.in
	}
	if stdout {
		streams.Stdout = s.out
	}
	if stderr {
		streams.Stderr = s.err
	}
	return streams
}

// report logs how a session ended. A client that left is no news.
func (s *Server) report(ctx context.Context, r *request, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	s.log.LogAttrs(ctx, slog.LevelDebug, "stream ended with an error",
		slog.String("path", r.URL.Path), slog.Any("error", err))
}

func (s *Server) attachContainer(ctx context.Context, w *response, r *request) error {
	opts := container.AttachOptions{
		Stdin:      r.query.flag("stdin"),
		Stdout:     r.query.flag("stdout"),
		Stderr:     r.query.flag("stderr"),
		Logs:       r.query.flag("logs"),
		Stream:     r.query.flag("stream"),
		DetachKeys: r.query.get("detachKeys"),
	}
	attachment, err := s.cfg.Containers.Attach(ctx, r.name(), opts)
	if err != nil {
		return err
	}
	tty := attachment.TTY()
	sctx, sess, closeSession, err := s.takeOver(ctx, w, r, !tty)
	if err != nil {
		return errors.Join(err, attachment.Close())
	}
	defer closeSession()
	err = attachment.Copy(sctx, sess.streams(opts.Stdin, opts.Stdout, opts.Stderr && !tty))
	if err != nil && sctx.Err() == nil {
		_, _ = fmt.Fprintf(sess.stdout, "Error attaching: %v\n", err) // the client may be gone
	}
	s.report(sctx, r, err)
	return nil
}
