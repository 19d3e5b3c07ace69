package clonefs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/clonefs"
	"slipway/clonefs/clonefstest"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestGrow(t *testing.T) {
	cfg := config(newRoot(t))
	p := open(t, cfg)
	before := status(t, p)
	must(t, p.Grow(t.Context(), 2*testPoolSize))
	after := status(t, p)
	if after.FileSize != 2*testPoolSize || after.Size < before.Size+testPoolSize-8*mib {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if err := p.Grow(t.Context(), testPoolSize); !errdefs.IsInvalidArgument(err) {
		t.Errorf("shrinking: %v", err)
	}
	fill(t, filepath.Join(p.Root(), "file"), 600*mib) // more than it had
	cfg.PoolSize = 3 * testPoolSize
	if s := status(t, open(t, cfg)); s.FileSize != 3*testPoolSize {
		t.Errorf("after raising the configured size: %+v", s)
	}
}

// TestCrash kills a process at every failpoint of making and growing a pool.
// The next Open must end where an undisturbed one would.
func TestCrash(t *testing.T) {
	clonefstest.RequireRoot(t)
	points := failpoints(t)
	if len(points) < 12 {
		t.Fatalf("only %d failpoints in the source: %v", len(points), points)
	}
	self, err := os.Executable()
	must(t, err)
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			cfg := config(newRoot(t))
			growing := strings.HasPrefix(point, "clonefs.grow.")
			action := "open"
			if growing {
				action = "grow"
				p := open(t, cfg)
				must(t, os.WriteFile(filepath.Join(p.Root(), "file"), []byte("content"), 0o600))
				must(t, clonefs.Sync(t.Context(), p.Root()))
			}
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), envHelper+"="+action+":"+cfg.DataRoot, "SLIPWAY_FAILPOINT="+point)
			if growing && point == "clonefs.grow.attached" {
				cmd.Env[len(cmd.Env)-1] += "@2" // the first is Open's own look
			}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != -1 {
				t.Fatalf("the helper was not killed: %v\n%s", err, out)
			}
			p := open(t, cfg)
			s := status(t, p)
			if _, err := os.Lstat(s.PoolFile + ".new"); err == nil {
				t.Error("a half-made pool file is left")
			}
			if slack := s.FileSize - s.Size; slack < 0 || slack > 80*mib { // the log
				t.Errorf("file and file system differ: %+v", s)
			}
			if growing && point != "clonefs.grow.begin" && s.FileSize != 2*testPoolSize {
				t.Errorf("the growth was not finished: %+v", s)
			}
			if got, err := os.ReadFile(filepath.Join(p.Root(), "file")); growing && (err != nil || string(got) != "content") {
				t.Errorf("the pool lost a file: %q, %v", got, err)
			}
			if n := loopsOf(t, s.PoolFile); n != 1 {
				t.Errorf("%d loop devices on the pool file", n)
			}
		})
	}
}

