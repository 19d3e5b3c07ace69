package api_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/apitest"
	"slipway/events"

	"github.com/moby/moby/client"
)

// engine is a server with fakes behind it, on a unix socket or a named pipe.
type engine struct {
	t          *testing.T
	server     *api.Server
	host       string
	log        *logBuffer
	containers *apitest.Containers
	images     *apitest.Images
	volumes    *apitest.Volumes
	networks   *apitest.Networks
	system     *apitest.System
	events     *events.Bus
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

type baseKey struct{}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{
		t: t, log: &logBuffer{}, host: newHost(t),
		containers: &apitest.Containers{}, images: &apitest.Images{}, volumes: &apitest.Volumes{},
		networks: &apitest.Networks{}, system: &apitest.System{}, events: events.New(),
	}
	cfg := e.config()
	var err error
	if e.server, err = api.New(cfg); err != nil {
		t.Fatal(err)
	}
	listeners, err := api.Listen(t.Context(), e.host, api.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(listeners[0]) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := e.server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return e
}

func (e *engine) config() api.Config {
	return api.Config{
		Logger:        slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		BaseContext:   func() context.Context { return context.WithValue(context.Background(), baseKey{}, "slipway") },
		EngineVersion: "1.2.3",
		Builder:       "1",
		Containers:    e.containers, Images: e.images, Volumes: e.volumes, Networks: e.networks,
		System: e.system, Events: e.events,
	}
}

// client is Docker's, speaking the given version ("" negotiates).
func (e *engine) client(version string) *client.Client {
	e.t.Helper()
	opts := []client.Opt{client.WithHost(e.host)}
	if version != "" {
		opts = append(opts, client.WithAPIVersion(version))
	}
	c, err := client.New(opts...)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = c.Close() })
	return c
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends one request as it is.
func (e *engine) do(method, path, body string, header ...string) answer {
	e.t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialHost(ctx, e.host)
		},
		DisableCompression: true,
		DisableKeepAlives:  true,
	}
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(e.t.Context(), method, "http://slipway"+path, reader)
	if err != nil {
		e.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(got)}
}

// message is an error's text in an answer's body.
func message(text string) string { return `{"message":"` + text + `"}` + "\n" }

func TestPing(t *testing.T) {
	e := newEngine(t)
	for _, method := range []string{"HEAD", "GET"} {
		got := e.do(method, "/_ping", "")
		if got.status != http.StatusOK || (method == "GET") != (got.body == "OK") {
			t.Errorf("%s: %d %q", method, got.status, got.body)
		}
		for header, want := range map[string]string{
			"Api-Version": "1.56", "Docker-Experimental": "false", "Ostype": runtime.GOOS, "Builder-Version": "1",
			"Swarm": "inactive", "Server": "Slipway/1.2.3 (" + runtime.GOOS + ")", "Cache-Control": "no-cache, no-store, must-revalidate",
		} {
			if got.header.Get(header) != want {
				t.Errorf("%s: header %s is %q, want %q", method, header, got.header.Get(header), want)
			}
		}
	}
	if api.MaxVersion.String() != client.MaxAPIVersion {
		t.Errorf("newest version is %s, the client's is %s", api.MaxVersion, client.MaxAPIVersion)
	}
	c := e.client("")
	if _, err := c.Ping(t.Context(), client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		t.Fatal(err)
	}
	if c.ClientVersion() != client.MaxAPIVersion {
		t.Errorf("negotiated %s", c.ClientVersion())
	}
}

