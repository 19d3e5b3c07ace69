//go:build linux

package integration

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"slipway/internal/testutil"

	"github.com/moby/moby/api/types/system"
)

// TestSystemDiskUsage has a daemon of its own, so that all of its objects are known.
func TestSystemDiskUsage(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	busybox, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	// One that shares busybox's layer, and one that shares nothing.
	d.MustLoad(t, busybox.With("shares:1", []testutil.File{{Path: "file", Content: strings.Repeat("x", 2_000_000)}}, nil))
	d.MustLoad(t, testutil.Image{Name: "alone:1", Layers: [][]testutil.File{{{Path: "file", Content: strings.Repeat("y", 3_000_000)}}}})
	running := backgroundOn(t, d, "-v", "used:/vol", "busybox", "sh", "-c", "head -c 1000000 /dev/urandom >/file; head -c 500000 /dev/urandom >/vol/file; sleep 600")
	testutil.Eventually(t, "the files are there", func() bool { return d.Docker("exec", running, "pidof", "sleep").Code == 0 })
	d.MustDocker(t, "run", "--name", "ended", "shares:1", "sh", "-c", "head -c 700000 /dev/urandom >/file2")
	d.MustDocker(t, "volume", "create", "unused")

	var usage system.DiskUsage
	d.API(t, http.MethodGet, "/system/df?verbose=1", nil, http.StatusOK, &usage)
	near := func(what string, got, want int64) {
		t.Helper()
		if got < want || got > want+200_000 { // directories and the runtime's own files
			t.Errorf("%s: %d bytes, want about %d", what, got, want)
		}
	}
	c := usage.ContainerUsage
	if c.TotalCount != 2 || c.ActiveCount != 1 || len(c.Items) != 2 {
		t.Errorf("containers: %+v", c)
	}
	near("containers", c.TotalSize, 1_700_000)
	near("stopped containers", c.Reclaimable, 700_000)

	i := usage.ImageUsage
	if i.TotalCount != 3 || i.ActiveCount != 2 || len(i.Items) != 3 {
		t.Errorf("images: %+v", i)
	}
	var sum, base int64
	for _, img := range i.Items {
		sum += img.Size
		switch img.RepoTags[0] {
		case "busybox:latest":
			base = img.SharedSize
			if img.Containers != 1 || img.SharedSize < 500_000 || img.SharedSize > img.Size {
				t.Errorf("busybox: %+v", img)
			}
		case "shares:1":
			if img.Containers != 1 || img.Size-img.SharedSize < 2_000_000 || img.SharedSize < 500_000 {
				t.Errorf("shares: %+v", img)
			}
		case "alone:1":
			if img.Containers != 0 || img.SharedSize != 0 || img.Size < 3_000_000 {
				t.Errorf("alone: %+v", img)
			}
			if i.Reclaimable != img.Size {
				t.Errorf("%d can be reclaimed of images, want %d, that which no container uses", i.Reclaimable, img.Size)
			}
		}
	}
	// What is shared is there once.
	if i.TotalSize >= sum || i.TotalSize < sum-2*base-300_000 {
		t.Errorf("images take %d bytes, and %d one by one, of which %d are shared", i.TotalSize, sum, base)
	}

	v := usage.VolumeUsage
	if v.TotalCount != 2 || v.ActiveCount != 1 {
		t.Errorf("volumes: %+v", v)
	}
	near("volumes", v.TotalSize, 500_000)
	for _, vol := range v.Items {
		if want := map[string]int64{"used": 1, "unused": 0}[vol.Name]; vol.UsageData.RefCount != want {
			t.Errorf("volume %s has %d users", vol.Name, vol.UsageData.RefCount)
		}
	}
	if b := usage.BuildCacheUsage; b.TotalCount != 0 || b.TotalSize != 0 {
		t.Errorf("build cache: %+v", b)
	}
	oldClients(t, d, i.TotalSize)

	// What people see.
	table := lines(d.MustDocker(t, "system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"))
	if want := []string{"Images 3 2", "Containers 2 1", "Local Volumes 2 1", "Build Cache 0 0"}; !slices.Equal(table, want) {
		t.Errorf("docker system df: %q", table)
	}
	verbose := d.MustDocker(t, "system", "df", "-v")
	for _, want := range []string{"shares", "alone", "ended", "unused", "SHARED SIZE", "UNIQUE SIZE"} {
		if !strings.Contains(verbose, want) {
			t.Errorf("docker system df -v has no %q:\n%s", want, verbose)
		}
	}
	d.MustDocker(t, "rm", "ended")
}

// oldClients get lists, and only of the kinds that they ask for.
func oldClients(t *testing.T, d *testutil.Daemon, size int64) {
	t.Helper()
	var old map[string]json.RawMessage
	d.API(t, http.MethodGet, "/v1.41/system/df", nil, http.StatusOK, &old)
	count := func(kind string) int {
		var list []json.RawMessage
		if err := json.Unmarshal(old[kind], &list); err != nil {
			t.Errorf("%s: %v: %s", kind, err, old[kind])
		}
		return len(list)
	}
	if count("Images") != 3 || count("Containers") != 2 || count("Volumes") != 2 || count("BuildCache") != 0 || old["ImageUsage"] != nil {
		t.Errorf("version 1.41: %v", old)
	}
	var total int64
	if err := json.Unmarshal(old["LayersSize"], &total); err != nil || total != size {
		t.Errorf("LayersSize %d, want %d: %v", total, size, err)
	}
	old = nil
	d.API(t, http.MethodGet, "/v1.47/system/df?type=volume", nil, http.StatusOK, &old)
	if old["Volumes"] == nil || old["Images"] != nil || old["Containers"] != nil {
		t.Errorf("volumes only: %v", old)
	}
}
