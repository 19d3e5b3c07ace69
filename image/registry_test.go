package image

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus" //nolint:depguard // only to keep the registry quiet
	"golang.org/x/crypto/bcrypt"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

// newRegistry runs the real registry and returns its host:port. With a password
// it wants the user "alice".
func newRegistry(t *testing.T, password string) string {
	t.Helper()
	logrus.SetOutput(io.Discard)
	config := &configuration.Configuration{Storage: configuration.Storage{"inmemory": configuration.Parameters{}}}
	config.Catalog.MaxEntries = 100
	if password != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "htpasswd")
		if err := os.WriteFile(file, []byte("alice:"+string(hash)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		config.Auth = configuration.Auth{"htpasswd": configuration.Parameters{"realm": "test", "path": file}}
	}
	server := httptest.NewServer(handlers.NewApp(t.Context(), config))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func (e *engine) pullLines(t *testing.T, ref string, auth *registry.AuthConfig) []string {
	t.Helper()
	var got messages
	if err := e.Pull(e.ctx, ref, PullOptions{Auth: auth, Progress: got.add}); err != nil {
		t.Fatal(err)
	}
	return got.lines()
}

func TestPushAndPull(t *testing.T) {
	host := newRegistry(t, "secret")
	alice := &registry.AuthConfig{Username: "alice", Password: "secret", ServerAddress: host}
	e := newEngine(t)
	base := e.base(t, "base")
	image := e.awkward(t, base, host+"/team/db:v1")
	want := e.tree(t, image)
	_, before := e.blobs(t)
	var pushed messages
	if err := e.Push(e.ctx, host+"/team/db:v1", PushOptions{Auth: alice, Progress: pushed.add}); err != nil {
		t.Fatal(err)
	}
	e.events.has(t, "push "+host+"/team/db")
	if !slices.Contains(pushed.lines(), "Pushed") {
		t.Errorf("messages %q", pushed.lines())
	}
	if _, after := e.blobs(t); after-before > 10_000 {
		t.Errorf("pushing put %d bytes into the content store", after-before)
	}

	other := newEngine(t)
	lines := other.pullLines(t, host+"/team/db:v1", alice)
	for _, line := range []string{
		"Pulling from team/db", "Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Pull complete",
		"Status: Downloaded newer image for " + host + "/team/db:v1",
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("no message %q in %q", line, lines)
		}
	}
	other.gc(t)
	pulled, err := other.Get(other.ctx, host+"/team/db:v1")
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, want, other.tree(t, pulled))
	inspected, err := other.Inspect(other.ctx, pulled.ID.String(), InspectOptions{})
	if err != nil || len(inspected.RepoDigests) != 1 || !strings.HasSuffix(inspected.RepoDigests[0], pulled.ID.String()) {
		t.Errorf("digests %q, %v", inspected.RepoDigests, err)
	}
	if lines := other.pullLines(t, host+"/team/db:v1", alice); !slices.Contains(lines, "Status: Image is up to date for "+host+"/team/db:v1") {
		t.Errorf("second pull: %q", lines)
	}
	other.noLeaks(t)

	// Pulled back where it was made: the same image, nothing stored twice.
	if _, err := e.Remove(e.ctx, host+"/team/db:v1", RemoveOptions{InUse: nil}); err != nil {
		t.Fatal(err)
	}
	again := e.awkward(t, base, host+"/team/db:v2")
	if err := e.Push(e.ctx, host+"/team/db:v2", PushOptions{Auth: alice}); err != nil {
		t.Fatal(err)
	}
	e.gc(t)
	n, size := e.blobs(t)
	digested := mustInspectDigest(t, e, host+"/team/db:v2")
	e.pullLines(t, host+"/team/db:v2", alice)
	e.pullLines(t, digested, alice)
	if got := e.id(t, digested); got != again.ID {
		t.Errorf("%s is %s, want %s", digested, got, again.ID)
	}
	e.gc(t)
	if n2, size2 := e.blobs(t); n != n2 || size != size2 {
		t.Errorf("%d blobs of %d bytes, had %d of %d", n2, size2, n, size)
	}
	e.noLeaks(t)
}

func mustInspectDigest(t *testing.T, e *engine, ref string) string {
	t.Helper()
	inspected, err := e.Inspect(e.ctx, ref, InspectOptions{})
	if err != nil || len(inspected.RepoDigests) != 1 {
		t.Fatalf("%q, %v", inspected.RepoDigests, err)
	}
	return inspected.RepoDigests[0]
}

