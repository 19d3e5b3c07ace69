package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestResolve(t *testing.T) {
	e := newEngine(t)
	image := e.base(t, "registry.example:5000/team/db:v1")
	for _, tag := range []string{"db", "docker.io/library/other:x"} {
		if err := e.Tag(e.ctx, "registry.example:5000/team/db:v1", tag); err != nil {
			t.Fatal(err)
		}
	}
	hex := image.ID.Encoded()
	for _, ref := range []string{
		"registry.example:5000/team/db:v1", "db", "db:latest", "library/db", "docker.io/db", "other:x", image.ID.String(), hex, hex[:12], hex[:4], "sha256:" + hex[:10],
		"db@" + image.ID.String(), "other:ignored@" + image.ID.String(),
	} {
		if got := e.id(t, ref); got != image.ID {
			t.Errorf("%s is %s", ref, got)
		}
	}
	unknown := strings.Repeat("0", 64)
	for ref, want := range map[string]string{
		"absent":               "No such image: absent:latest",
		"db:v9":                "No such image: db:v9",
		"a.example/b/c":        "No such image: a.example/b/c:latest",
		"sha256:" + unknown:    "No such image: sha256:" + unknown,
		"db@sha256:" + unknown: "No such image: db@sha256:" + unknown,
		"abc123ff00aa":         "No such image: abc123ff00aa:latest",
	} {
		if _, err := e.Get(e.ctx, ref); !errdefs.IsNotFound(err) || err.Error() != want {
			t.Errorf("%s: %v, want %s", ref, err, want)
		}
	}
	for _, ref := range []string{"", "UPPER", "a:b:c", "a//b", "-x", "a b", strings.Repeat("x", 300)} {
		if _, err := e.Get(e.ctx, ref); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if _, err := e.GetPlatform(e.ctx, "db", &ocispec.Platform{OS: "linux", Architecture: "s390x"}); !errdefs.IsNotFound(err) ||
		err.Error() != "image with reference db was found but does not provide the specified platform (linux/s390x)" {
		t.Errorf("platform: %v", err)
	}
}

func TestResolveAmbiguous(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base")
	seen := map[byte]digest.Digest{base.ID.Encoded()[0]: base.ID}
	for n := range 40 {
		id := e.commit(t, base, fmt.Sprintf("db:%d", n), map[string]string{"x": "y"}).ID
		first := id.Encoded()[0]
		if seen[first] == "" {
			seen[first] = id
			continue
		}
		_, err := e.Get(e.ctx, "sha256:"+string(first))
		if !errdefs.IsNotFound(err) || err.Error() != "ambiguous reference" {
			t.Errorf("got %v", err)
		}
		return
	}
	t.Fatal("17 digests with different first digits")
}

func TestTag(t *testing.T) {
	e := newEngine(t)
	one := e.base(t, "one")
	two := e.commit(t, one, "two", map[string]string{"x": "y"})
	for target, want := range map[string]string{
		"UPPER": "repository name", "a@" + one.ID.String(): "refusing to create a tag with a digest reference",
		"sha256:x": "refusing to create an ambiguous tag using digest algorithm as name", "": "invalid reference format",
	} {
		if err := e.Tag(e.ctx, "one", target); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", target, err)
		}
	}
	if err := e.Tag(e.ctx, "absent", "x"); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	// The name moves; the image that had it stays.
	if err := e.Tag(e.ctx, "two", "one"); err != nil {
		t.Fatal(err)
	}
	e.events.has(t, "tag one:latest")
	if got := e.id(t, "one"); got != two.ID {
		t.Errorf("one is %s", got)
	}
	inspected, err := e.Inspect(e.ctx, one.ID.String(), InspectOptions{})
	if err != nil || len(inspected.RepoTags) != 0 {
		t.Errorf("%q, %v", inspected.RepoTags, err)
	}
	// And is no longer dangling when it is named again.
	if err := e.Tag(e.ctx, one.ID.String(), "back"); err != nil {
		t.Fatal(err)
	}
	records, err := e.images.List(e.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if isDangling(record) {
			t.Errorf("%s is left", record.Name)
		}
	}
	e.noLeaks(t)
}

