package clonefstest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// RequireRoot skips a test that needs mounts.
func RequireRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: makes loop devices and mounts")
	}
}

// FileSystem is a kind of file system that the suite can run on.
type FileSystem struct {
	Name     string
	Reflinks bool
	make     []string // command that makes it, without the file's name; empty for tmpfs
}

// FileSystems returns all kinds that this machine has the tools for.
func FileSystems() []FileSystem {
	all := []FileSystem{
		{Name: "xfs", Reflinks: true, make: []string{"mkfs.xfs", "-q", "-f", "-m", "reflink=1"}},
		{Name: "btrfs", Reflinks: true, make: []string{"mkfs.btrfs", "-q", "-f"}},
		{Name: "ext4", make: []string{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1"}},
		{Name: "tmpfs"},
	}
	var out []FileSystem
	for _, f := range all {
		if len(f.make) > 0 {
			if _, err := exec.LookPath(f.make[0]); err != nil {
				continue
			}
		}
		out = append(out, f)
	}
	return out
}

// Mount makes a file system of so many bytes and returns where it is mounted.
// It goes away with the test.
func (f FileSystem) Mount(tb testing.TB, size int64) string {
	tb.Helper()
	RequireRoot(tb)
	dir := filepath.Join(tb.TempDir(), f.Name)
	if err := os.Mkdir(dir, 0o750); err != nil {
		tb.Fatal(err)
	}
	if len(f.make) == 0 {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.FormatInt(size, 10)); err != nil {
			tb.Fatalf("mount tmpfs: %v", err)
		}
	} else {
		file := dir + ".img"
		MakeSparse(tb, file, size)
		Run(tb, f.make[0], append(f.make[1:len(f.make):len(f.make)], file)...)
		Run(tb, "mount", "-o", "loop,noatime", file, dir)
	}
	tb.Cleanup(func() { Unmount(tb, dir) })
	return dir
}

// MakeSparse makes a file of so many bytes that takes no space.
func MakeSparse(tb testing.TB, file string, size int64) {
	tb.Helper()
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		tb.Fatal(err)
	}
}

// Unmount unmounts dir, waiting for those who are just leaving it.
func Unmount(tb testing.TB, dir string) {
	tb.Helper()
	var err error
	for range 100 {
		if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		tb.Errorf("unmount %s: %v", dir, err)
	}
}

// Run runs a command that must succeed and returns what it wrote.
func Run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
