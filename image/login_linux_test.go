package image

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
)

func TestLoginBasic(t *testing.T) {
	e := newEngine(t)
	host := newRegistry(t, "secret")
	for _, address := range []string{host, "http://" + host, "https://" + host + "/v1/"} {
		token, err := e.Login(e.ctx, registry.AuthConfig{Username: "alice", Password: "secret", ServerAddress: address})
		if err != nil || token != "" {
			t.Errorf("%s: token %q, %v", address, token, err)
		}
	}
	for _, wrong := range []registry.AuthConfig{
		{Username: "alice", Password: "guess", ServerAddress: host}, {Username: "bob", Password: "secret", ServerAddress: host}, {ServerAddress: host},
	} {
		_, err := e.Login(e.ctx, wrong)
		if !errdefs.IsUnauthorized(err) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	open := newRegistry(t, "")
	if _, err := e.Login(e.ctx, registry.AuthConfig{Username: "anybody", Password: "x", ServerAddress: open}); err != nil {
		t.Errorf("a registry that asks nobody: %v", err)
	}
	if _, err := e.Login(e.ctx, registry.AuthConfig{ServerAddress: "https://%zz"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no address: %v", err)
	}
	if _, err := e.Login(e.ctx, registry.AuthConfig{Username: "a", Password: "b", ServerAddress: "127.0.0.1:1"}); err == nil || errdefs.IsUnauthorized(err) {
		t.Errorf("nobody there: %v", err)
	}
}

// tokenRegistry wants a token of its own service, which knows alice and her
// refresh token. It tells what the service was asked for.
func tokenRegistry(t *testing.T) (host string, asked func() []string) {
	t.Helper()
	var grants []string
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("GET /v2/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+server.URL+`/token",service="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		form := func(name string) string { return r.PostFormValue(name) }
		grants = append(grants, form("grant_type"))
		right := form("grant_type") == "password" && form("username") == "alice" && form("password") == "secret" && form("access_type") == "offline" ||
			form("grant_type") == "refresh_token" && form("refresh_token") == "renew"
		if !right || form("service") != "test" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"details":"incorrect username or password"}`))
			return
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"access_token": "good", "refresh_token": "renew", "expires_in": 60}); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"details":"incorrect username or password"}`))
	})
	return strings.TrimPrefix(server.URL, "http://"), func() []string { return grants }
}

func TestLoginToken(t *testing.T) {
	e := newEngine(t)
	host, asked := tokenRegistry(t)
	token, err := e.Login(e.ctx, registry.AuthConfig{Username: "alice", Password: "secret", ServerAddress: host})
	if err != nil || token != "renew" {
		t.Errorf("token %q, %v", token, err)
	}
	if token, err = e.Login(e.ctx, registry.AuthConfig{IdentityToken: "renew", ServerAddress: host}); err != nil || token != "renew" {
		t.Errorf("with the token: %q, %v", token, err)
	}
	if got := strings.Join(asked(), " "); got != "password refresh_token" {
		t.Errorf("asked for %s", got)
	}
	_, err = e.Login(e.ctx, registry.AuthConfig{Username: "alice", Password: "guess", ServerAddress: host})
	if !errdefs.IsUnauthorized(err) || !strings.HasSuffix(err.Error(), "/v2/\": unauthorized: incorrect username or password") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestRegistryHost(t *testing.T) {
	for address, want := range map[string]string{
		"": "docker.io", "https://index.docker.io/v1/": "docker.io", "docker.io": "docker.io", "registry-1.docker.io": "docker.io",
		"registry.example:5000": "registry.example:5000", "http://registry.example/v2/": "registry.example", "[::1]:5000": "[::1]:5000",
	} {
		if got, err := registryHost(address); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", address, got, err, want)
		}
	}
	for _, bad := range []string{"https://", "http://%zz", "a b"} {
		if got, err := registryHost(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %s, %v", bad, got, err)
		}
	}
}
