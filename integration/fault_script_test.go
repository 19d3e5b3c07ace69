//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"
)

// script is one run of a scenario. It calls the API step by step until one
// fails, and keeps what was acknowledged, for the look after a crash.
type script struct {
	d   *testutil.Daemon
	tag string // part of the names of all it makes
	// want is the status of a GET of each object that an acknowledged step made
	// or removed. What a step was about that got no answer is not in it.
	want map[string]int
}

func newScript(d *testutil.Daemon) *script {
	return &script{d: d, tag: "fp" + strconv.FormatInt(counter.Add(1), 10), want: map[string]int{}}
}

// kinds of objects: how they are looked up.
const (
	containerKind = "/containers/%s/json"
	imageKind     = "/images/%s/json"
	volumeKind    = "/volumes/%s"
	networkKind   = "/networks/%s"
)

// call makes one request that must succeed.
func (s *script) call(method, path string, body any) ([]byte, error) {
	status, data, err := s.d.Request(method, path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if status >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: status %d: %s", method, path, status, data)
	}
	// Where the status comes before the work, an error is the last message.
	if i := strings.LastIndex(string(data), `"errorDetail"`); i >= 0 {
		return nil, fmt.Errorf("%s %s: %s", method, path, data[i:])
	}
	return data, nil
}

func (s *script) post(path string, body any) error {
	_, err := s.call(http.MethodPost, path, body)
	return err
}

// creates makes an object, which must be there from the answer on.
func (s *script) creates(kind, name, path string, body any) error {
	if err := s.post(path, body); err != nil {
		return err
	}
	s.want[fmt.Sprintf(kind, name)] = http.StatusOK
	return nil
}

// removes removes an object, which must not be there from the answer on.
func (s *script) removes(kind, name, query string) error {
	object := fmt.Sprintf(kind, name)
	delete(s.want, object)
	if _, err := s.call(http.MethodDelete, strings.TrimSuffix(object, "/json")+query, nil); err != nil {
		return err
	}
	s.want[object] = http.StatusNotFound
	return nil
}

// spec is a create request; only what the scenarios need of it.
type spec map[string]any

// container creates a container called as the script, of the image, with more
// fields of the request.
func (s *script) container(image string, more spec) error {
	body := spec{"Image": image, "Cmd": []string{"sleep", "600"}}
	maps.Copy(body, more)
	return s.creates(containerKind, s.tag, "/containers/create?name="+s.tag, body)
}

// steps runs one after the other until one fails.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// verify looks for what was acknowledged.
func (s *script) verify(t *testing.T) {
	t.Helper()
	for object, want := range s.want {
		if status, data, err := s.d.Request(http.MethodGet, object, nil); err != nil || status != want {
			t.Errorf("GET %s: status %d, want %d as was acknowledged: %s %v", object, status, want, data, err)
		}
	}
}

// world is an engine with objects that no crash may touch.
type world struct {
	d   *testutil.Daemon
	pid int // of the container that runs on
}

const (
	dataImage   = "fault-data:latest"
	clusterPath = "/var/lib/postgresql/data"
)

// newWorld starts an engine and makes in it, of each kind, one object to keep.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{d: ownEngine(t)}
	busybox, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	// A data image whose volume is an overlay, and beside it an ordinary one.
	w.d.MustLoad(t, busybox.With(dataImage, []testutil.File{
		{Path: strings.TrimPrefix(clusterPath, "/") + "/"},
		{Path: strings.TrimPrefix(clusterPath, "/") + "/rows", Content: "rows of the image\n"},
		{Path: "stuff/file", Content: "content of the image\n"},
		{Path: "more/file", Content: "content of the image\n"},
	}, func(c *testutil.ImageConfig) {
		c.Labels = map[string]string{"io.slipway.database": "postgres"}
		c.Volumes = map[string]struct{}{clusterPath: {}}
	}))
	w.d.MustDocker(t, "volume", "create", "kept")
	w.d.MustDocker(t, "network", "create", "kept")
	r := w.d.Docker("run", "--name", "kept-ended", "-v", "kept:/vol", "busybox", "sh", "-c", "echo layer > /kept; echo volume > /vol/kept; exit 3")
	if r.Code != 3 {
		t.Fatalf("exit code %d, want 3: %s", r.Code, r.Stderr)
	}
	w.d.MustDocker(t, "commit", "kept-ended", "kept:1")
	w.d.MustDocker(t, "run", "-d", "--name", "kept-running", "--network", "kept", "-p", "127.0.0.1::80", "busybox", "sleep", "6000")
	w.pid = int(w.d.ContainerProcess(t, "kept-running"))
	return w
}

