package clonefstest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"slipway/clonefs"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// overlayMount shows layers, top first, as overlayfs sees them: read-only, or
// with upper as the writable one.
func overlayMount(t *testing.T, at string, upper string, lower []string) {
	t.Helper()
	must(t, os.MkdirAll(at, 0o750))
	options := "redirect_dir=off,metacopy=off,index=off,lowerdir=" + strings.Join(lower, ":")
	if upper != "" {
		work := upper + ".work"
		must(t, os.MkdirAll(work, 0o750))
		options += ",upperdir=" + upper + ",workdir=" + work
	}
	if err := unix.Mount("overlay", at, "overlay", 0, options); err != nil {
		t.Fatalf("mount overlay: %v", err)
	}
	t.Cleanup(func() { Unmount(t, at) })
}

// plantLayers makes four layers by working in real overlays, so that whiteouts
// and opaque directories are the kernel's own. The result is top first.
func plantLayers(t *testing.T, dir string) []string {
	t.Helper()
	base := filepath.Join(dir, "layer0")
	must(t, os.Mkdir(base, 0o750))
	Plant(t, base)
	// In a lower layer these would be whiteouts and opaque marks, not files.
	must(t, os.RemoveAll(filepath.Join(base, "overlay")))
	must(t, os.MkdirAll(filepath.Join(base, "d/e"), 0o750))
	for _, name := range []string{"d/f", "d/g", "d/e/h", "replaced", "kept"} {
		must(t, os.WriteFile(filepath.Join(base, name), []byte(name), 0o600))
	}
	layers := []string{base}
	for i, work := range []func(at func(string) string){
		func(at func(string) string) {
			must(t, os.Remove(at("plain/small")))
			must(t, os.RemoveAll(at("d")))
			must(t, os.Mkdir(at("d"), 0o700)) // opaque
			must(t, os.WriteFile(at("d/new"), []byte("new"), 0o600))
			must(t, os.WriteFile(at("plain/inner/page"), Pattern(9000, 30), 0o600))
			must(t, os.Remove(at("replaced")))
			must(t, os.Mkdir(at("replaced"), 0o750))
			must(t, os.WriteFile(at("replaced/in"), []byte("in"), 0o600))
		},
		func(at func(string) string) {
			must(t, os.WriteFile(at("plain/small"), []byte("again"), 0o600))
			must(t, os.RemoveAll(at("nodes")))
			must(t, os.WriteFile(at("nodes"), []byte("file"), 0o600))
			must(t, unix.Chmod(at("plain"), 0o700))
			must(t, os.Remove(at("sparse")))
		},
		func(at func(string) string) {
			must(t, os.Remove(at("nodes")))
			must(t, os.Mkdir(at("nodes"), 0o750))
			must(t, os.WriteFile(at("nodes/n"), []byte("n"), 0o600))
			must(t, os.Remove(at("d/new")))
			must(t, os.WriteFile(at("sparse"), []byte("no more"), 0o600))
			must(t, os.Remove(at("kept")))
		},
	} {
		upper := filepath.Join(dir, "layer"+strconv.Itoa(i+1))
		must(t, os.Mkdir(upper, 0o750))
		mnt := filepath.Join(dir, "mnt"+strconv.Itoa(i+1))
		overlayMount(t, mnt, upper, layers)
		work(func(name string) string { return filepath.Join(mnt, name) })
		Unmount(t, mnt)
		layers = append([]string{upper}, layers...)
	}
	return layers
}

func (s *suite) testMerge(t *testing.T, dir string) {
	t.Helper()
	layers := plantLayers(t, dir)
	view, dst := filepath.Join(dir, "view"), filepath.Join(dir, "dst")
	overlayMount(t, view, "", layers)
	_, err := clonefs.Merge(t.Context(), layers, dst)
	must(t, err)
	s.sameTrees(t, view, dst)
	for path, e := range Scan(t, dst) {
		for name := range e.Xattrs {
			if strings.HasPrefix(name, "trusted.overlay.") {
				t.Errorf("%s has the attribute %s", path, name)
			}
		}
	}
}

