//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

func TestBindMount(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "host"), []byte("from the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "-v", dir+":/mnt/in", "busybox", "sh", "-c", "cat /mnt/in/host; echo written > /mnt/in/back"); got != "from the host" {
		t.Errorf("got %q", got)
	}
	if back, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(back) != "written\n" {
		t.Errorf("on the host: %q, %v", back, err)
	}
	// One file, read-only, by either syntax.
	for _, args := range [][]string{
		{"-v", filepath.Join(dir, "host") + ":/etc/motd:ro"},
		{"--mount", "type=bind,readonly,src=" + filepath.Join(dir, "host") + ",dst=/etc/motd"},
	} {
		r := engine(t).Docker(append([]string{"run", "--rm"}, append(args, "busybox", "sh", "-c", "cat /etc/motd; echo x > /etc/motd")...)...)
		if r.Stdout != "from the host" || r.Code == 0 || !strings.Contains(r.Stderr, "Read-only file system") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	// -v makes a missing source, --mount does not.
	run(t, "-v", dir+"/made:/m", "busybox", "touch", "/m/x")
	if _, err := os.Stat(filepath.Join(dir, "made", "x")); err != nil {
		t.Error(err)
	}
	dockerFails(t, "bind source path does not exist: "+dir+"/missing", "run", "--rm", "--mount", "type=bind,src="+dir+"/missing,dst=/m", "busybox", "true")
	dockerFails(t, "Duplicate mount point: /m", "run", "--rm", "-v", dir+":/m", "--mount", "type=bind,src="+dir+",dst=/m", "busybox", "true")
}

func TestTmpfs(t *testing.T) {
	t.Parallel()
	name := idle(t, "--tmpfs", "/scratch:size=1m,mode=1770,noexec")
	options := engine(t).ContainerProcess(t, name).MountOptions(t, "/scratch")
	for _, want := range []string{"size=1024k", "mode=1770", "noexec", "nosuid", "nodev"} {
		if !strings.Contains(options, want) {
			t.Errorf("options %s, want %s", options, want)
		}
	}
	r := engine(t).Docker("exec", name, "sh", "-c", "head -c 2000000 /dev/zero > /scratch/x || stat -c %s /scratch/x")
	if strings.TrimSpace(r.Stdout) != "1048576" {
		t.Errorf("2 MB into 1 MiB: %+v", r)
	}
	if got := run(t, "--mount", "type=tmpfs,dst=/t,tmpfs-size=4096", "busybox", "sh", "-c", "df -k /t | tail -1 | awk '{print $2}'"); got != "4" {
		t.Errorf("by --mount: %s KiB", got)
	}
	// It is gone with the container's run.
	docker(t, "exec", name, "touch", "/scratch/gone")
	docker(t, "restart", name)
	if r := engine(t).Docker("exec", name, "test", "-e", "/scratch/gone"); r.Code == 0 {
		t.Error("a file in a tmpfs is still there after a restart")
	}
}

func TestNamedVolume(t *testing.T) {
	t.Parallel()
	volume := unique(t)
	t.Cleanup(func() { engine(t).Docker("volume", "rm", "-f", volume) })
	run(t, "-v", volume+":/data", "busybox", "sh", "-c", "echo kept > /data/file")
	if got := run(t, "--mount", "type=volume,src="+volume+",dst=/elsewhere", "busybox", "cat", "/elsewhere/file"); got != "kept" {
		t.Errorf("in the next container: %q", got)
	}
	if r := engine(t).Docker("run", "--rm", "-v", volume+":/data:ro", "busybox", "touch", "/data/x"); r.Code == 0 {
		t.Error("a read-only volume was written to")
	}
	if got := docker(t, "volume", "inspect", "-f", "{{.Name}} {{.Driver}} {{.Scope}}", volume); got != volume+" local local" {
		t.Errorf("inspect: %s", got)
	}
	// The mount point is a place on the host with the files.
	file := filepath.Join(docker(t, "volume", "inspect", "-f", "{{.Mountpoint}}", volume), "file")
	if data, err := os.ReadFile(file); err != nil || string(data) != "kept\n" {
		t.Errorf("%s: %q, %v", file, data, err)
	}

	holder := unique(t)
	removeLater(t, engine(t), holder)
	id := docker(t, "create", "--name", holder, "-v", volume+":/data", "busybox")
	dockerFails(t, "volume is in use - ["+id+"]", "volume", "rm", volume)
	docker(t, "rm", "-v", holder) // takes anonymous volumes only
	docker(t, "volume", "rm", volume)
	dockerFails(t, "get "+volume+": no such volume", "volume", "rm", volume)
}