func TestVersions(t *testing.T) {
	e := newEngine(t)
	for _, tt := range []struct {
		path   string
		status int
		body   string
	}{
		{"/v1.40/version", 200, ""},
		{"/v1.56/version", 200, ""},
		{"/version", 200, ""},
		{"/v1.39/version", 400, message("client version 1.39 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version")},
		{"/v1.12/version", 400, "client version 1.12 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version\n"},
		{"/v1.57/version", 400, message("client version 1.57 is too new. Maximum supported API version is 1.56")},
		{"/v1.99999999999999999999999/version", 400, message("client version 1.99999999999999999999999 is too new. Maximum supported API version is 1.56")},
		{"/v1.4.4/version", 400, message(`invalid API version \"1.4.4\"`)},
		{"/v1.x/version", 404, message("page not found")},
		{"/nothing", 404, message("page not found")},
		{"/v1.44/nothing", 404, message("page not found")},
		{"/v1.44/containers/web", 404, message("page not found")},
		{"/v1.44//containers//json/", 200, "[]\n"},
		{"/v1.44/containers/../containers/json", 200, "[]\n"},
	} {
		got := e.do("GET", tt.path, "")
		if got.status != tt.status || tt.body != "" && got.body != tt.body {
			t.Errorf("%s: %d %q, want %d %q", tt.path, got.status, got.body, tt.status, tt.body)
		}
	}
	if got := e.do("POST", "/version", ""); got.status != 404 || got.body != message("page not found") {
		t.Errorf("wrong method: %d %q", got.status, got.body)
	}
	if got := e.do("HEAD", "/version", ""); got.status != 404 {
		t.Errorf("HEAD of a GET route: %d", got.status)
	}
}

func TestNamesWithSlashes(t *testing.T) {
	e := newEngine(t)
	for path, want := range map[string]any{
		"GET /v1.44/images/library/ubuntu:24.04/json": "library/ubuntu:24.04",
		"GET /images/example.com:5000/a/b/history":    "example.com:5000/a/b",
		"GET /images/json/json":                       "json",
		"POST /images/a/b/tag?repo=c/d&tag=e":         "a/b docker.io/c/d:e",
		"DELETE /images/a/b/json":                     "a/b/json",
		"GET /images/a%2Fb/json":                      "a/b",
		"GET /images/with%20space%25/json":            "with space%",
		"GET /images/sha256:0123/json":                "sha256:0123",
		"GET /networks/a/b":                           "a/b",
	} {
		method, target, _ := strings.Cut(path, " ")
		e.images.Part, e.networks.Part = apitest.Part{}, apitest.Part{}
		e.do(method, target, "")
		got := e.images.Last()
		if got == nil {
			got = e.networks.Last()
		}
		if got != want {
			t.Errorf("%s reached the backend as %v, want %v", path, got, want)
		}
	}
	// The slash that Docker's names begin with is not part of the name.
	if got := e.do("POST", "/containers//web/start", ""); got.status != 204 {
		t.Errorf("leading slash: %d %s", got.status, got.body)
	}
	if got := e.do("POST", "/containers/a/b/start", ""); got.body != message("No such container: a/b") {
		t.Errorf("slash in a container's name: %d %s", got.status, got.body)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	e := newEngine(t)
	e.containers.Panic("boom")
	got := e.do("GET", "/containers/json", "")
	if got.status != 500 || strings.Contains(got.body, "boom") {
		t.Errorf("answer %d %s", got.status, got.body)
	}
	if log := e.log.String(); !strings.Contains(log, "boom") || !strings.Contains(log, "server_test.go") && !strings.Contains(log, "apitest") {
		t.Errorf("the log lacks the panic and its stack:\n%s", log)
	}
	e.containers.Panic(nil)
	if got := e.do("GET", "/containers/json", ""); got.status != 200 {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
}

func TestLogHasNoSecrets(t *testing.T) {
	e := newEngine(t)
	e.do("POST", "/auth?password=q1", `{"username":"u","password":"hunter2"}`, "X-Registry-Auth", "c2VjcmV0", "Authorization", "Bearer t0k3n")
	e.do("POST", "/images/create?fromImage=a&x=q1", "", "X-Registry-Auth", "!!hunter2!!")
	log := e.log.String()
	for _, secret := range []string{"q1", "hunter2", "c2VjcmV0", "t0k3n"} {
		if strings.Contains(log, secret) {
			t.Errorf("%s is in the log:\n%s", secret, log)
		}
	}
	if !strings.Contains(log, "method=POST path=/auth status=200 duration=") {
		t.Errorf("the request is not in the log:\n%s", log)
	}
}

func TestWebPagesAreRefused(t *testing.T) {
	e := newEngine(t)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		if got := e.do("POST", "/containers/web/start", "", header...); got.status != http.StatusForbidden || e.containers.Last() != nil {
			t.Errorf("%v: %d %s", header, got.status, got.body)
		}
	}
}
