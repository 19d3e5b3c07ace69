package volume

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"slipway/events"
	"slipway/state"
)

// layers keeps snapshots as containerd's overlay snapshotter does: a directory
// for each, stacked by real overlay mounts. It lives in one directory, so that a
// second process finds what a killed one left.
type layers struct{ dir string }

func (l *layers) chain(name string) string    { return filepath.Join(l.dir, "chains", name) }
func (l *layers) snapshot(name string) string { return filepath.Join(l.dir, "snapshots", name) }

// addImage makes an image of layers, lowest first, each made by its function.
func (l *layers) addImage(t *testing.T, name string, fill ...func(dir string)) {
	t.Helper()
	for i, f := range fill {
		dir := filepath.Join(l.chain(name), strconv.Itoa(i))
		must(t, os.MkdirAll(dir, 0o755))
		f(dir)
	}
}

func (l *layers) Prepare(ctx context.Context, key, chain string, labels map[string]string) ([]mount.Mount, error) {
	entries, err := os.ReadDir(l.chain(chain))
	if err != nil {
		return nil, err
	}
	dir := l.snapshot(key)
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		return nil, errdefs.ErrAlreadyExists
	}
	var lower []string
	for _, e := range slices.Backward(entries) {
		lower = append(lower, filepath.Join(l.chain(chain), e.Name()))
	}
	text, err := json.Marshal(Snapshot{Created: time.Now(), Chain: chain, Labels: labels})
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.WriteFile(dir+"/info", text, 0o600), os.Mkdir(dir+"/fs", 0o755), os.Mkdir(dir+"/work", 0o755),
		os.WriteFile(dir+"/lower", []byte(strings.Join(lower, ":")), 0o600))
	if err != nil {
		return nil, err
	}
	return l.Mounts(ctx, key)
}

func (l *layers) Mounts(_ context.Context, key string) ([]mount.Mount, error) {
	dir := l.snapshot(key)
	lower, err := os.ReadFile(dir + "/lower")
	if err != nil {
		return nil, errdefs.ErrNotFound
	}
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{
		"upperdir=" + dir + "/fs", "workdir=" + dir + "/work", "lowerdir=" + string(lower),
	}}}, nil
}

func (l *layers) Stat(_ context.Context, key string) (s Snapshot, err error) {
	text, err := os.ReadFile(l.snapshot(key) + "/info")
	if err != nil {
		return s, errdefs.ErrNotFound
	}
	return s, json.Unmarshal(text, &s)
}

func (l *layers) Remove(_ context.Context, key string) error { return os.RemoveAll(l.snapshot(key)) }

func (l *layers) List(_ context.Context, prefix string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(l.dir, "snapshots"))
	var keys []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			keys = append(keys, e.Name())
		}
	}
	return keys, err
}

// cloner copies by the kernel's own view of the layers, to be compared with what
// this package thinks they are.
type cloner struct{ merged, cloned int }

func (c *cloner) Clone(ctx context.Context, src, dst string) (bool, error) {
	c.cloned++
	return false, copyInto(ctx, dst, src)
}

func (c *cloner) Merge(ctx context.Context, layers []string, dst string) (bool, error) {
	c.merged++
	if len(layers) == 1 {
		return true, copyInto(ctx, dst, layers[0])
	}
	at, err := os.MkdirTemp("", "merge")
	if err != nil {
		return false, err
	}
	defer os.Remove(at)
	if err := unix.Mount("overlay", at, "overlay", 0, "lowerdir="+strings.Join(layers, ":")); err != nil {
		return false, err
	}
	defer func() { _ = unmount(at) }()
	return true, copyInto(ctx, dst, at)
}

// fixture is a Manager with everything real below a temporary directory.
type fixture struct {
	*Manager
	dir    string
	layers *layers
	cloner *cloner
	bus    *events.Bus
	store  *state.Store
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	f := &fixture{dir: t.TempDir()}
	must(t, os.MkdirAll(filepath.Join(f.dir, "layers/snapshots"), 0o755))
	t.Cleanup(func() { unmountBelow(t, f.dir) })
	f.open(t)
	must(t, f.Restore(t.Context(), nil))
	return f
}

// open makes the Manager, as a new daemon on the same directories would.
func (f *fixture) open(t *testing.T) {
	t.Helper()
	f.close(t)
	var err error
	if f.store, err = state.Open(filepath.Join(f.dir, "state.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.close(t) })
	f.layers, f.cloner, f.bus = &layers{filepath.Join(f.dir, "layers")}, &cloner{}, events.New()
	f.Manager, err = New(t.Context(), Config{
		Root: filepath.Join(f.dir, "volumes"), RunDir: filepath.Join(f.dir, "run"),
		State: f.store, Events: f.bus, Logger: slog.New(slog.DiscardHandler), Layers: f.layers, Cloner: f.cloner,
	})
	must(t, err)
}

func (f *fixture) close(t *testing.T) {
	t.Helper()
	if f.store != nil {
		must(t, f.store.Close())
		f.store = nil
	}
}

// image returns what Attach is given for a container of the image.
func (f *fixture) image(t *testing.T, name string, data bool) Image {
	t.Helper()
	key := "container-" + name
	mounts, err := f.layers.Prepare(t.Context(), key, name, nil)
	if errdefs.IsAlreadyExists(err) {
		mounts, err = f.layers.Mounts(t.Context(), key)
	}
	must(t, err)
	return Image{Mounts: mounts, Chain: name, Parent: "sha256:" + name, Data: data}
}

// attach plans and attaches the mounts of a container.
func (f *fixture) attach(t *testing.T, user string, image Image, host mobycontainer.HostConfig, declared ...string) []MountPoint {
	t.Helper()
	points, err := f.tryAttach(t, user, image, host, declared...)
	must(t, err)
	return points
}

func (f *fixture) tryAttach(t *testing.T, user string, image Image, host mobycontainer.HostConfig, declared ...string) ([]MountPoint, error) {
	t.Helper()
	cfg := mobycontainer.Config{Volumes: map[string]struct{}{}}
	for _, target := range declared {
		cfg.Volumes[target] = struct{}{}
	}
	points, err := Plan(PlanRequest{Config: &cfg, HostConfig: &host})
	must(t, err)
	return f.Attach(t.Context(), user, points, image)
}

func (f *fixture) clean(t *testing.T, uses ...Use) {
	t.Helper()
	problems, err := f.CheckLeaks(t.Context(), uses)
	must(t, err)
	for _, p := range problems {
		t.Error(p)
	}
}

// events returns the actions that were published, oldest first.
func (f *fixture) events(t *testing.T) []string {
	t.Helper()
	past, _, cancel := f.bus.Subscribe(time.Unix(1, 0), time.Time{}, nil)
	cancel()
	var actions []string
	for _, m := range past {
		if m.Type != mobyevents.VolumeEventType {
			t.Errorf("event of type %s", m.Type)
		}
		actions = append(actions, string(m.Action))
	}
	return actions
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

func wantFile(t *testing.T, path, content string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if content == "" {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there (%v)", path, err)
		}
		return
	}
	if err != nil || string(data) != content {
		t.Errorf("%s: %q, %v; want %q", path, data, err, content)
	}
}

// unmountBelow is what a reboot does to the mounts.
func unmountBelow(t *testing.T, dir string) {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	lines := strings.Split(string(info), "\n")
	for _, line := range slices.Backward(lines) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			must(t, unmount(fields[4]))
		}
	}
}