func TestPullErrors(t *testing.T) {
	host := newRegistry(t, "")
	closed := newRegistry(t, "secret")
	e := newEngine(t)
	e.base(t, host+"/db")
	if err := e.Push(e.ctx, host+"/db", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	denied := "pull access denied for " + closed + "/db, repository does not exist or may require 'docker login': "
	for _, tc := range []struct {
		name, ref string
		opts      PullOptions
		class     func(error) bool
		message   string
	}{
		{"unknown tag", host + "/db:no", PullOptions{}, errdefs.IsNotFound, "manifest for " + host + "/db:no not found: manifest unknown: manifest unknown"},
		{"unknown repository", host + "/no", PullOptions{}, errdefs.IsNotFound, "manifest for " + host + "/no:latest not found: manifest unknown: manifest unknown"},
		{"no credentials", closed + "/db", PullOptions{}, errdefs.IsNotFound, denied},
		{"wrong password", closed + "/db", PullOptions{Auth: &registry.AuthConfig{Username: "alice", Password: "x"}}, errdefs.IsNotFound, denied},
		{"bad name", "UPPER", PullOptions{}, errdefs.IsInvalidArgument, "invalid reference format: repository name (library/UPPER) must be lowercase"},
		{"platform", host + "/db", PullOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "riscv64"}}, errdefs.IsNotFound, "image with reference " + host + "/db:latest was found but does not provide the specified platform"},
		{"nobody there", "127.0.0.1:1/db", PullOptions{}, func(err error) bool { return !errdefs.IsNotFound(err) }, "pulling 127.0.0.1:1/db:latest: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := e.Pull(e.ctx, tc.ref, tc.opts)
			if err == nil || !tc.class(err) || !strings.HasPrefix(err.Error(), tc.message) {
				t.Errorf("got %v, want %s", err, tc.message)
			}
		})
	}
	if err := e.Push(e.ctx, closed+"/db", PushOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("push of an image that is not there: %v", err)
	}
	if err := e.Tag(e.ctx, host+"/db", closed+"/db"); err != nil {
		t.Fatal(err)
	}
	if err := e.Push(e.ctx, closed+"/db", PushOptions{}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("push without credentials: %v", err)
	}
	e.noLeaks(t)
}

func TestPullCancelled(t *testing.T) {
	host := newRegistry(t, "")
	e := newEngine(t)
	e.awkward(t, e.base(t, "base"), host+"/db")
	if err := e.Push(e.ctx, host+"/db", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	other := newEngine(t)
	ctx, cancel := context.WithCancelCause(other.ctx)
	defer cancel(nil)
	err := other.Pull(ctx, host+"/db", PullOptions{Progress: func(message jsonstream.Message) {
		if message.Status == "Pulling fs layer" {
			cancel(errors.New("client went away"))
		}
	}})
	if err == nil {
		t.Skip("the pull was done before it could be cancelled")
	}
	other.gc(t)
	if n, _ := other.blobs(t); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
	ingests, err := other.content.ListStatuses(other.ctx)
	if err != nil || len(ingests) != 0 {
		t.Errorf("ingests are left: %v, %v", ingests, err)
	}
	other.noLeaks(t)
	other.pullLines(t, host+"/db", nil)
}

// A client that does not read its progress keeps nobody else from pulling.
func TestPullBesideStalledClient(t *testing.T) {
	host := newRegistry(t, "")
	e := newEngine(t)
	e.awkward(t, e.base(t, "base"), host+"/db")
	if err := e.Push(e.ctx, host+"/db", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	other := newEngine(t)
	release, stalled := make(chan struct{}), make(chan error)
	go func() {
		stalled <- other.Pull(other.ctx, host+"/db", PullOptions{Progress: func(jsonstream.Message) { <-release }})
	}()
	if err := other.Pull(other.ctx, host+"/db", PullOptions{}); err != nil {
		t.Error(err)
	}
	close(release)
	if err := <-stalled; err != nil {
		t.Error(err)
	}
}

func TestPullReplacesTag(t *testing.T) {
	host := newRegistry(t, "")
	e := newEngine(t)
	first := e.base(t, host+"/db")
	if err := e.Push(e.ctx, host+"/db", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	other := newEngine(t)
	other.pullLines(t, host+"/db", nil)
	second := e.commit(t, first, host+"/db", map[string]string{"x": "y"})
	if err := e.Push(e.ctx, host+"/db", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	lines := other.pullLines(t, host+"/db", nil)
	if !slices.Contains(lines, "Already exists") || !slices.Contains(lines, "Pull complete") {
		t.Errorf("messages %q", lines)
	}
	if _, err := other.Get(other.ctx, first.ID.String()); err != nil {
		t.Errorf("the replaced image is gone: %v", err)
	}
	if other.id(t, host+"/db") == second.ID {
		t.Error("an image made elsewhere cannot have the ID it had there before it was pushed")
	}
	other.noLeaks(t)
}

func TestRegistryRules(t *testing.T) {
	rules, err := parseRegistryRules([]string{"reg.example:5000", "Plain.Example", "10.1.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:80": true, "127.9.9.9": true, "[::1]:5000": true, "::1": true,
		"reg.example:5000": true, "reg.example": false, "reg.example:443": false, "plain.example:77": true, "10.1.2.3:5000": true, "10.2.2.3": false,
		"docker.io": false, "localhost.example": false, "127.0.0.1.example": false,
	} {
		if got := rules.insecure(host); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
	for _, bad := range []string{"http://x", "x/y", ""} {
		if _, err := parseRegistryRules([]string{bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
