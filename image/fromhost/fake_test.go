//go:build linux

package fromhost

import (
	"crypto/md5"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

// fakeHost is a small machine with a dpkg database.
type fakeHost struct {
	t      *testing.T
	root   string
	status strings.Builder
}

func newFakeHost(t *testing.T) *fakeHost {
	t.Helper()
	h := &fakeHost{t: t, root: t.TempDir()}
	h.must(os.MkdirAll(filepath.Join(h.root, dpkgDir, "info"), 0o755))
	for _, d := range []string{"bin", "lib"} {
		h.must(os.MkdirAll(filepath.Join(h.root, "usr", d), 0o755))
		h.must(os.Symlink("usr/"+d, filepath.Join(h.root, d)))
	}
	return h
}

func (h *fakeHost) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// install adds a package. Files are by path, with their content; a path that ends in / is a directory, content that
// begins with -> a link. Changed files are then given another content.
func (h *fakeHost) install(name, fields string, files map[string]string, changed ...string) {
	h.t.Helper()
	fmt.Fprintf(&h.status, "Package: %s\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2.3-4\n%s", name, fields)
	var list, sums strings.Builder
	list.WriteString("/.\n")
	for path, content := range files {
		file := filepath.Join(h.root, path)
		fmt.Fprintln(&list, strings.TrimSuffix(path, "/"))
		h.must(os.MkdirAll(filepath.Dir(file), 0o755))
		switch target, link := strings.CutPrefix(content, "->"); {
		case strings.HasSuffix(path, "/"):
			h.must(os.MkdirAll(file, 0o755))
			continue
		case link:
			h.must(os.Symlink(target, file))
			continue
		}
		sum := fmt.Sprintf("%x", md5.Sum([]byte(content)))
		if strings.HasPrefix(path, "/etc/") {
			if !strings.Contains(h.status.String(), "Conffiles:\n") {
				h.status.WriteString("Conffiles:\n")
			}
			fmt.Fprintf(&h.status, " %s %s\n", path, sum)
		} else {
			fmt.Fprintf(&sums, "%s  %s\n", sum, path[1:])
		}
		if slices.Contains(changed, path) {
			content += "changed"
		}
		h.must(os.WriteFile(file, []byte(content), 0o644))
	}
	h.status.WriteString("\n")
	info := filepath.Join(h.root, dpkgDir, "info", name)
	h.must(os.WriteFile(info+".list", []byte(list.String()), 0o644))
	h.must(os.WriteFile(info+".md5sums", []byte(sums.String()), 0o644))
}

func (h *fakeHost) open() *Host {
	h.t.Helper()
	h.must(os.WriteFile(filepath.Join(h.root, dpkgDir, "status"), []byte(h.status.String()), 0o644))
	host, err := Open(Config{Root: h.root})
	h.must(err)
	return host
}

func TestClosure(t *testing.T) {
	h := newFakeHost(t)
	h.install("server", "Pre-Depends: first\nDepends: virtual-thing, missing | second (>= 1),\n third:any, debconf | debconf-2.0, systemd | ghost\n", nil)
	h.install("first", "", nil)
	h.install("second", "Depends: server\n", nil)
	h.install("third", "Depends: second\n", nil)
	h.install("provider", "Provides: other, virtual-thing (= 3)\n", nil)
	h.install("debconf", "Depends: perl\n", nil)
	h.status.WriteString("Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n")
	h.install("broken", "Depends: gone\n", nil)
	db := h.open().db
	packages, err := db.closure("server")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range packages {
		names = append(names, p.name)
	}
	if diff := cmp.Diff([]string{"first", "provider", "second", "server", "third"}, names); diff != "" {
		t.Error("(-want +got):", diff)
	}
	if _, err := db.closure("broken"); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a dependency that is not installed: %v", err)
	}
}

func TestOnlyUnchangedFiles(t *testing.T) {
	h := newFakeHost(t)
	h.install("pkg", "", map[string]string{
		"/bin/": "", "/bin/tool": "tool", "/usr/lib/lib.so.1": "library", "/usr/lib/lib.so": "->lib.so.1",
		"/etc/same": "same", "/etc/changed": "default", "/usr/share/patched": "x", "/usr/share/diverted": "mine",
		"/usr/share/doc/pkg/README": "read", "/usr/share/doc/pkg/copyright": "licence", "/usr/share/deleted": "gone",
		"/usr/share/special": "file",
	}, "/etc/changed", "/usr/share/patched")
	h.must(os.WriteFile(filepath.Join(h.root, "etc/generated.key"), []byte("secret"), 0o600))
	h.must(os.Rename(filepath.Join(h.root, "usr/share/diverted"), filepath.Join(h.root, "usr/share/diverted.pkg")))
	h.must(os.WriteFile(filepath.Join(h.root, "usr/share/diverted"), []byte("another's"), 0o644))
	h.must(os.WriteFile(filepath.Join(h.root, dpkgDir, "diversions"), []byte("/usr/share/diverted\n/usr/share/diverted.pkg\nother\n"), 0o644))
	h.must(os.Remove(filepath.Join(h.root, "usr/share/deleted")))
	h.must(os.Remove(filepath.Join(h.root, "usr/share/special")))
	h.must(os.Symlink("/etc/generated.key", filepath.Join(h.root, "usr/share/special")))

	host := h.open()
	tree := host.newTree()
	h.must(tree.addPackage(t.Context(), host.db.packages["pkg"], wanted))
	var paths []string
	for _, f := range tree.finish() {
		if f.Mode&typeMask != typeDir {
			paths = append(paths, f.Path)
		}
	}
	want := []string{
		"/bin", "/etc/same", "/lib", "/usr/bin/tool", "/usr/lib/lib.so", "/usr/lib/lib.so.1", "/usr/share/diverted.pkg",
		"/usr/share/doc/pkg/copyright", "/usr/share/special",
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error("files (-want +got):", diff)
	}
	if diff := cmp.Diff([]string{"/etc/changed", "/usr/share/deleted", "/usr/share/patched"}, tree.changed); diff != "" {
		t.Error("left out (-want +got):", diff)
	}
}

func TestNothingInstalled(t *testing.T) {
	host := newFakeHost(t).open()
	if found, err := host.List(); err != nil || len(found) > 0 {
		t.Errorf("found %v", found)
	}
	for name, want := range map[string]string{"postgresql": "apt-get install postgresql", "busybox": "apt-get install busybox-static"} {
		if _, err := host.Build(t.Context(), name, ""); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "mysql", "../x"} {
		if _, err := host.Build(t.Context(), name, ""); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := Open(Config{Root: t.TempDir()}); !errdefs.IsNotImplemented(err) {
		t.Errorf("without dpkg: %v", err)
	}
}

func TestUpstream(t *testing.T) {
	for version, want := range map[string]string{"15.18-0+deb12u1": "15.18", "1:1.35.0-4+b1": "1.35.0", "2": "2", "1.2-3-4": "1.2-3"} {
		if got := upstream(version); got != want {
			t.Errorf("upstream(%q) = %q, want %q", version, got, want)
		}
	}
}

func FuzzFields(f *testing.F) {
	f.Add("Package: a\nStatus: install ok installed\nConffiles:\n /etc/a 0123\nDepends: b (>= 1) | c,\n d\n")
	f.Fuzz(func(_ *testing.T, text string) {
		db := &packageDB{packages: map[string]*debPackage{}, providers: map[string][]string{}}
		db.add(text)
		for name, p := range db.packages {
			_, _ = db.closure(name)
			_ = p.record()
		}
	})
}