func failpoints(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	must(t, err)
	var out []string
	for _, f := range files {
		src, err := os.ReadFile(f)
		must(t, err)
		for _, m := range regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`).FindAllStringSubmatch(string(src), -1) {
			out = append(out, m[1])
		}
	}
	return out
}

func loopsOf(t *testing.T, file string) int {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	n := 0
	for _, f := range files {
		if name, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(name)) == file {
			n++
		}
	}
	return n
}

func TestFullPool(t *testing.T) {
	cfg := config(newRoot(t))
	p := open(t, cfg)
	file := filepath.Join(p.Root(), "file")
	free := status(t, p).Free
	fill(t, file, int(free-cfg.Reserve)/mib*mib+2*mib)
	if err := p.CheckSpace(t.Context()); !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "slipway pool grow") {
		t.Errorf("full pool: %v", err)
	}
	used := status(t, p).FileUsed
	must(t, os.Remove(file))
	freed, err := p.Trim(t.Context())
	must(t, err)
	if s := status(t, p); freed < 400*mib || used-s.FileUsed < 400*mib {
		t.Errorf("trim says %d bytes, the pool file went from %d to %d", freed, used, s.FileUsed)
	}
	must(t, p.CheckSpace(t.Context()))

	// To the last block, then opened again: what is there must stay usable.
	_, err = exec.CommandContext(t.Context(), "dd", "if=/dev/zero", "of="+file, "bs=1M").CombinedOutput()
	if err == nil {
		t.Fatal("the pool does not fill up")
	}
	must(t, clonefs.Unmount(t.Context(), cfg.DataRoot))
	open(t, cfg)
	must(t, os.Remove(file))
}

// tinyHost makes a small file system to be the host's.
func tinyHost(t *testing.T, size int64) string {
	t.Helper()
	ext4 := clonefstest.FileSystem{}
	for _, fs := range clonefstest.FileSystems() {
		if fs.Name == "ext4" {
			ext4 = fs
		}
	}
	if ext4.Name == "" {
		t.Skip("needs mkfs.ext4")
	}
	root := ext4.Mount(t, size)
	unmountLater(t, root)
	return root
}

func TestFullHost(t *testing.T) {
	cfg := config(tinyHost(t, 1200*mib))
	cfg.Method, cfg.PoolSize = "", 0
	ballast := filepath.Join(cfg.DataRoot, "ballast")
	fill(t, ballast, 700*mib)
	if _, err := clonefs.Open(t.Context(), cfg); !errdefs.IsResourceExhausted(err) {
		t.Errorf("new pool on a full host: %v", err)
	}
	must(t, os.Remove(ballast))
	p := open(t, cfg)
	must(t, p.CheckSpace(t.Context()))
	fill(t, ballast, int(status(t, p).HostFree-cfg.Reserve)/mib*mib+4*mib)
	if err := p.CheckSpace(t.Context()); !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "sparse pool file") {
		t.Errorf("host is full, pool is not: %v", err)
	}
}

// TestRoomAfterRemoval: what was freed in the pool is room on the host at once,
// for everybody who asks at the same time.
func TestRoomAfterRemoval(t *testing.T) {
	cfg := config(tinyHost(t, 1500*mib))
	p := open(t, cfg)
	file := filepath.Join(p.Root(), "file")
	fill(t, file, 300*mib)
	fill(t, filepath.Join(cfg.DataRoot, "ballast"), int(status(t, p).HostFree-cfg.Reserve)/mib*mib+4*mib)
	if err := p.CheckSpace(t.Context()); !errdefs.IsResourceExhausted(err) {
		t.Errorf("the host is full: %v", err)
	}
	must(t, os.Remove(file))
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("client went away"))
	if err := p.CheckSpace(ended); err == nil || errdefs.IsResourceExhausted(err) {
		t.Errorf("nobody waits any more: %v", err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := p.CheckSpace(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestReadOnlyHost(t *testing.T) {
	cfg := config(tinyHost(t, 1200*mib))
	must(t, unix.Mount("", cfg.DataRoot, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for _, method := range []string{"", clonefs.MethodPool} {
		cfg.Method = method
		if _, err := clonefs.Open(t.Context(), cfg); !errors.Is(err, unix.EROFS) {
			t.Errorf("pool on a read-only file system: %v", err)
		}
	}
}

// TestRun checks that a pool follows the host's room by itself, both ways.
func TestRun(t *testing.T) {
	cfg := config(tinyHost(t, 3000*mib))
	cfg.Method, cfg.PoolSize = "", 0
	ballast := filepath.Join(cfg.DataRoot, "ballast")
	fill(t, ballast, 1500*mib)
	p := open(t, cfg)
	before := status(t, p)
	must(t, os.Remove(ballast))

	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	file := filepath.Join(p.Root(), "file")
	fill(t, file, int(before.Free-100*mib)/mib*mib)
	eventually(t, "the pool grows", func() bool { return status(t, p).Size > before.Size+500*mib })
	full := status(t, p).FileUsed
	must(t, os.Remove(file))
	eventually(t, "freed space is given back", func() bool { return full-status(t, p).FileUsed > 500*mib })
	cancel(context.Canceled)
	must(t, <-done)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("not so within 10 s: %s", what)
}

// TestUncleanStop mounts a copy of the pool file that was taken while it was in
// use, as after a power cut: the log is replayed.
func TestUncleanStop(t *testing.T) {
	cfg := config(newRoot(t))
	p := open(t, cfg)
	must(t, os.WriteFile(filepath.Join(p.Root(), "file"), bytes.Repeat([]byte("x"), 10000), 0o600))
	must(t, clonefs.Sync(t.Context(), p.Root()))
	other := config(newRoot(t))
	clonefstest.Run(t, "cp", "--sparse=always", status(t, p).PoolFile, filepath.Join(other.DataRoot, "pool.img"))
	must(t, clonefs.Unmount(t.Context(), cfg.DataRoot)) // two of one UUID cannot be mounted
	q := open(t, other)
	if got, err := os.ReadFile(filepath.Join(q.Root(), "file")); err != nil || len(got) != 10000 {
		t.Errorf("after the replay: %d bytes, %v", len(got), err)
	}
}
