package api_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"slipway/container"

	"github.com/moby/moby/api/pkg/stdcopy"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

const (
	rawStream    = "application/vnd.docker.raw-stream"
	framedStream = "application/vnd.docker.multiplexed-stream"
	soon         = 5 * time.Second
)

// halfConn is a connection whose sending half can be closed.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

// raw sends a request over a connection of its own and reads the answer's header.
func (e *engine) raw(request string) (halfConn, *bufio.Reader, answer) {
	e.t.Helper()
	conn, err := dialHost(e.t.Context(), e.host)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * soon)); err != nil {
		e.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		e.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	head := textproto.NewReader(r)
	line, err := head.ReadLine()
	if err != nil {
		e.t.Fatalf("reading the answer's status: %v", err)
	}
	header, err := head.ReadMIMEHeader()
	if err != nil {
		e.t.Fatalf("reading the answer's header: %v", err)
	}
	got := answer{header: http.Header(header)}
	if _, err := fmt.Sscanf(line, "HTTP/1.1 %d", &got.status); err != nil {
		e.t.Fatalf("status line %q: %v", line, err)
	}
	return conn.(halfConn), r, got
}

const upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"

// TestAttach: input after the request, also in the same packet, reaches the
// process, and half closing ends it; the output has frames or not.
func TestAttach(t *testing.T) {
	for _, tt := range []struct {
		name, version, header string
		tty                   bool
		status                int
		media                 string
		out                   string
	}{
		{"framed", "1.56", upgrade, false, 101, framedStream, "hello there"},
		{"framed before 1.42", "1.41", upgrade, false, 101, rawStream, "hello there"},
		{"terminal", "1.56", upgrade, true, 101, rawStream, "hello there"},
		{"no upgrade", "1.56", "Host: x\r\n", false, 200, rawStream, "hello there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t)
			e.containers.TTY = tt.tty
			conn, r, resp := e.raw("POST /v" + tt.version + "/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\n" +
				tt.header + "Content-Length: 0\r\n\r\nhello")
			if resp.status != tt.status || resp.header.Get("Content-Type") != tt.media {
				t.Errorf("answer %d %s", resp.status, resp.header.Get("Content-Type"))
			}
			if _, err := io.WriteString(conn, " there"); err != nil {
				t.Fatal(err)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			if tt.tty {
				_, _ = stdout.ReadFrom(r)
			} else if _, err := stdcopy.StdCopy(&stdout, &stderr, r); err != nil {
				t.Errorf("reading frames: %v", err)
			}
			if stdout.String() != tt.out {
				t.Errorf("stdout %q, want %q", stdout.String(), tt.out)
			}
			if want := map[bool]string{false: "oops"}[tt.tty]; stderr.String() != want {
				t.Errorf("stderr %q, want %q", stderr.String(), want)
			}
		})
	}
}

func TestAttachWithClient(t *testing.T) {
	e := newEngine(t)
	for _, version := range []string{"", "1.41", "1.50"} {
		att, err := e.client(version).ContainerAttach(t.Context(), "web", client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
		if err != nil {
			t.Fatal(err)
		}
		// Larger than a frame and than every buffer on the way.
		in := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
		go func() {
			_, _ = att.Conn.Write(in)
			_ = att.CloseWrite()
		}()
		var stdout, stderr bytes.Buffer
		if _, err := stdcopy.StdCopy(&stdout, &stderr, att.Reader); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stdout.Bytes(), in) || stderr.String() != "oops" {
			t.Errorf("version %q: %d bytes of %d came back, stderr %q", version, stdout.Len(), len(in), stderr.String())
		}
		att.Close()
	}
	if _, err := e.client("").ContainerAttach(t.Context(), "nope", client.ContainerAttachOptions{}); err == nil {
		t.Error("no error for a container that does not exist")
	}
}