func TestAnonymousVolume(t *testing.T) {
	t.Parallel()
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image := engine(t).MustLoad(t, base.With(unique(t)+":x",
		[]testutil.File{{Path: "data/", UID: 1000, GID: 50, Mode: 0o750}, {Path: "data/file", Content: "from the image", UID: 7}, {Path: "data/deep/er/"}},
		func(c *testutil.ImageConfig) { c.Volumes = map[string]struct{}{"/data": {}} }))

	name := background(t, image, "sleep", "600")
	if got := docker(t, "exec", name, "sh", "-c", "cat /data/file; stat -c ' %u:%g:%a' /data; stat -c %u /data/file; ls /data/deep"); got != "from the image 1000:50:750\n7\ner" {
		t.Errorf("the volume's content: %q", got)
	}
	volume := inspect(t, name, "(index .Mounts 0).Name")
	if len(volume) != 64 || inspect(t, name, "(index .Mounts 0).Destination") != "/data" {
		t.Errorf("mounts: %s", inspect(t, name, "json .Mounts"))
	}
	if p := engine(t).ContainerProcess(t, name).MountOptions(t, "/data"); p == "" {
		t.Error("nothing is mounted at /data")
	}
	docker(t, "exec", name, "sh", "-c", "echo changed > /data/file")
	docker(t, "restart", "-t", "0", name)
	if got := docker(t, "exec", name, "cat", "/data/file"); got != "changed" {
		t.Errorf("after a restart: %q", got)
	}
	// Each container has its own, and the image stays as it was.
	if got := run(t, image, "cat", "/data/file"); got != "from the image" {
		t.Errorf("in another container: %q", got)
	}
	docker(t, "rm", "-f", name)
	if docker(t, "volume", "ls", "-q", "--filter", "name="+volume) != volume {
		t.Error("rm without -v took the volume")
	}
	docker(t, "volume", "rm", volume)

	gone := background(t, image, "true")
	volume = inspect(t, gone, "(index .Mounts 0).Name")
	docker(t, "wait", gone)
	docker(t, "rm", "-v", gone)
	if left := docker(t, "volume", "ls", "-q", "--filter", "name="+volume); left != "" {
		t.Error("rm -v left the volume")
	}
}

// TestVolumeIsFilledOnce: a named volume takes the image's files at its first
// use only, and not with nocopy.
func TestVolumeIsFilledOnce(t *testing.T) {
	t.Parallel()
	volume, empty := unique(t), unique(t)
	t.Cleanup(func() { engine(t).Docker("volume", "rm", "-f", volume, empty) })
	if got := run(t, "-v", volume+":/etc", "busybox", "sh", "-c", "rm /etc/group; ls /etc/passwd"); got != "/etc/passwd" {
		t.Errorf("at first use: %q", got)
	}
	if r := engine(t).Docker("run", "--rm", "-v", volume+":/etc", "busybox", "test", "-e", "/etc/group"); r.Code == 0 {
		t.Error("a deleted file came back")
	}
	if r := engine(t).Docker("run", "--rm", "-v", empty+":/etc:nocopy", "busybox", "test", "-e", "/etc/passwd"); r.Code == 0 {
		t.Error("nocopy copied")
	}
}

func TestVolumeCommands(t *testing.T) {
	t.Parallel()
	volume := unique(t)
	t.Cleanup(func() { engine(t).Docker("volume", "rm", "-f", volume) })
	if got := docker(t, "volume", "create", "--label", "for="+volume, volume); got != volume {
		t.Errorf("create: %q", got)
	}
	docker(t, "volume", "create", volume) // again: the same
	if got := docker(t, "volume", "ls", "-q", "--filter", "label=for="+volume); got != volume {
		t.Errorf("by label: %q", got)
	}
	if got := docker(t, "volume", "ls", "-q", "--filter", "dangling=false", "--filter", "name="+volume); got != "" {
		t.Errorf("used: %q", got)
	}
	dockerFails(t, "includes invalid characters for a local volume name", "volume", "create", "a/b")
	dockerFails(t, "no-such-driver", "volume", "create", "-d", "no-such-driver")
	dockerFails(t, "get no-such: no such volume", "volume", "inspect", "no-such")
	docker(t, "volume", "rm", volume)
	docker(t, "volume", "rm", "-f", volume) // gone already
}

func TestVolumesFrom(t *testing.T) {
	t.Parallel()
	source := idle(t, "-v", "/shared")
	docker(t, "exec", source, "sh", "-c", "echo one > /shared/x")
	if got := run(t, "--volumes-from", source, "busybox", "cat", "/shared/x"); got != "one" {
		t.Errorf("got %q", got)
	}
	if r := engine(t).Docker("run", "--rm", "--volumes-from", source+":ro", "busybox", "touch", "/shared/y"); r.Code == 0 {
		t.Error("read-only volumes were written to")
	}
}