// testMergePart merges only the upper layers: over the lower ones the result
// must look as the layers did.
func (s *suite) testMergePart(t *testing.T, dir string) {
	t.Helper()
	layers := plantLayers(t, dir)
	view := filepath.Join(dir, "view")
	overlayMount(t, view, "", layers)
	want := Scan(t, view)
	for cut := 1; cut < len(layers); cut++ {
		dst := filepath.Join(dir, "dst"+strconv.Itoa(cut))
		c := clonefs.NewCopy([]clonefs.Tree{{Layers: layers[:cut], Dst: dst, KeepWhiteouts: true}}, clonefs.Options{})
		must(t, c.Prepare(t.Context()))
		_, err := c.Finish(t.Context())
		must(t, err)
		again := filepath.Join(dir, "again"+strconv.Itoa(cut))
		overlayMount(t, again, "", append([]string{dst}, layers[cut:]...))
		if diff := cmp.Diff(want, Scan(t, again)); diff != "" {
			t.Errorf("upper %d layers merged (-layers +merged):\n%s", cut, diff)
		}
	}
}

// testMergeLive merges while the top layer is written to, as in the commit of a
// container on a long chain, and has whiteouts in the form of attributes.
func (s *suite) testMergeLive(t *testing.T, dir string) {
	t.Helper()
	layers := plantLayers(t, dir)
	top := layers[0]
	c := clonefs.NewCopy([]clonefs.Tree{{Layers: layers, Dst: filepath.Join(dir, "dst")}}, clonefs.Options{})
	must(t, c.Prepare(t.Context()))
	must(t, os.WriteFile(filepath.Join(top, "late"), []byte("late"), 0o600))
	must(t, os.WriteFile(filepath.Join(top, "plain-hidden"), nil, 0o600))
	must(t, unix.Mknod(filepath.Join(top, ".hidden"), unix.S_IFCHR, 0))
	must(t, os.MkdirAll(filepath.Join(top, "links/far"), 0o750))
	must(t, os.WriteFile(filepath.Join(top, "links/far/more"), []byte("more"), 0o600))
	must(t, os.WriteFile(filepath.Join(top, "links/b"), nil, 0o600))
	must(t, unix.Lsetxattr(filepath.Join(top, "links/b"), "trusted.overlay.whiteout", []byte{}, 0))
	must(t, unix.Lsetxattr(filepath.Join(top, "links"), "trusted.overlay.opaque", []byte("x"), 0))
	_, err := c.Finish(t.Context())
	must(t, err)
	got := Scan(t, filepath.Join(dir, "dst"))
	for _, name := range []string{"late", "links/far/more", "links/a", "links/far/away/c"} {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range []string{".hidden", "links/b", "kept"} {
		if _, ok := got[name]; ok {
			t.Errorf("%s is still there", name)
		}
	}
}

func (s *suite) testMergeRefuses(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"trusted.overlay.redirect", "trusted.overlay.metacopy"} {
		top, low, dst := filepath.Join(dir, name, "top"), filepath.Join(dir, name, "low"), filepath.Join(dir, name, "dst")
		must(t, os.MkdirAll(filepath.Join(top, "d"), 0o750))
		must(t, os.MkdirAll(low, 0o750))
		must(t, unix.Lsetxattr(filepath.Join(top, "d"), name, []byte("/x"), 0))
		if _, err := clonefs.Merge(t.Context(), []string{top, low}, dst); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("merging a layer with %s: %v", name, err)
		}
		if _, err := os.Lstat(dst); err == nil {
			t.Errorf("%s: a failed merge left its destination", name)
		}
		if _, err := clonefs.Clone(t.Context(), top, dst); err != nil {
			t.Errorf("cloning a layer with %s: %v", name, err)
		}
		s.sameTrees(t, top, dst)
	}
}
