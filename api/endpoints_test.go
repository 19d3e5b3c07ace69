package api_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/container"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/jsonstream"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
)

func TestArchive(t *testing.T) {
	e := newEngine(t)
	e.containers.Archive = strings.Repeat("tar stream ", 10_000)
	c := e.client("")
	got, err := c.CopyFromContainer(t.Context(), "web", client.CopyFromContainerOptions{SourcePath: "/data dir/x"})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Content.Close()
	content, err := io.ReadAll(got.Content)
	if err != nil || string(content) != e.containers.Archive || got.Stat.Size != 7 || got.Stat.Name != "/data dir/x" {
		t.Errorf("%d bytes, %+v, %v", len(content), got.Stat, err)
	}
	stat, err := c.ContainerStatPath(t.Context(), "web", client.ContainerStatPathOptions{Path: "/x"})
	if err != nil || stat.Stat.Size != 7 {
		t.Errorf("%+v, %v", stat, err)
	}
	_, err = c.CopyToContainer(t.Context(), "web", client.CopyToContainerOptions{DestinationPath: "/d", Content: strings.NewReader("tar"), CopyUIDGID: true})
	if err != nil || e.containers.Last() != "/d tar true true" {
		t.Errorf("%v, %v", e.containers.Last(), err)
	}
	zipped := e.do("GET", "/containers/web/archive?path=/x", "", "Accept-Encoding", "deflate, gzip;q=0.5")
	zr, err := gzip.NewReader(strings.NewReader(zipped.body))
	if err != nil {
		t.Fatal(err)
	}
	if content, err := io.ReadAll(zr); err != nil || string(content) != e.containers.Archive {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	if plain := e.do("GET", "/containers/web/archive?path=/x", "", "Accept-Encoding", "gzip;q=0"); plain.body != e.containers.Archive {
		t.Error("compressed against the client's wish")
	}
	e.containers.Fail(errdefs.ErrNotFound.WithMessage("Could not find the file /x in container web"))
	if got := e.do("GET", "/containers/web/archive?path=/x", "", "Accept-Encoding", "gzip"); got.status != 404 || got.header.Get("Content-Encoding") != "" {
		t.Errorf("%d %v", got.status, got.header)
	}
}

func TestCommit(t *testing.T) {
	e := newEngine(t)
	id, err := e.client("").ContainerCommit(t.Context(), "web", client.ContainerCommitOptions{
		Reference: "db:v2", Comment: "c", Author: "a", Changes: []string{"ENV A=b", "USER x"}, NoPause: true,
	})
	if err != nil || id.ID != "sha256:abc" {
		t.Fatalf("%v, %v", id, err)
	}
	want := container.CommitOptions{Repo: "docker.io/library/db", Tag: "v2", Comment: "c", Author: "a", Changes: []string{"ENV A=b", "USER x"}}
	if diff := cmp.Diff(want, e.containers.Last()); diff != "" {
		t.Error(diff)
	}
	if got := e.do("POST", "/commit?container=web&repo=db", `{"Cmd":["x"]}`); got.status != http.StatusCreated {
		t.Errorf("%d %s", got.status, got.body)
	}
	if opts := e.containers.Last().(container.CommitOptions); !opts.Pause || opts.Tag != "latest" || opts.Config == nil || opts.Config.Cmd[0] != "x" {
		t.Errorf("%+v", opts)
	}
	if got := e.do("POST", "/commit?container=web&repo=UPPER", ""); got.status != http.StatusBadRequest {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestStop(t *testing.T) {
	e := newEngine(t)
	e.do("POST", "/v1.56/containers/web/stop?signal=SIGINT&t=-1", "")
	opts := e.containers.Last().(container.StopOptions)
	if opts.Signal != "SIGINT" || opts.Timeout == nil || *opts.Timeout != -1 {
		t.Errorf("%+v", opts)
	}
	e.do("POST", "/v1.41/containers/web/restart?signal=SIGINT", "")
	if opts := e.containers.Last().(container.StopOptions); opts != (container.StopOptions{}) {
		t.Errorf("1.41 has no signal: %+v", opts)
	}
	if got := e.do("POST", "/containers/web/stop?t=99999999999999999999", ""); got.status != http.StatusBadRequest {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestPull(t *testing.T) {
	e := newEngine(t)
	e.images.Progress = []jsonstream.Message{{ID: "abc", Status: "Downloading", Progress: &jsonstream.Progress{Current: 1, Total: 2}}}
	pull := func(query string, header ...string) api.PullRequest {
		t.Helper()
		got := e.do("POST", "/images/create?"+query, "", header...)
		if got.status != 200 || !strings.Contains(got.body, `"progressDetail":{"current":1,"total":2}`) {
			t.Fatalf("%s: %d %s", query, got.status, got.body)
		}
		return e.images.Last().(api.PullRequest)
	}
	digest := "sha256:" + strings.Repeat("ab", 32)
	for query, want := range map[string]string{
		"fromImage=postgres&tag=17":                "docker.io/library/postgres:17",
		"fromImage=postgres:17":                    "docker.io/library/postgres:17",
		"fromImage=postgres:":                      "docker.io/library/postgres",
		"fromImage=x.io/a/b&tag=" + digest:         "x.io/a/b@" + digest,
		"fromImage=a&tag=b&platform=linux%2Farm64": "docker.io/library/a:b",
	} {
		req := pull(query)
		if req.Ref.String() != want || (req.Platform != nil) != strings.Contains(query, "platform") {
			t.Errorf("%s: %+v", query, req)
		}
	}
	if req := pull("fromImage=a", registry.AuthHeader, "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAifQ=="); req.Auth.Username != "u" || req.Auth.Password != "p" {
		t.Errorf("credentials %+v", req.Auth)
	}

	// An error before any message is a status, a later one goes into the stream
	// in both forms that clients know.
	e.images.Broken = errdefs.ErrNotFound.WithMessage("manifest unknown")
	got := e.do("POST", "/images/create?fromImage=a", "")
	if got.status != 200 || !strings.Contains(got.body, `"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	resp, err := e.client("").ImagePull(t.Context(), "a", client.ImagePullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "manifest unknown") {
		t.Errorf("the client sees %v", err)
	}
	e.images.Progress = nil
	if got := e.do("POST", "/images/create?fromImage=a", ""); got.status != 404 || got.body != message("manifest unknown") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestSaveAndLoad(t *testing.T) {
	e := newEngine(t)
	c := e.client("")
	tar, err := c.ImageSave(t.Context(), []string{"a", "b/c:d"})
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	if content, err := io.ReadAll(tar); err != nil || string(content) != "a tar stream" {
		t.Errorf("%q, %v", content, err)
	}
	if req := e.images.Last().(api.SaveRequest); !cmp.Equal(req.Refs, []string{"a", "b/c:d"}) {
		t.Errorf("%+v", req)
	}
	if got := e.do("GET", "/images/b/c:d/get", ""); got.body != "a tar stream" || e.images.Last().(api.SaveRequest).Refs[0] != "b/c:d" {
		t.Errorf("%d %s", got.status, got.body)
	}
	e.images.Progress = []jsonstream.Message{{Stream: "Loaded image: a\n"}}
	if got := e.do("POST", "/images/load?quiet=0", "a tar stream", "Content-Type", "application/x-tar"); !strings.Contains(got.body, "Loaded image: a") || e.images.Last().(api.LoadRequest).Quiet {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := e.do("POST", "/images/create?fromSrc=-&repo=r&tag=t&changes=CMD+x", "tar", "Content-Type", "application/x-tar"); !strings.Contains(got.body, `{"status":"sha256:abc"}`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if req := e.images.Last().(api.ImportRequest); req.Ref.String() != "docker.io/library/r:t" || req.Changes[0] != "CMD x" || req.Message != "Imported from -" {
		t.Errorf("%+v", req)
	}
	// What breaks off must not look complete.
	e.images.Broken = errors.New("disk on fire")
	broken, err := c.ImageSave(t.Context(), []string{"a"})
	if err == nil {
		defer broken.Close()
		_, err = io.ReadAll(broken)
	}
	if err == nil {
		t.Error("the client takes half an archive for a whole one")
	}
}

func TestObjects(t *testing.T) {
	e := newEngine(t)
	c := e.client("")
	if _, err := c.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: "v"}); err != nil {
		t.Error(err)
	}
	if list, err := c.VolumeList(t.Context(), client.VolumeListOptions{}); err != nil || list.Items == nil {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := c.VolumeRemove(t.Context(), "v", client.VolumeRemoveOptions{Force: true}); err != nil || !cmp.Equal(e.volumes.Last(), []any{"v", true}) {
		t.Errorf("%v, %v", e.volumes.Last(), err)
	}
	e.do("POST", "/v1.41/volumes/prune", "")
	if !cmp.Equal(e.volumes.Last(), api.Filters{"all": {"true": true}}) {
		t.Errorf("prune in 1.41: %v", e.volumes.Last())
	}
	e.do("POST", "/v1.42/volumes/prune?filters="+url.QueryEscape(`{"label":["a"]}`), "")
	if !cmp.Equal(e.volumes.Last(), api.Filters{"label": {"a": true}}) {
		t.Errorf("prune in 1.42: %v", e.volumes.Last())
	}
	no := false
	if _, err := c.NetworkCreate(t.Context(), "n", client.NetworkCreateOptions{EnableIPv4: &no}); err != nil || e.networks.Last().(mobynetwork.CreateRequest).EnableIPv4 == nil {
		t.Errorf("%+v, %v", e.networks.Last(), err)
	}
	if _, err := c.NetworkConnect(t.Context(), "n", client.NetworkConnectOptions{Container: "web"}); err != nil {
		t.Error(err)
	}
	if _, err := c.NetworkDisconnect(t.Context(), "n", client.NetworkDisconnectOptions{Container: "web", Force: true}); err != nil || !e.networks.Last().(mobynetwork.DisconnectRequest).Force {
		t.Errorf("%+v, %v", e.networks.Last(), err)
	}
	if list, err := c.NetworkList(t.Context(), client.NetworkListOptions{}); err != nil || list.Items == nil {
		t.Errorf("%+v, %v", list, err)
	}
	if token, err := c.RegistryLogin(t.Context(), client.RegistryLoginOptions{Username: "u", Password: "p", ServerAddress: "r"}); err != nil || token.Auth.IdentityToken != "token" {
		t.Errorf("%+v, %v", token, err)
	}
}

// TestShutdownWaits: what is not a stream may finish; what does not finish in
// time is cut off, and Shutdown says so.
func TestShutdownWaits(t *testing.T) {
	for _, tt := range []struct {
		name     string
		takes    time.Duration
		patience time.Duration
		cut      bool
	}{
		{"finishes", 100 * time.Millisecond, soon, false},
		{"is cut off", time.Hour, 100 * time.Millisecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t)
			cfg := e.config()
			slow := &slowSystem{System: e.system, takes: tt.takes, began: make(chan struct{})}
			cfg.System = slow
			server, err := api.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			e.host = newHost(t)
			ls, err := api.Listen(t.Context(), e.host, api.ListenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- server.Serve(ls[0]) }()
			answered := make(chan error, 1)
			go func() {
				_, err := e.client("1.56").ServerVersion(context.WithoutCancel(t.Context()), client.ServerVersionOptions{})
				answered <- err
			}()
			<-slow.began
			ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
			defer cancel()
			if err := server.Shutdown(ctx); (err != nil) != tt.cut {
				t.Errorf("shutdown: %v", err)
			}
			if err := <-answered; (err != nil) != tt.cut {
				t.Errorf("the client sees %v", err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// slowSystem takes its time, unless its context ends.
type slowSystem struct {
	api.System

	takes time.Duration
	began chan struct{}
}

func (s *slowSystem) Version(ctx context.Context) (system.VersionResponse, error) {
	close(s.began)
	select {
	case <-time.After(s.takes):
		return s.System.Version(ctx)
	case <-ctx.Done():
		return system.VersionResponse{}, context.Cause(ctx)
	}
}