// TestExec: the request's body comes before the stream on the same connection.
func TestExec(t *testing.T) {
	e := newEngine(t)
	c := e.client("")
	att, err := c.ExecAttach(t.Context(), "e1", client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer att.Close()
	if media, _ := att.MediaType(); media != framedStream {
		t.Errorf("media type %s", media)
	}
	_, _ = io.WriteString(att.Conn, "select 1")
	_ = att.CloseWrite()
	var stdout, stderr bytes.Buffer
	if _, err := stdcopy.StdCopy(&stdout, &stderr, att.Reader); err != nil || stdout.String() != "select 1" || stderr.String() != "oops" {
		t.Errorf("%q %q %v", stdout.String(), stderr.String(), err)
	}

	if _, err := c.ExecStart(t.Context(), "e1", client.ExecStartOptions{Detach: true}); err != nil {
		t.Errorf("detached: %v", err)
	}

	// An error after the take-over goes into the stream.
	e.containers.LogError = errors.New("exec failed: no such file")
	att, err = c.ExecAttach(t.Context(), "e1", client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer att.Close()
	stdout.Reset()
	if _, err := stdcopy.StdCopy(&stdout, &stderr, att.Reader); err != nil || stdout.String() != "exec failed: no such file\r\n" {
		t.Errorf("%q %v", stdout.String(), err)
	}
	if _, err := c.ExecStart(t.Context(), "e1", client.ExecStartOptions{Detach: true}); err == nil {
		t.Error("detached: the error is lost")
	}
}

// TestHangup: a client that closes its connection ends its session at once,
// though nothing is read from it or written to it; one that half closes does not.
func TestHangup(t *testing.T) {
	e := newEngine(t)
	e.containers.Silent, e.containers.Ended = true, make(chan error, 1)
	request := "POST /containers/web/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n" + upgrade + "\r\nunread input"
	conn, _, _ := e.raw(request)
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case cause := <-e.containers.Ended:
		t.Fatalf("half closing ended the session: %v", cause)
	case <-time.After(100 * time.Millisecond):
	}
	_ = conn.Close()
	select {
	case cause := <-e.containers.Ended:
		t.Logf("ended: %v", cause)
	case <-time.After(soon):
		t.Fatal("closing did not end the session")
	}
}

// TestClientThatDoesNotRead: it blocks nobody, and a shutdown gets rid of it.
func TestClientThatDoesNotRead(t *testing.T) {
	for _, path := range []string{"POST /containers/web/attach?stream=1&stdin=1&stdout=1", "GET /containers/web/logs?stdout=1&follow=1"} {
		t.Run(path, func(t *testing.T) {
			e := newEngine(t)
			big := bytes.Repeat([]byte("x"), 16<<20)
			e.containers.Messages = []container.LogMessage{{Stream: "stdout", Line: big}}
			conn, _, _ := e.raw(path + " HTTP/1.1\r\n" + upgrade + "\r\n")
			go func() { _, _ = conn.Write(big) }() // echoed, until the buffers are full
			time.Sleep(50 * time.Millisecond)
			if got := e.do("GET", "/containers/json", ""); got.status != 200 {
				t.Errorf("another client: %d", got.status)
			}
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			start := time.Now()
			if err := e.server.Shutdown(ctx); err != nil {
				t.Errorf("shutdown: %v", err)
			}
			t.Logf("shutdown took %s", time.Since(start))
		})
	}
}

func TestLogs(t *testing.T) {
	e := newEngine(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	e.containers.Messages = []container.LogMessage{
		{Stream: "stdout", Time: at, Line: []byte("one\n"), Attrs: map[string]string{"b": "2&", "a": "1"}},
		{Stream: "stderr", Time: at, Line: []byte("two\n")},
	}
	for _, tt := range []struct {
		query, stdout, stderr string
		opts                  container.LogsOptions
	}{
		{"stdout=1&stderr=1", "one\n", "two\n", container.LogsOptions{Stdout: true, Stderr: true}},
		{"stdout=1&tail=5", "one\n", "", container.LogsOptions{Stdout: true, Tail: "5"}},
		{"stderr=1&tail=-3&until=0", "", "two\n", container.LogsOptions{Stderr: true, Tail: "all"}},
		{
			"stdout=1&timestamps=1&details=1&since=1.5&until=2", "2026-01-02T03:04:05.000006000Z a=1,b=2%26 one\n", "",
			container.LogsOptions{Stdout: true, Timestamps: true, Details: true, Since: time.Unix(1, 5e8).UTC(), Until: time.Unix(2, 0).UTC()},
		},
	} {
		got := e.do("GET", "/containers/web/logs?"+tt.query, "")
		var stdout, stderr bytes.Buffer
		if _, err := stdcopy.StdCopy(&stdout, &stderr, strings.NewReader(got.body)); err != nil {
			t.Errorf("%s: %v", tt.query, err)
		}
		if stdout.String() != tt.stdout || stderr.String() != tt.stderr || got.header.Get("Content-Type") != framedStream {
			t.Errorf("%s: %q %q %s", tt.query, stdout.String(), stderr.String(), got.header.Get("Content-Type"))
		}
		if e.containers.Last() != tt.opts {
			t.Errorf("%s: options %+v, want %+v", tt.query, e.containers.Last(), tt.opts)
		}
	}

	e.containers.TTY = true
	if got := e.do("GET", "/containers/web/logs?stdout=1", ""); got.body != "one\n" || got.header.Get("Content-Type") != rawStream {
		t.Errorf("terminal: %q %s", got.body, got.header.Get("Content-Type"))
	}

	e.containers.TTY, e.containers.LogError = false, errors.New("disk on fire")
	got := e.do("GET", "/containers/web/logs?stdout=1", "")
	var stdout bytes.Buffer
	_, err := stdcopy.StdCopy(&stdout, io.Discard, strings.NewReader(got.body))
	if stdout.String() != "one\n" || err == nil || !strings.Contains(err.Error(), "Error grabbing logs: disk on fire") {
		t.Errorf("a broken log: %q, %v", stdout.String(), err)
	}
}

// TestFollowEndsWithClient: the context of a stream ends when its client leaves.
func TestFollowEndsWithClient(t *testing.T) {
	e := newEngine(t)
	e.containers.Ended = make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	logs, err := e.client("").ContainerLogs(ctx, "web", client.ContainerLogsOptions{ShowStdout: true, Follow: true})
	if err != nil {
		t.Fatal(err) // also: the header must come before the first line
	}
	defer logs.Close()
	cancel()
	select {
	case cause := <-e.containers.Ended:
		t.Logf("ended: %v", cause)
	case <-time.After(soon):
		t.Fatal("the stream goes on without its client")
	}
	time.Sleep(20 * time.Millisecond)
	if log := e.log.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") {
		t.Errorf("a client that leaves is no error:\n%s", log)
	}
}

func TestWait(t *testing.T) {
	e := newEngine(t)
	e.containers.Exit = make(chan mobycontainer.WaitResponse, 1)
	wait := e.client("").ContainerWait(t.Context(), "web", client.ContainerWaitOptions{Condition: mobycontainer.WaitConditionNextExit})
	select {
	case res := <-wait.Result:
		t.Fatalf("early result %v", res)
	case err := <-wait.Error:
		t.Fatal(err)
	case <-time.After(50 * time.Millisecond):
	}
	if e.containers.Last() != mobycontainer.WaitConditionNextExit {
		t.Errorf("condition %v", e.containers.Last())
	}
	e.containers.Exit <- mobycontainer.WaitResponse{StatusCode: 137}
	select {
	case res := <-wait.Result:
		if res.StatusCode != 137 {
			t.Errorf("exit code %d", res.StatusCode)
		}
	case err := <-wait.Error:
		t.Fatal(err)
	case <-time.After(soon):
		t.Fatal("no result")
	}
}

func TestEvents(t *testing.T) {
	e := newEngine(t)
	publish := func(action mobyevents.Action) {
		e.events.Publish(mobyevents.ContainerEventType, action, "4c01db0b339c", map[string]string{"name": "web", "image": "postgres:17"})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := e.client("").Events(ctx, client.EventsListOptions{Filters: make(client.Filters).Add("image", "postgres").Add("event", "start", "health_status")})
	// The subscription exists once the header has come; publish until then.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for got := false; !got; {
		select {
		case <-tick.C:
			publish(mobyevents.ActionCreate)
			publish(mobyevents.ActionStart)
		case msg := <-stream.Messages:
			if msg.Action != mobyevents.ActionStart || msg.Actor.ID != "4c01db0b339c" || msg.TimeNano == 0 {
				t.Errorf("message %+v", msg)
			}
			got = true
		case err := <-stream.Err:
			t.Fatal(err)
		case <-time.After(soon):
			t.Fatal("no message")
		}
	}

	// The past, up to now: the stream ends by itself.
	publish(mobyevents.ActionHealthStatusHealthy)
	until := time.Now().Add(20 * time.Millisecond)
	query := fmt.Sprintf("since=1&until=%d.%09d&filters=", until.Unix(), until.Nanosecond()) + url.QueryEscape(`{"event":["health_status"]}`)
	got := e.do("GET", "/v1.51/events?"+query, "")
	for _, want := range []string{
		`"Action":"health_status: healthy"`, `"status":"health_status: healthy"`, `"id":"4c01db0b339c"`, `"from":"postgres:17"`,
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("1.51: %s lacks %s", got.body, want)
		}
	}
	if strings.Count(got.body, "\n") != 1 || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("1.51: %q %s", got.body, got.header.Get("Content-Type"))
	}
	got = e.do("GET", "/v1.56/events?"+query, "", "Accept", "application/json-seq")
	if !strings.HasPrefix(got.body, "\x1e{") || strings.Contains(got.body, `"from"`) || got.header.Get("Content-Type") != "application/json-seq" {
		t.Errorf("1.56: %q %s", got.body, got.header.Get("Content-Type"))
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	e := newEngine(t)
	e.containers.Ended = make(chan error, 2)
	e.containers.Exit = make(chan mobycontainer.WaitResponse)
	c := e.client("")
	logs, err := c.ContainerLogs(t.Context(), "web", client.ContainerLogsOptions{ShowStdout: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	e.containers.Silent = true
	if _, err := c.ContainerAttach(t.Context(), "web", client.ContainerAttachOptions{Stream: true, Stdout: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := e.server.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	for range 2 {
		if cause := <-e.containers.Ended; cause == nil || cause.Error() != "the daemon is shutting down" {
			t.Errorf("a stream ended because of %v", cause)
		}
	}
	// A stream that ends in order, not with a broken connection.
	if _, err := io.ReadAll(logs); err != nil {
		t.Errorf("the client of the logs sees %v", err)
	}
	if _, err := dialHost(e.t.Context(), e.host); err == nil {
		t.Error("the socket is still there")
	}
}