func using(id digest.Digest, users ...User) InUseFunc {
	return func(asked digest.Digest) []User {
		if asked != id {
			return nil
		}
		return users
	}
}

// An image that has no name left stays while a container uses it.
func TestRemoveOfUsedImageWithoutName(t *testing.T) {
	e := newEngine(t)
	image := e.base(t, "db")
	stopped := RemoveOptions{Force: true, InUse: using(image.ID, User{ID: strings.Repeat("2", 64)})}
	if _, err := e.Remove(e.ctx, "db", stopped); err != nil {
		t.Fatal(err)
	}
	_, err := e.Remove(e.ctx, image.ID.String(), stopped)
	want := "conflict: unable to delete " + shortID(image.ID) + " (cannot be forced) - image is being used by stopped container 222222222222"
	if !errdefs.IsConflict(err) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := e.Remove(e.ctx, image.ID.String(), RemoveOptions{}); err != nil {
		t.Error(err)
	}
	e.noLeaks(t)
}

func TestRemove(t *testing.T) {
	running, stopped := User{ID: strings.Repeat("1", 64), Running: true}, User{ID: strings.Repeat("2", 64)}
	for _, tc := range []struct {
		name    string
		tags    []string // beside "db"
		ref     string   // ID stands for the image's, SHORT for its beginning
		users   []User
		force   bool
		want    []string
		message string
		left    bool
	}{
		{name: "last name", ref: "db", want: []string{"-db:latest", "ID"}},
		{name: "one of two", tags: []string{"db:b"}, ref: "db", want: []string{"-db:latest"}, left: true},
		{name: "ID", ref: "ID", want: []string{"-db:latest", "ID"}},
		{name: "short ID", ref: "SHORT", want: []string{"-db:latest", "ID"}},
		{name: "ID of two", tags: []string{"x"}, ref: "ID", left: true, message: "conflict: unable to delete SHORT (must be forced) - image is referenced in multiple repositories"},
		{name: "ID of two by force", tags: []string{"x"}, ref: "ID", force: true, want: []string{"-db:latest", "-x:latest", "ID"}},
		{name: "stopped container", ref: "db", users: []User{stopped}, left: true, message: "conflict: unable to delete db:latest (must be forced) - container 222222222222 is using its referenced image SHORT"},
		{name: "stopped container by force", ref: "db", users: []User{stopped}, force: true, left: true, want: []string{"-db:latest"}},
		{name: "stopped container, ID", ref: "ID", users: []User{stopped}, left: true, message: "conflict: unable to delete SHORT (must be forced) - image is being used by stopped container 222222222222"},
		{name: "stopped container, ID by force", ref: "ID", users: []User{stopped}, force: true, left: true, want: []string{"-db:latest"}},
		{name: "stopped container, ID of two by force", tags: []string{"x"}, ref: "ID", users: []User{stopped}, force: true, left: true, want: []string{"-db:latest", "-x:latest"}},
		{name: "running container", ref: "ID", users: []User{stopped, running}, force: true, left: true, message: "conflict: unable to delete SHORT (cannot be forced) - image is being used by running container 111111111111"},
		{name: "running container, second name", tags: []string{"x"}, ref: "x", users: []User{running}, left: true, want: []string{"-x:latest"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEngine(t)
			image := e.base(t, "db")
			for _, tag := range tc.tags {
				if err := e.Tag(e.ctx, "db", tag); err != nil {
					t.Fatal(err)
				}
			}
			short := shortID(image.ID)
			ref := strings.NewReplacer("ID", image.ID.String(), "SHORT", short).Replace(tc.ref)
			removed, err := e.Remove(e.ctx, ref, RemoveOptions{Force: tc.force, InUse: using(image.ID, tc.users...)})
			if message := strings.ReplaceAll(tc.message, "SHORT", short); message != "" {
				if !errdefs.IsConflict(err) || err.Error() != message {
					t.Errorf("got %v, want %s", err, message)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range removed {
				if r.Untagged != "" {
					got = append(got, "-"+r.Untagged)
				} else {
					got = append(got, strings.ReplaceAll(r.Deleted, image.ID.String(), "ID"))
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("removed %q, want %q", got, tc.want)
			}
			left, err := e.Get(e.ctx, image.ID.String())
			if tc.left != (err == nil) {
				t.Errorf("left: %v", err)
			}
			if tc.left {
				e.commit(t, left, "child", map[string]string{"x": "y"}) // as for one of its containers
			}
			e.noLeaks(t)
		})
	}
}

// With its last child goes a parent that has no name of its own.
func TestRemovePrunesParents(t *testing.T) {
	for _, noPrune := range []bool{false, true} {
		e := newEngine(t)
		base := e.base(t, "base")
		middle := e.commit(t, base, "", map[string]string{"x": "1"})
		e.commit(t, middle, "top", map[string]string{"x": "2"})
		removed, err := e.Remove(e.ctx, "top", RemoveOptions{NoPrune: noPrune})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Get(e.ctx, middle.ID.String())
		if noPrune != (err == nil) {
			t.Errorf("noprune %v: %v; removed %+v", noPrune, err, removed)
		}
		e.id(t, "base")
		e.noLeaks(t)
	}
}

// An image that somebody is about to use is not removed meanwhile.
func TestAcquire(t *testing.T) {
	e := newEngine(t)
	e.base(t, "db")
	_, release, err := e.Acquire(e.ctx, "db", nil)
	if err != nil {
		t.Fatal(err)
	}
	removed := make(chan error)
	go func() {
		_, err := e.Remove(e.ctx, "db", RemoveOptions{})
		removed <- err
	}()
	select {
	case err := <-removed:
		t.Fatalf("removed while in use: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	release()
	if err := <-removed; err != nil {
		t.Error(err)
	}
	if _, _, err := e.Acquire(e.ctx, "db", nil); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestListAndPrune(t *testing.T) {
	e := newEngine(t)
	base := e.base(t, "base:1")
	config := base.Spec.Config
	config.Labels = map[string]string{"stage": "test"}
	when := time.Now().Add(time.Hour)
	labelled, err := e.Commit(e.ctx, CommitRequest{Parent: base, Config: config, Ref: "db:labelled", Created: when, Fill: awkward})
	if err != nil {
		t.Fatal(err)
	}
	dangling := e.commit(t, base, "", map[string]string{"x": "1"})
	intermediate := e.commit(t, base, "", map[string]string{"x": "2"})
	leaf := e.commit(t, intermediate, "leaf.example/x/y:z", map[string]string{"x": "3"})
	for _, tc := range []struct {
		name    string
		opts    ListOptions
		want    []digest.Digest
		message string
	}{
		{name: "all named", want: []digest.Digest{base.ID, labelled.ID, dangling.ID, leaf.ID}},
		{name: "all", opts: ListOptions{All: true}, want: []digest.Digest{base.ID, labelled.ID, dangling.ID, intermediate.ID, leaf.ID}},
		{name: "dangling", opts: ListOptions{Filters: Filters{"dangling": {"true": true}}}, want: []digest.Digest{dangling.ID}},
		{name: "not dangling", opts: ListOptions{Filters: Filters{"dangling": {"0": true}}}, want: []digest.Digest{base.ID, labelled.ID, leaf.ID}},
		{name: "label", opts: ListOptions{Filters: Filters{"label": {"stage": true}}}, want: []digest.Digest{labelled.ID}},
		{name: "label value", opts: ListOptions{Filters: Filters{"label": {"stage=test": true}}}, want: []digest.Digest{labelled.ID}},
		{name: "other label value", opts: ListOptions{Filters: Filters{"label": {"stage=prod": true}}}},
		{name: "two labels", opts: ListOptions{Filters: Filters{"label": {"stage": true, "a": true}}}},
		{name: "reference", opts: ListOptions{Filters: Filters{"reference": {"db": true}}}, want: []digest.Digest{labelled.ID}},
		{name: "pattern", opts: ListOptions{Filters: Filters{"reference": {"*:1": true}}}, want: []digest.Digest{base.ID}},
		{name: "deep pattern", opts: ListOptions{Filters: Filters{"reference": {"leaf.example/*/*": true}}}, want: []digest.Digest{leaf.ID}},
		{name: "since", opts: ListOptions{Filters: Filters{"since": {leaf.ID.String(): true}}}, want: []digest.Digest{labelled.ID}},
		{name: "before", opts: ListOptions{Filters: Filters{"before": {dangling.ID.String(): true}}}, want: []digest.Digest{base.ID}},
		{name: "until", opts: ListOptions{Filters: Filters{"until": {"1s": true}, "label": {"stage": true}}}},
		{name: "unknown", opts: ListOptions{Filters: Filters{"colour": {"red": true}}}, message: "invalid filter 'colour'"},
		{name: "no bool", opts: ListOptions{Filters: Filters{"dangling": {"perhaps": true}}}, message: "invalid filter 'dangling=[perhaps]'"},
		{name: "bad time", opts: ListOptions{Filters: Filters{"until": {"soon": true}}}, message: `failed to parse time value "soon"`},
		{name: "bad pattern", opts: ListOptions{Filters: Filters{"reference": {"[": true}}}, message: "invalid filter 'reference=[[]'"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list, err := e.List(e.ctx, tc.opts)
			if tc.message != "" {
				if !errdefs.IsInvalidArgument(err) || err.Error() != tc.message {
					t.Errorf("got %v, want %s", err, tc.message)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []digest.Digest
			for _, summary := range list {
				got = append(got, digest.Digest(summary.ID))
			}
			slices.Sort(got)
			slices.Sort(tc.want)
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	e.checkSummary(t, base, labelled)
	report, err := e.Prune(e.ctx, PruneOptions{InUse: using(dangling.ID, User{ID: "c"})})
	if err != nil || len(report.ImagesDeleted) != 0 {
		t.Errorf("in use or a parent: %+v, %v", report, err)
	}
	report, err = e.Prune(e.ctx, PruneOptions{})
	if err != nil || len(report.ImagesDeleted) != 1 || report.ImagesDeleted[0].Deleted != dangling.ID.String() || report.SpaceReclaimed == 0 {
		t.Errorf("dangling: %+v, %v", report, err)
	}
	if _, err := e.Prune(e.ctx, PruneOptions{Filters: Filters{"reference": {"x": true}}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	report, err = e.Prune(e.ctx, PruneOptions{Filters: Filters{"dangling": {"false": true}, "label!": {"stage=test": true}}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := e.List(e.ctx, ListOptions{All: true})
	if err != nil || len(list) != 1 || list[0].ID != labelled.ID.String() {
		t.Errorf("left %+v, %v; removed %+v", list, err, report)
	}
	e.noLeaks(t)
}

func (e *engine) checkSummary(t *testing.T, base, labelled *Image) {
	t.Helper()
	list, err := e.List(e.ctx, ListOptions{SharedSize: true, Manifests: true, Containers: using(labelled.ID, User{ID: "c"})})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(s mobyimage.Summary) bool { return s.ID == labelled.ID.String() })
	got := list[at]
	if at != 0 || got.ParentID != base.ID.String() || got.Containers != 1 || got.Labels["stage"] != "test" || len(got.Manifests) != 1 ||
		got.SharedSize <= 0 || got.Size < got.SharedSize+3<<20 || !got.Manifests[0].Available {
		t.Errorf("at %d: %+v", at, got)
	}
}

// A name that looks like the beginning of the image's own ID is a name.
func TestRemoveOfHexName(t *testing.T) {
	e := newEngine(t)
	image := e.base(t, "base")
	name := image.ID.Encoded()[:4]
	if err := e.Tag(e.ctx, "base", name); err != nil {
		t.Fatal(err)
	}
	removed, err := e.Remove(e.ctx, name, RemoveOptions{})
	if err != nil || len(removed) != 1 || removed[0].Untagged != name+":latest" {
		t.Errorf("removed %+v, %v", removed, err)
	}
	var manifests []dockerManifest
	if err := e.Tag(e.ctx, "base", name); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(fileOf(t, e.save(t, name), "manifest.json"), &manifests); err != nil || !slices.Equal(manifests[0].RepoTags, []string{name + ":latest"}) {
		t.Errorf("saved %+v, %v", manifests, err)
	}
}
