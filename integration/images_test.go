//go:build linux

package integration

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

// testImage loads a small image with a name of its own and the given files.
func testImage(t *testing.T, files []testutil.File, change func(*testutil.ImageConfig)) string {
	t.Helper()
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	name := engine(t).MustLoad(t, base.With(unique(t)+":x", files, change))
	t.Cleanup(func() { engine(t).Docker("rmi", "-f", name) })
	return name
}

func TestLoadBothFormats(t *testing.T) {
	t.Parallel()
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image := base.With(unique(t)+":v1", []testutil.File{{Path: "hello", Content: "hello"}}, nil)
	var ids []string
	for _, format := range []string{"docker", "oci"} {
		archive, err := image.DockerArchive()
		if format == "oci" {
			archive, err = image.OCIArchive()
		}
		if err != nil {
			t.Fatal(err)
		}
		r := engine(t).DockerInput(archive, "load")
		if r.Code != 0 || !strings.Contains(r.Stdout, "Loaded image: "+image.Name) {
			t.Fatalf("%s archive: %+v", format, r)
		}
		if got := run(t, image.Name, "cat", "/hello"); got != "hello" {
			t.Errorf("%s archive: %q", format, got)
		}
		ids = append(ids, inspect(t, image.Name, ".Id"))
		docker(t, "rmi", image.Name)
	}
	if !strings.HasPrefix(ids[0], "sha256:") {
		t.Errorf("ids %q", ids)
	}
	for what, content := range map[string]string{"nothing": "", "text": "not an archive", "another archive": tarText(t)} {
		if r := engine(t).DockerInput(strings.NewReader(content), "load"); r.Code == 0 {
			t.Errorf("load of %s succeeded: %s", what, r.Stdout)
		}
	}
}