// verify looks whether all is there that was kept, and nothing besides that
// nobody owns.
func (w *world) verify(t *testing.T) {
	t.Helper()
	s := &script{d: w.d, want: map[string]int{"/images/kept:1/json": 200, "/images/" + dataImage + "/json": 200, "/networks/kept": 200, "/volumes/kept": 200}}
	s.verify(t)
	var c struct {
		State struct {
			Status   string
			Pid      int
			ExitCode int
		}
	}
	w.d.API(t, http.MethodGet, "/containers/kept-running/json", nil, http.StatusOK, &c)
	if c.State.Status != "running" || c.State.Pid != w.pid || !testutil.Process(w.pid).Alive() {
		t.Errorf("the running container is %+v, its process was %d", c.State, w.pid)
	}
	w.d.API(t, http.MethodGet, "/containers/kept-ended/json", nil, http.StatusOK, &c)
	if c.State.Status != "exited" || c.State.ExitCode != 3 {
		t.Errorf("the container that had ended with 3 is %+v", c.State)
	}
	if status, data, err := w.d.Request(http.MethodGet, "/containers/kept-ended/archive?path=/kept", nil); err != nil || status != http.StatusOK {
		t.Errorf("the file in the layer: status %d: %s %v", status, data, err)
	}
	file := filepath.Join(w.d.DataRoot, "pool", "volumes", "kept", "_data", "kept")
	if content, err := os.ReadFile(file); err != nil || string(content) != "volume\n" {
		t.Errorf("the file in the volume has %q: %v", content, err)
	}
	checkFindsNothing(t, w.d)
}

// checkFindsNothing runs the engine's checker. It is made for quiet moments, so
// what a restart still does in the background is waited for.
func checkFindsNothing(t *testing.T, d *testutil.Daemon) {
	t.Helper()
	var found []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var err error
		if found, err = d.Check(); err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			return
		}
	}
	t.Errorf("the checker found:\n%s", strings.Join(found, "\n"))
}

// clean removes all that is not kept; whatever state a crash left it in, it can
// be removed.
func (w *world) clean(t *testing.T) {
	t.Helper()
	s := &script{d: w.d, want: map[string]int{}}
	for _, id := range w.names(t, "/containers/json?all=1", "", "Names") {
		if err := s.removes(containerKind, strings.TrimPrefix(id, "/"), "?force=1&v=1"); err != nil {
			t.Error(err)
		}
	}
	for _, name := range w.names(t, "/volumes", "Volumes", "Name") {
		if err := s.removes(volumeKind, name, ""); err != nil {
			t.Error(err)
		}
	}
	for _, name := range w.names(t, "/networks", "", "Name") {
		if err := s.removes(networkKind, name, ""); err != nil {
			t.Error(err)
		}
	}
	for _, name := range w.names(t, "/images/json", "", "RepoTags") {
		if err := s.removes(imageKind, name, "?force=1"); err != nil {
			t.Error(err)
		}
	}
	filters := url.QueryEscape(`{"dangling":["true"]}`)
	if err := s.post("/images/prune?filters="+filters, nil); err != nil {
		t.Error(err)
	}
}

// names are the names of objects that are not kept. in is the field with the
// list in the answer, if it is not the answer itself.
func (w *world) names(t *testing.T, path, in, field string) []string {
	t.Helper()
	var raw json.RawMessage
	w.d.API(t, http.MethodGet, path, nil, http.StatusOK, &raw)
	if in != "" {
		var wrapped map[string]json.RawMessage
		if err := json.Unmarshal(raw, &wrapped); err != nil {
			t.Fatal(err)
		}
		raw = wrapped[in]
	}
	var objects []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &objects); err != nil {
		t.Fatal(err)
	}
	keep := []string{"bridge", "host", "none", "busybox:latest", dataImage}
	var names []string
	for _, o := range objects {
		var one string
		var several []string
		if json.Unmarshal(o[field], &one) == nil {
			several = []string{one}
		} else if json.Unmarshal(o[field], &several) != nil {
			t.Fatalf("%s: no %s in %s", path, field, o)
		}
		for _, n := range several {
			if !slices.Contains(keep, n) && !strings.HasPrefix(strings.TrimPrefix(n, "/"), "kept") {
				names = append(names, n)
			}
		}
	}
	return names
}
