package rootfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"slipway/container/rootfs"
)

func TestChanges(t *testing.T) {
	needRoot(t)
	host := t.TempDir()
	if err := unix.Mount("tmpfs", host, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	defer unmount(t, host)
	for _, d := range []string{"l1/etc/conf.d", "l1/keep", "l1/data", "l2/etc", "l2/opt/app/lib", "l2/swap", "upper", "work", "m"} {
		mkdir(t, host, d)
	}
	for _, f := range []string{"l1/etc/a", "l1/etc/b", "l1/etc/conf.d/c", "l1/keep/k", "l2/opt/app/lib/x", "l2/opt/app/y", "l2/etc/b", "l2/swap/s", "l1/f"} {
		write(t, f, host, f)
	}
	m := filepath.Join(host, "m")
	opts := fmt.Sprintf("lowerdir=%[1]s/l2:%[1]s/l1,upperdir=%[1]s/upper,workdir=%[1]s/work,index=off", host)
	if err := unix.Mount("overlay", m, "overlay", 0, opts); err != nil {
		t.Skip("no overlay on tmpfs here: ", err)
	}
	defer unmount(t, m)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, "changed", m, "etc/a")
	check(os.Remove(filepath.Join(m, "etc/b")))
	mkdir(t, m, "new/sub")
	write(t, "n", m, "new/sub/n")
	check(os.RemoveAll(filepath.Join(m, "opt/app"))) // and made again: opaque
	mkdir(t, m, "opt/app")
	write(t, "z", m, "opt/app/y")
	check(os.RemoveAll(filepath.Join(m, "swap"))) // a folder becomes a file
	write(t, "w", m, "swap")
	check(os.Chmod(filepath.Join(m, "keep"), 0o700))
	mkdir(t, m, "mnt/vol")  // mount points
	mkdir(t, m, "data/vol") // in a folder of the image
	write(t, "", m, "f2")
	check(os.Remove(filepath.Join(m, "f2"))) // came and went
	got, err := rootfs.Changes(t.Context(), filepath.Join(host, "upper"),
		[]string{filepath.Join(host, "l2"), filepath.Join(host, "l1")}, []string{"/mnt/vol", "/data/vol"})
	check(err)
	lines := make([]string, len(got))
	for i, c := range got {
		lines[i] = c.Kind.String() + " " + c.Path
	}
	want := []string{
		"C /etc", "C /etc/a", "D /etc/b", "C /keep", "A /new", "A /new/sub", "A /new/sub/n",
		"C /opt", "C /opt/app", "D /opt/app/lib", "C /opt/app/y", "C /swap",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if !slices.IsSortedFunc(got, func(a, b mobycontainer.FilesystemChange) int { return strings.Compare(a.Path, b.Path) }) {
		t.Error("not sorted")
	}
}