func tarText(t *testing.T) string {
	t.Helper()
	data, err := testutil.Layer([]testutil.File{{Path: "file", Content: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	image := testImage(t, []testutil.File{{Path: "kept", Content: "kept", UID: 1000, Mode: 0o4755}}, nil)
	id := inspect(t, image, ".Id")
	second := strings.TrimSuffix(image, "x") + "y"
	docker(t, "tag", image, second)
	file := filepath.Join(t.TempDir(), "saved.tar")
	docker(t, "save", "-o", file, image, second)
	docker(t, "rmi", image, second)
	out := docker(t, "load", "-i", file)
	for _, name := range []string{image, second} {
		if !strings.Contains(out, name) || inspect(t, name, ".Id") != id {
			t.Errorf("%s: %s; id %s, want %s", name, out, inspect(t, name, ".Id"), id)
		}
	}
	if got := run(t, image, "sh", "-c", "cat /kept; stat -c ' %u %a' /kept"); got != "kept 1000 4755" {
		t.Errorf("got %q", got)
	}
	dockerFails(t, "No such image: no-such:latest", "save", "-o", filepath.Join(t.TempDir(), "x"), "no-such")
}

// The root directory of a container is one of its files.
func TestSaveAndLoadOfRoot(t *testing.T) {
	t.Parallel()
	name := createOnly(t, "busybox", "sh", "-c", "chown 1000 / && chmod 1711 /")
	docker(t, "start", "-a", name)
	image := unique(t) + ":root"
	docker(t, "commit", name, image)
	t.Cleanup(func() { engine(t).Docker("rmi", "-f", image) })
	stat := []string{image, "stat", "-c", "%u %a", "/"}
	if got := run(t, stat...); got != "1000 1711" {
		t.Errorf("the root in a container of the image: %s", got)
	}
	file := filepath.Join(t.TempDir(), "saved.tar")
	docker(t, "save", "-o", file, image)
	docker(t, "rm", name)
	docker(t, "rmi", image)
	docker(t, "load", "-i", file)
	if got := run(t, stat...); got != "1000 1711" {
		t.Errorf("after save and load: %s", got)
	}
}

func TestTagAndRemove(t *testing.T) {
	t.Parallel()
	image := testImage(t, []testutil.File{{Path: "a", Content: t.Name()}}, nil)
	id := inspect(t, image, ".Id")
	other := unique(t) + ":other"
	docker(t, "tag", image, other)
	if inspect(t, other, ".Id") != id {
		t.Error("the tag is another image")
	}
	if got := docker(t, "rmi", image); !strings.Contains(got, "Untagged: "+image) || strings.Contains(got, "Deleted:") {
		t.Errorf("rmi of one of two: %q", got)
	}
	dockerFails(t, "No such image: "+image, "rmi", image)

	name := createOnly(t, other, "true")
	dockerFails(t, "image is being used by stopped container "+inspect(t, name, ".Id")[:12], "rmi", id[7:19])
	// By force the name goes; the container can be committed nevertheless.
	if got := docker(t, "rmi", "-f", id[7:19]); !strings.Contains(got, "Untagged: "+other) || strings.Contains(got, "Deleted:") {
		t.Errorf("rmi -f of the image of a stopped container: %q", got)
	}
	child := docker(t, "commit", name)
	docker(t, "rm", name)
	docker(t, "tag", id, other)
	docker(t, "rmi", "--no-prune", child)
	if got := docker(t, "rmi", other); !strings.Contains(got, "Deleted: "+id) {
		t.Errorf("rmi of the last: %q", got)
	}
	dockerFails(t, "No such image", "image", "inspect", id)
	dockerFails(t, "No such image: no-such:latest", "tag", "no-such", "x:y")
	dockerFails(t, "invalid reference format", "tag", "busybox", "UPPER:x")
}

func TestImageInspectAndHistory(t *testing.T) {
	t.Parallel()
	image := testImage(t, []testutil.File{{Path: "one", Content: "1"}}, func(c *testutil.ImageConfig) {
		c.Env = append(c.Env, "A=b")
		c.User, c.WorkingDir, c.StopSignal = "app", "/home", "SIGUSR2"
		c.Entrypoint, c.Cmd = []string{"/bin/sh"}, []string{"-c", "true"}
		c.ExposedPorts = map[string]struct{}{"80/tcp": {}}
		c.Volumes = map[string]struct{}{"/v": {}}
		c.Labels = map[string]string{"l": "m"}
		c.Healthcheck = &testutil.HealthConfig{Test: []string{"CMD", "true"}, Retries: 4}
	})
	var got struct {
		RepoTags         []string
		Architecture, Os string
		Size             int64
		RootFS           struct{ Layers []string }
		Config           testutil.ImageConfig
	}
	if err := json.Unmarshal([]byte(docker(t, "inspect", "-f", "{{json .}}", image)), &got); err != nil {
		t.Fatal(err)
	}
	c := got.Config
	if len(got.RepoTags) != 1 || got.RepoTags[0] != image || got.Os != "linux" || got.Architecture != "amd64" || len(got.RootFS.Layers) != 2 || got.Size < 500_000 {
		t.Errorf("got %+v", got)
	}
	if c.User != "app" || c.WorkingDir != "/home" || c.StopSignal != "SIGUSR2" || c.Labels["l"] != "m" || c.Healthcheck == nil || c.Healthcheck.Retries != 4 ||
		len(c.ExposedPorts) != 1 || len(c.Volumes) != 1 || strings.Join(c.Entrypoint, " ") != "/bin/sh" {
		t.Errorf("configuration %+v", c)
	}
	if got := docker(t, "history", "--format", "{{.CreatedBy}}", image); got != "layer 2\nlayer 1" {
		t.Errorf("history %q", got)
	}
	if got := docker(t, "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference="+strings.TrimSuffix(image, ":x")); got != image {
		t.Errorf("images: %q", got)
	}
	if got := docker(t, "images", "-q", "--filter", "label=l=m", "--no-trunc"); got != inspect(t, image, ".Id") {
		t.Errorf("images by label: %q", got)
	}
}

func TestCommit(t *testing.T) {
	t.Parallel()
	name := idle(t, "-e", "A=b", "--label", "of=container", "-v", "/vol")
	docker(t, "exec", name, "sh", "-c", "echo first > /file; rm /etc/group; mkdir -p /etc/new; touch /vol/in-volume; chown 1000 /file; ln /file /hard; mkdir /opaque && echo x > /opaque/y")
	image := unique(t) + ":committed"
	t.Cleanup(func() { engine(t).Docker("rmi", "-f", image) })
	id := docker(t, "commit", "-m", "a comment", "-a", "an author", "-c", "ENV C=d", "-c", `CMD ["cat", "/file"]`, "-c", "LABEL made=by-test", name, image)
	if inspect(t, image, ".Id") != id || !strings.HasPrefix(id, "sha256:") {
		t.Errorf("id %s", id)
	}
	docker(t, "exec", name, "sh", "-c", "echo second > /file") // the image must not see it
	if got := run(t, image); got != "first" {
		t.Errorf("the image's command: %q", got)
	}
	if got := run(t, image, "sh", "-c", "stat -c '%u %h' /file; echo $A $C; test -e /etc/group || echo gone; test -d /etc/new && echo new; ls /vol | wc -l"); got != "1000 2\nb d\ngone\nnew\n0" {
		t.Errorf("in the image: %q", got)
	}
	if got := docker(t, "inspect", "-f", "{{.Comment}}|{{.Author}}|{{index .Config.Labels \"of\"}}|{{index .Config.Labels \"made\"}}", image); got != "a comment|an author|container|by-test" {
		t.Errorf("inspect: %q", got)
	}
	if got := docker(t, "exec", name, "cat", "/file"); got != "second" {
		t.Errorf("the container: %q", got)
	}
	dockerFails(t, "No such container: no-such", "commit", "no-such")
	dockerFails(t, "is not a valid change command", "commit", "-c", "RUN true", name)
}

// TestCommitOfCommits: generations build on each other, and a deleted file stays
// deleted.
func TestCommitOfCommits(t *testing.T) {
	t.Parallel()
	image := "busybox"
	for _, step := range []string{"echo 1 > /a; mkdir /d; touch /d/x", "echo 2 > /b; rm /a", "rm -r /d; mkdir /d; touch /d/z", "echo 3 > /a"} {
		name := background(t, image, "sh", "-c", step)
		docker(t, "wait", name)
		image = unique(t) + ":generation"
		docker(t, "commit", name, image)
		docker(t, "rm", name)
	}
	if got := run(t, image, "sh", "-c", "cat /a /b; ls /d"); got != "3\n2\nz" {
		t.Errorf("got %q", got)
	}
	file := filepath.Join(t.TempDir(), "saved.tar")
	docker(t, "save", "-o", file, image)
	docker(t, "rmi", image)
	docker(t, "load", "-i", file)
	if got := run(t, image, "sh", "-c", "cat /a /b; ls /d"); got != "3\n2\nz" {
		t.Errorf("after save and load: %q", got)
	}
}

func TestPull(t *testing.T) {
	t.Parallel()
	registry := testutil.NewRegistry(t, "", "")
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image := base.With("team/app:v1", []testutil.File{{Path: "pulled", Content: "pulled"}}, nil)
	ref := registry.Push(t, image)
	want, err := image.ManifestDigest()
	if err != nil {
		t.Fatal(err)
	}
	out := docker(t, "pull", ref)
	for _, text := range []string{"v1: Pulling from team/app", "Digest: " + want.String(), "Status: Downloaded newer image for " + ref} {
		if !strings.Contains(out, text) {
			t.Errorf("%q is not in %q", text, out)
		}
	}
	if out := docker(t, "pull", ref); !strings.Contains(out, "Status: Image is up to date for "+ref) {
		t.Errorf("again: %q", out)
	}
	if got := inspect(t, ref, "index .RepoDigests 0"); got != registry.Host+"/team/app@"+want.String() {
		t.Errorf("repo digest %s", got)
	}
	docker(t, "rmi", ref)
	// run pulls what is missing, by digest too.
	if got := run(t, "--quiet", registry.Host+"/team/app@"+want.String(), "cat", "/pulled"); got != "pulled" {
		t.Errorf("got %q", got)
	}
	dockerFails(t, "not found", "pull", registry.Host+"/team/app:v2")
	dockerFails(t, "not found", "pull", registry.Host+"/no/such")
	dockerFails(t, "connection refused", "pull", "127.0.0.1:1/x")
}

func TestPullWithCredentials(t *testing.T) {
	t.Parallel()
	registry := testutil.NewRegistry(t, "alice", "wonderland")
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	ref := registry.Push(t, base.With("secret:v1", nil, nil))
	r := engine(t).Docker("pull", ref)
	if r.Code == 0 || strings.Contains(r.Stderr, "not found") {
		t.Errorf("without credentials: %+v", r)
	}
	d := engine(t)
	with := func(password string) testutil.Result {
		config := t.TempDir()
		auth := base64.StdEncoding.EncodeToString([]byte("alice:" + password))
		content := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, registry.Host, auth)
		if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return d.Docker("--config", config, "pull", ref)
	}
	if r := with("wrong"); r.Code == 0 {
		t.Error("a wrong password was taken")
	}
	if r := with("wonderland"); r.Code != 0 {
		t.Errorf("with credentials: %s", r.Stderr)
	}
	// What one client was allowed to fetch is no secret of the engine's log.
	log, err := os.ReadFile(d.LogFile())
	if err != nil || strings.Contains(string(log), "wonderland") {
		t.Errorf("the password is in the daemon's log (%v)", err)
	}
}

func TestImageFromHost(t *testing.T) {
	t.Parallel()
	d := engine(t)
	if r := d.Slipway("image", "from-host"); r.Code != 0 || !strings.Contains(r.Stdout, "busybox") {
		t.Errorf("the list: %+v", r)
	}
	if r := d.Slipway("image", "from-host", "no-such-software"); r.Code == 0 {
		t.Error("no-such-software was made")
	}
}

// A folder becomes an image, with the configuration that the flags say, and runs.
func TestImageImportDir(t *testing.T) {
	t.Parallel()
	d := engine(t)
	dir := t.TempDir()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs a busybox that needs no libraries")
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.Symlink("busybox", filepath.Join(dir, "bin", "cat")),
		os.WriteFile(filepath.Join(dir, "bin", "busybox"), busybox, 0o755), os.WriteFile(filepath.Join(dir, "hello"), []byte("from a folder"), 0o600)); err != nil {
		t.Fatal(err)
	}
	r := d.Slipway("image", "import-dir", dir, "folder:1", "--entrypoint", `["/bin/cat"]`, "--cmd", `["/hello"]`, "--env", `A=$HOME "x"`, "--volume", "/data", "--label", "a=b")
	if r.Code != 0 || !strings.Contains(r.Stdout, "sha256:") {
		t.Fatalf("import-dir: %+v", r)
	}
	if r := d.Docker("run", "--rm", "folder:1"); r.Stdout != "from a folder" {
		t.Errorf("run: %+v", r)
	}
	r = d.Docker("inspect", "--format", "{{json .Config.Env}} {{json .Config.Volumes}} {{json .Config.Labels}}", "folder:1")
	if want := `["A=$HOME \"x\""] {"/data":{}} {"a":"b"}`; strings.TrimSpace(r.Stdout) != want {
		t.Errorf("inspect: %+v", r)
	}
	if r := d.Slipway("image", "import-dir", dir, "folder:2", "--change", "NONSENSE x"); r.Code == 0 || !strings.Contains(r.Stderr, "nonsense is not a valid change command") {
		t.Errorf("a wrong instruction: %+v", r)
	}
}
