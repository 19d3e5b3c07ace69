package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// TestErrors takes each class of errors through the server and back through
// Docker's client.
func TestErrors(t *testing.T) {
	e := newEngine(t)
	c := e.client("")
	for _, tt := range []struct {
		err    error
		status int
		class  error // what the client sees
	}{
		{errdefs.ErrNotFound, http.StatusNotFound, errdefs.ErrNotFound},
		{errdefs.ErrInvalidArgument, http.StatusBadRequest, errdefs.ErrInvalidArgument},
		{errdefs.ErrOutOfRange, http.StatusBadRequest, errdefs.ErrInvalidArgument},
		{errdefs.ErrConflict, http.StatusConflict, errdefs.ErrConflict},
		{errdefs.ErrAlreadyExists, http.StatusConflict, errdefs.ErrConflict},
		{errdefs.ErrFailedPrecondition, http.StatusConflict, errdefs.ErrConflict},
		{errdefs.ErrUnauthenticated, http.StatusUnauthorized, errdefs.ErrUnauthenticated},
		{errdefs.ErrPermissionDenied, http.StatusForbidden, errdefs.ErrPermissionDenied},
		{errdefs.ErrNotImplemented, http.StatusNotImplemented, errdefs.ErrNotImplemented},
		{errdefs.ErrUnavailable, http.StatusServiceUnavailable, errdefs.ErrUnavailable},
		{errdefs.ErrInternal, http.StatusInternalServerError, errdefs.ErrInternal},
		{errdefs.ErrResourceExhausted, http.StatusInternalServerError, errdefs.ErrInternal},
		{errdefs.ErrDataLoss, http.StatusInternalServerError, errdefs.ErrInternal},
		{errdefs.ErrUnknown, http.StatusInternalServerError, errdefs.ErrInternal},
		{context.DeadlineExceeded, http.StatusInternalServerError, errdefs.ErrInternal},
		{errors.New("no class"), http.StatusInternalServerError, errdefs.ErrInternal},
	} {
		t.Run(tt.err.Error(), func(t *testing.T) {
			backend := fmt.Errorf("pausing: %w", tt.err)
			e.containers.Fail(backend)
			_, err := c.ContainerPause(t.Context(), "web", client.ContainerPauseOptions{})
			if err == nil || err.Error() != "Error response from daemon: "+backend.Error() {
				t.Errorf("the client sees %v", err)
			}
			if !errors.Is(err, tt.class) {
				t.Errorf("the client sees class %v, want %v", errdefs.Resolve(err), tt.class)
			}
			got := e.do("POST", "/containers/web/pause", "")
			if got.status != tt.status || got.body != message(backend.Error()) || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("answer %d %q %q, want %d", got.status, got.header.Get("Content-Type"), got.body, tt.status)
			}
		})
	}
}

func TestNotModified(t *testing.T) {
	e := newEngine(t)
	e.containers.Fail(errdefs.ErrNotModified.WithMessage("container is already started"))
	got := e.do("POST", "/containers/web/start", "")
	if got.status != http.StatusNotModified || got.body != "" || got.header.Get("Content-Type") != "" {
		t.Errorf("answer %d %q %q", got.status, got.header.Get("Content-Type"), got.body)
	}
	if _, err := e.client("").ContainerStart(t.Context(), "web", client.ContainerStartOptions{}); err != nil {
		t.Errorf("for the client, nothing to do is no error: %v", err)
	}
}

// TestOutermostClass: what a caller says about an error counts more than what
// caused it.
func TestOutermostClass(t *testing.T) {
	e := newEngine(t)
	e.containers.Fail(fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument.WithMessage("bad image"), errdefs.ErrNotFound))
	if got := e.do("POST", "/containers/web/pause", ""); got.status != http.StatusBadRequest {
		t.Errorf("status %d", got.status)
	}
}

