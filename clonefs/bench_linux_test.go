package clonefs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"slipway/clonefs"
	"slipway/clonefs/clonefstest"
)

// BenchmarkFreeze measures what a writer is frozen for, in ms: with Prepare
// ("prepared") and without ("plain"), on an XFS of its own. Run it with
//
//	go test -run '^$' -bench Freeze -benchtime 5x ./clonefs
func BenchmarkFreeze(b *testing.B) {
	var xfs clonefstest.FileSystem
	for _, fs := range clonefstest.FileSystems() {
		if fs.Name == "xfs" {
			xfs = fs
		}
	}
	root := xfs.Mount(b, 16<<30)
	for _, c := range []struct {
		name   string
		plant  func(b *testing.B, dir string)
		change []string // files of which a page is written between Prepare and Finish
	}{
		{"1412 files, idle", plantDatabase(1412), nil},
		{"1412 files, 40 change", plantDatabase(1412), names(40)},
		{"100000 files, 40 change", plantDatabase(100_000), names(40)},
		{"150000 extents in 4 files, 1 changes", plantFragmented(4), []string{"table0"}},
		{"150000 extents in 1 file, it changes", plantFragmented(1), []string{"table0"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := filepath.Join(root, "tree")
			must(b, os.Mkdir(dir, 0o755))
			c.plant(b, dir)
			must(b, clonefs.Sync(b.Context(), dir))
			time.Sleep(200 * time.Millisecond) // a database is older than that
			for _, prepared := range []bool{true, false} {
				b.Run(map[bool]string{true: "prepared", false: "plain"}[prepared], func(b *testing.B) {
					benchmarkFreeze(b, dir, c.change, prepared)
				})
			}
			must(b, os.RemoveAll(dir))
		})
	}
}

func benchmarkFreeze(b *testing.B, dir string, change []string, prepared bool) {
	b.Helper()
	var frozen, before time.Duration
	for i := range b.N {
		c := clonefs.NewCopy([]clonefs.Tree{{Src: dir, Dst: dir + ".clone"}}, clonefs.Options{})
		if prepared {
			must(b, c.Prepare(b.Context()))
		}
		for _, name := range change {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
			must(b, err)
			_, err = f.WriteAt(clonefstest.Pattern(8192, uint64(i)), 0)
			must(b, err)
			must(b, f.Close())
		}
		stats, err := c.Finish(b.Context())
		must(b, err)
		frozen += stats.Finish.Duration
		before += stats.Prepare.Duration
		must(b, c.Sync(b.Context()))
		must(b, c.Discard(b.Context()))
	}
	b.ReportMetric(float64(frozen.Microseconds())/1000/float64(b.N), "frozen-ms")
	b.ReportMetric(float64(before.Microseconds())/1000/float64(b.N), "prepare-ms")
	b.ReportMetric(0, "ns/op")
}

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("base/%d/%d", i%5, i)
	}
	return out
}

// plantDatabase makes so many files, most of them small, in five directories.
func plantDatabase(files int) func(*testing.B, string) {
	return func(b *testing.B, dir string) {
		b.Helper()
		for i := range 5 {
			must(b, os.MkdirAll(filepath.Join(dir, "base", strconv.Itoa(i)), 0o700))
		}
		for i := range files {
			size := 8192 * (1 + i%4)
			if i%200 == 7 {
				size = 4 << 20
			}
			must(b, os.WriteFile(filepath.Join(dir, "base", strconv.Itoa(i%5), strconv.Itoa(i)), clonefstest.Pattern(size, uint64(i)), 0o600))
		}
	}
}

func plantFragmented(files int) func(*testing.B, string) {
	return func(b *testing.B, dir string) {
		b.Helper()
		for i := range files {
			clonefstest.Fragment(b, filepath.Join(dir, "table"+strconv.Itoa(i)), 150_000/files)
		}
	}
}
