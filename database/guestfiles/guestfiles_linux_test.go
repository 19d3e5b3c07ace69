package guestfiles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"slipway/database"

	"github.com/google/go-cmp/cmp"
)

// newTree makes a root with a volume at /data and a secret beside both.
func newTree(t *testing.T) (tree *Tree, root, volume, secret string) {
	t.Helper()
	dir := t.TempDir()
	root, volume, secret = filepath.Join(dir, "root"), filepath.Join(dir, "volume"), filepath.Join(dir, "secret")
	for _, d := range []string{root, volume, filepath.Join(root, "etc"), filepath.Join(root, "data")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, secret, "outside")
	write(t, filepath.Join(root, "data", "file"), "hidden by the volume")
	write(t, filepath.Join(volume, "file"), "in the volume")
	tree, err := New(Mount{Path: "/", Source: root}, Mount{Path: "/data/", Source: volume})
	if err != nil {
		t.Fatal(err)
	}
	return tree, root, volume, secret
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	tree, root, volume, secret := newTree(t)
	for name, target := range map[string]string{
		"absolute": secret, "up": "../../../../../../../../.." + secret, "etc/up": "../../secret",
		"proc": "/proc/self/root" + secret, "inside": "/etc/real", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..", filepath.Join(volume, "parent")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "etc", "real"), "real")
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/data/file": "in the volume", "data//./file": "in the volume", "/inside": "real", "/etc/../inside": "real",
		"/absolute": "", "/up": "", "/etc/up": "", "/proc": "", "/loop": "", "/fifo": "", "/etc": "", "/../secret": "",
		"/data/parent/secret": "", "/data/../secret": "",
	} {
		got, err := tree.Read(path, 100)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := tree.Read("/inside", 3); !errors.Is(err, database.ErrOutput) {
		t.Errorf("too long: %v", err)
	}
	if _, err := tree.Size("/not/there"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if names, err := tree.List("/etc", 2); err != nil || cmp.Diff([]string{"real", "up"}, names) != "" {
		t.Errorf("List: %v, %v", names, err)
	}
	if _, err := tree.List("/etc", 1); !errors.Is(err, database.ErrOutput) {
		t.Errorf("List with too many: %v", err)
	}
}

func TestChange(t *testing.T) {
	tree, root, volume, secret := newTree(t)
	for name, target := range map[string]string{"link": secret, "dir": filepath.Dir(secret)} {
		if err := os.Symlink(target, filepath.Join(volume, name)); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		if err := errors.Join(os.Chown(filepath.Join(volume, "file"), 12, 34), os.Chown(volume, 56, 78)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(filepath.Join(volume, "file"), 0o640),
		tree.Replace("/data/file", []byte("new")), tree.Replace("/data/fresh", []byte("fresh")), tree.Replace("/data/link", []byte("no link"))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		text     string
		mode     fs.FileMode
		uid, gid uint32
	}{"file": {"new", 0o640, 12, 34}, "fresh": {"fresh", 0o600, 56, 78}, "link": {"no link", 0o600, 56, 78}} {
		file := filepath.Join(volume, name)
		info, err := os.Lstat(file)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		text, _ := os.ReadFile(file)
		if string(text) != want.text || info.Mode() != want.mode || os.Getuid() == 0 && (st.Uid != want.uid || st.Gid != want.gid) {
			t.Errorf("%s: %q %v %d:%d", name, text, info.Mode(), st.Uid, st.Gid)
		}
	}
	if err := tree.Replace("/data/dir/secret", []byte("x")); err == nil {
		t.Error("replaced a file through a link that leads out")
	}
	if err := tree.Remove("/data/dir/secret"); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if got, _ := os.ReadFile(secret); string(got) != "outside" {
		t.Errorf("the file outside now has %q", got)
	}
	if err := errors.Join(tree.Rename("/data/file", "moved"), tree.Remove("/data/moved"), tree.Remove("/data/moved"), tree.Remove("/no/where")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"../x", "a/b", "", "..", "/"} {
		if err := tree.Rename("/data/fresh", name); err == nil {
			t.Errorf("renamed to %q", name)
		}
	}
	if entries, _ := os.ReadDir(volume); len(entries) != 3 {
		t.Errorf("left behind: %v", entries)
	}
	if text, _ := os.ReadFile(filepath.Join(root, "data", "file")); string(text) != "hidden by the volume" {
		t.Errorf("the file below the volume has %q", text)
	}
}