func TestMessagesOfOwnErrors(t *testing.T) {
	e := newEngine(t)
	notSwarm := message(`This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.`)
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/containers/nope/start", "", 404, message("No such container: nope")},
		{"POST", "/exec/nope/start", "{}", 404, message("No such exec instance: nope")},
		{"GET", "/containers/web/top", "", 501, message("top is not implemented yet")},
		{"GET", "/containers/web/stats", "", 501, message("stats is not implemented yet")},
		{"GET", "/containers/web/export", "", 501, message("export is not implemented yet")},
		{"POST", "/containers/web/update", "{}", 501, message("update is not implemented yet")},
		{"POST", "/containers/prune", "", 501, message("container prune is not implemented yet")},
		{"POST", "/images/prune", "", 501, message("image prune is not implemented yet")},
		{"POST", "/networks/prune", "", 501, message("network prune is not implemented yet")},
		{"POST", "/images/a/push", "", 501, message("push is not implemented yet")},
		{"POST", "/build", "", 501, message("building images is not implemented yet")},
		{"POST", "/session", "", 501, message("building images is not implemented yet")},
		{"GET", "/debug/check", "", 501, message("checking is not implemented yet")},
		{"GET", "/pool", "", 501, message("a pool is not implemented yet")},
		{"GET", "/nodes", "", 503, notSwarm},
		{"GET", "/services/x", "", 503, notSwarm},
		{"GET", "/swarm", "", 503, notSwarm},
		{"POST", "/swarm/leave", "", 503, message("This node is not part of a swarm")},
		{"PUT", "/volumes/v", "{}", 503, message("volume update only valid for cluster volumes, but swarm is unavailable")},
		{"GET", "/plugins", "", 200, "[]\n"},
		{"GET", "/plugins/a/b/json", "", 404, message(`plugin \"a/b\" not found`)},
		{"POST", "/containers/web/wait?condition=x", "", 400, message(`invalid condition: \"x\"`)},
		{"POST", "/containers/web/resize?h=x&w=1", "", 400, message(`invalid resize height \"x\"`)},
		{"POST", "/containers/web/resize?h=1&w=70000", "", 400, message(`invalid resize width \"70000\"`)},
		{"POST", "/containers/web/start", "{\"a\":1,\"b\":2}", 400, message("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")},
		{"GET", "/containers/web/logs", "", 400, message("Bad parameters: you must choose at least one stream")},
		{"GET", "/containers/web/logs?stdout=1&since=x", "", 400, message(`invalid value for \"since\": invalid timestamp \"x\": seconds since 1970 expected`)},
		{"GET", "/containers/json?filters=x", "", 400, message("invalid filter")},
		{"GET", "/containers/json?limit=x", "", 400, message(`invalid value for limit: \"x\" is not a number in range`)},
		{"GET", "/containers/json?a=%zz", "", 400, message(`invalid query: invalid URL escape \"%zz\"`)},
		{"GET", "/events?filters={\"colour\":[\"red\"]}", "", 400, message("invalid filter 'colour'")},
		{"GET", "/events?since=2&until=1", "", 400, message("`since` time (2) cannot be after `until` time (1)")},
		{"GET", "/containers/web/archive", "", 400, message("bad parameter: path cannot be empty")},
		{"POST", "/containers/web/exec", "{}", 400, message("No exec command specified")},
		{"POST", "/images/create", "", 400, message("either fromImage or fromSrc is required")},
		{"POST", "/images/create?fromImage=scratch", "", 403, message("'scratch' is a reserved name")},
		{"GET", "/images/get", "", 400, message("no image to save: the parameter names is missing")},
		{"POST", "/images/a/tag?repo=sha256", "", 400, message("refusing to create an ambiguous tag using digest algorithm as name")},
		{"GET", "/system/df?type=x", "", 400, message("unknown object type: x")},
	} {
		got := e.do(tt.method, tt.path, tt.body)
		if got.status != tt.status || got.body != tt.want {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, got.status, got.body, tt.status, tt.want)
		}
	}
}
