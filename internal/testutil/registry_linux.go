package testutil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus" //nolint:depguard // the registry logs through it
	"golang.org/x/crypto/bcrypt"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"             // the kind of log-in
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // where it keeps images
)

// Registry is the reference registry in this process, on loopback, without TLS.
type Registry struct {
	Host           string // "127.0.0.1:port", the first part of its images' names
	User, Password string // "" if anyone may pull

	server *httptest.Server
}

// NewRegistry starts a registry that ends with the test. With a user it wants to
// be logged in to.
func NewRegistry(t *testing.T, user, password string) *Registry {
	t.Helper()
	config := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{"filesystem": configuration.Parameters{"rootdirectory": t.TempDir()}},
	}
	config.Log.AccessLog.Disabled = true
	config.HTTP.Secret = "the same for all instances"
	if user != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "htpasswd")
		if err := os.WriteFile(file, fmt.Appendf(nil, "%s:%s\n", user, hash), 0o600); err != nil {
			t.Fatal(err)
		}
		config.Auth = configuration.Auth{"htpasswd": configuration.Parameters{"realm": "test", "path": file}}
	}
	logrus.SetOutput(io.Discard) // its requests would drown the tests' output
	app := handlers.NewApp(context.WithoutCancel(t.Context()), config)
	r := &Registry{User: user, Password: password, server: httptest.NewServer(app)}
	t.Cleanup(func() {
		r.server.Close()
		_ = app.Shutdown() // nothing of it outlives the process
	})
	r.Host = strings.TrimPrefix(r.server.URL, "http://")
	return r
}

// Push puts an image into the registry, not by way of an engine, and returns the
// name to pull it by.
func (r *Registry) Push(t *testing.T, i Image) string {
	t.Helper()
	b, err := i.build()
	if err != nil {
		t.Fatal(err)
	}
	repo, tag, _ := strings.Cut(i.Name, ":")
	for _, data := range append(b.layers, b.config) {
		if err := r.putBlob(t.Context(), repo, data); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.server.URL+"/v2/"+repo+"/manifests/"+tag, bytes.NewReader(b.manifest))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", ocispec.MediaTypeImageManifest)
	if _, err := r.do(req, http.StatusCreated); err != nil {
		t.Fatal(err)
	}
	return r.Host + "/" + i.Name
}

// ManifestDigest is the digest that a pull of the image shows.
func (i Image) ManifestDigest() (digest.Digest, error) {
	b, err := i.build()
	return b.manifestDigest, err
}

func (r *Registry) putBlob(ctx context.Context, repo string, data []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.server.URL+"/v2/"+repo+"/blobs/uploads/", nil)
	if err != nil {
		return err
	}
	header, err := r.do(req, http.StatusAccepted)
	if err != nil {
		return err
	}
	location, err := url.Parse(header.Get("Location"))
	if err != nil {
		return err
	}
	query := location.Query()
	query.Set("digest", digest.FromBytes(data).String())
	location.RawQuery = query.Encode()
	req, err = http.NewRequestWithContext(ctx, http.MethodPut, location.String(), bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	_, err = r.do(req, http.StatusCreated)
	return err
}

// do sends a request, wants the status, and returns the answer's header.
func (r *Registry) do(req *http.Request, want int) (http.Header, error) {
	if r.User != "" {
		req.SetBasicAuth(r.User, r.Password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, body.Bytes())
	}
	return resp.Header, nil
}
