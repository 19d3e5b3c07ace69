package clonefs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/clonefs"
	"slipway/clonefs/clonefstest"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	mib          = 1 << 20
	testPoolSize = 640 * mib
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// newRoot returns a data root whose pool is unmounted at the end.
func newRoot(t *testing.T) string {
	t.Helper()
	clonefstest.RequireRoot(t)
	root := t.TempDir()
	unmountLater(t, root)
	return root
}

func unmountLater(t *testing.T, root string) {
	t.Helper()
	t.Cleanup(func() {
		var err error
		for range 50 {
			if err = clonefs.Unmount(context.Background(), root); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("unmount: %v", err)
	})
}

func config(root string) clonefs.Config {
	return clonefs.Config{
		DataRoot: root, Method: clonefs.MethodPool, PoolSize: testPoolSize, Reserve: 64 * mib,
		Interval: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
}

func open(t *testing.T, cfg clonefs.Config) *clonefs.Pool {
	t.Helper()
	p, err := clonefs.Open(t.Context(), cfg)
	must(t, err)
	return p
}

func status(t *testing.T, p *clonefs.Pool) clonefs.Status {
	t.Helper()
	s, err := p.Status(t.Context())
	must(t, err)
	return s
}

// fill writes a file of incompressible data into the pool and onto the disk.
func fill(t *testing.T, file string, size int) {
	t.Helper()
	f, err := os.Create(file)
	must(t, err)
	chunk := clonefstest.Pattern(mib, uint64(size))
	for range size / mib {
		_, err = f.Write(chunk)
		must(t, err)
	}
	must(t, errors.Join(f.Sync(), f.Close()))
}

func TestPool(t *testing.T) {
	root := newRoot(t)
	p := open(t, config(root))
	s := status(t, p)
	if s.Method != clonefs.MethodPool || s.FileSystem != "xfs" || s.PoolFile != filepath.Join(root, "pool.img") || s.FileSize != testPoolSize {
		t.Errorf("status of a new pool: %+v", s)
	}
	if s.FileUsed > 80*mib {
		t.Errorf("an empty pool takes %d bytes of the host", s.FileUsed)
	}
	dio, err := os.ReadFile("/sys/block/" + filepath.Base(s.Device) + "/loop/dio")
	if err != nil || strings.TrimSpace(string(dio)) != "1" {
		t.Errorf("direct I/O of the loop device: %q, %v", dio, err)
	}
	must(t, p.CheckSpace(t.Context()))
	file := filepath.Join(p.Root(), "file")
	must(t, os.WriteFile(file, []byte("content"), 0o600))
	must(t, p.Close())

	again := open(t, config(root)) // adopted
	if got := status(t, again).Device; got != s.Device {
		t.Errorf("adopted pool is on %s, was on %s", got, s.Device)
	}
	must(t, clonefs.Unmount(t.Context(), root))
	if _, err := again.Status(t.Context()); !errdefs.IsUnavailable(err) {
		t.Errorf("status of a pool that is not mounted: %v", err)
	}
	open(t, config(root)) // mounted anew
	if got, err := os.ReadFile(file); err != nil || string(got) != "content" {
		t.Errorf("after mounting again: %q, %v", got, err)
	}
	busy, err := os.Open(file)
	must(t, err)
	if err := clonefs.Unmount(t.Context(), root); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("unmounting a busy pool: %v", err)
	}
	must(t, busy.Close())
}

func TestTwoPools(t *testing.T) {
	a, b := open(t, config(newRoot(t))), open(t, config(newRoot(t)))
	if a, b := status(t, a).Device, status(t, b).Device; a == b {
		t.Errorf("two pools on one device %s", a)
	}
}

func TestOpenAtOnce(t *testing.T) {
	root := newRoot(t)
	var devices [4]string
	var wg sync.WaitGroup
	for i := range devices {
		wg.Go(func() {
			p, err := clonefs.Open(t.Context(), config(root))
			if err != nil {
				t.Error(err)
				return
			}
			devices[i] = status(t, p).Device
		})
	}
	wg.Wait()
	for _, d := range devices {
		if d != devices[0] {
			t.Errorf("one pool on several devices: %v", devices)
		}
	}
}

func TestReflinkRoot(t *testing.T) {
	for _, fs := range clonefstest.FileSystems() {
		t.Run(fs.Name, func(t *testing.T) {
			cfg := config(fs.Mount(t, 2<<30))
			cfg.Method, cfg.PoolSize = "", 0
			if !fs.Reflinks {
				cfg.Method = clonefs.MethodReflink
				if _, err := clonefs.Open(t.Context(), cfg); !errdefs.IsFailedPrecondition(err) {
					t.Errorf("reflinks forced on %s: %v", fs.Name, err)
				}
				cfg.Method = clonefs.MethodCopy
			}
			p := open(t, cfg)
			want := map[bool]string{true: clonefs.MethodReflink, false: clonefs.MethodCopy}[fs.Reflinks]
			s := status(t, p)
			if s.Method != want || s.FileSystem != fs.Name || (s.Reason == "") != fs.Reflinks || s.PoolFile != "" {
				t.Errorf("status: %+v", s)
			}
			if freed, err := p.Trim(t.Context()); freed != 0 || err != nil {
				t.Errorf("trim: %d, %v", freed, err)
			}
			if err := p.Grow(t.Context(), 4<<30); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("grow: %v", err)
			}
			cfg.Reserve = s.Free + mib
			if err := open(t, cfg).CheckSpace(t.Context()); !errdefs.IsResourceExhausted(err) {
				t.Errorf("check of a full file system: %v", err)
			}
		})
	}
}

// TestContradictions: what is on disk is never overridden.
func TestContradictions(t *testing.T) {
	refused := func(t *testing.T, cfg clonefs.Config, say string) {
		t.Helper()
		_, err := clonefs.Open(t.Context(), cfg)
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), say) {
			t.Errorf("got %v, want a failed precondition that says %q", err, say)
		}
	}
	t.Run("method", func(t *testing.T) {
		cfg := config(newRoot(t))
		open(t, cfg)
		cfg.Method = clonefs.MethodCopy
		refused(t, cfg, "pool.img exists")
	})
	t.Run("files in the way", func(t *testing.T) {
		cfg := config(newRoot(t))
		must(t, os.MkdirAll(filepath.Join(cfg.DataRoot, "pool/volumes"), 0o755))
		refused(t, cfg, "would hide")
	})
	t.Run("files under the mount", func(t *testing.T) {
		cfg := config(newRoot(t))
		open(t, cfg)
		must(t, clonefs.Unmount(t.Context(), cfg.DataRoot))
		stray := filepath.Join(cfg.DataRoot, "pool/stray")
		must(t, os.WriteFile(stray, nil, 0o600))
		refused(t, cfg, "would hide")
		must(t, os.Remove(stray))
		open(t, cfg)
	})
	t.Run("foreign mount", func(t *testing.T) {
		cfg := config(newRoot(t))
		open(t, cfg)
		must(t, clonefs.Unmount(t.Context(), cfg.DataRoot))
		pool := filepath.Join(cfg.DataRoot, "pool")
		must(t, unix.Mount("tmpfs", pool, "tmpfs", 0, ""))
		refused(t, cfg, "mounted from tmpfs")
		must(t, unix.Unmount(pool, 0))
	})
	t.Run("zeros", func(t *testing.T) {
		cfg := config(newRoot(t))
		file := filepath.Join(cfg.DataRoot, "pool.img")
		must(t, os.WriteFile(file, make([]byte, mib), 0o600))
		refused(t, cfg, "not an XFS file system")
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, make([]byte, mib)) {
			t.Errorf("the file was touched: %v", err)
		}
	})
	t.Run("cut short", func(t *testing.T) {
		cfg := config(newRoot(t))
		open(t, cfg)
		must(t, clonefs.Unmount(t.Context(), cfg.DataRoot))
		must(t, os.Truncate(filepath.Join(cfg.DataRoot, "pool.img"), 300*mib))
		refused(t, cfg, "cut short")
	})
	t.Run("no reflinks", func(t *testing.T) {
		cfg := config(newRoot(t))
		file := filepath.Join(cfg.DataRoot, "pool.img")
		clonefstest.MakeSparse(t, file, testPoolSize)
		clonefstest.Run(t, "mkfs.xfs", "-q", "-m", "reflink=0", file)
		refused(t, cfg, "without reflinks")
	})
}

func TestRepair(t *testing.T) {
	cfg := config(newRoot(t))
	p := open(t, cfg)
	must(t, os.WriteFile(filepath.Join(p.Root(), "file"), []byte("content"), 0o600))
	if _, err := clonefs.Repair(t.Context(), cfg, clonefs.RepairOptions{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("repair of a mounted pool: %v", err)
	}
	must(t, clonefs.Unmount(t.Context(), cfg.DataRoot))
	f, err := os.OpenFile(filepath.Join(cfg.DataRoot, "pool.img"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 64), 128) // the superblock's counters
	must(t, errors.Join(err, f.Close()))
	if _, err := clonefs.Open(t.Context(), cfg); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "slipway pool repair") {
		t.Errorf("open of a damaged pool: %v", err)
	}
	out, err := clonefs.Repair(t.Context(), cfg, clonefs.RepairOptions{DiscardLog: true})
	if err != nil {
		t.Fatalf("repair: %v\n%s", err, out)
	}
	open(t, cfg)
	if got, err := os.ReadFile(filepath.Join(p.Root(), "file")); err != nil || string(got) != "content" {
		t.Errorf("after the repair: %q, %v", got, err)
	}
}

// TestUnavailable opens a pool where there are no loop devices.
func TestUnavailable(t *testing.T) {
	root := newRoot(t)
	self, err := os.Executable()
	must(t, err)
	for action, want := range map[string]string{"auto": "copy no pool file can be had: loop devices", "open": "no pool file can be had"} {
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-c", `mount -t tmpfs none /dev && exec "$0"`, self)
		cmd.Env = append(os.Environ(), envHelper+"="+action+":"+root)
		out, err := cmd.CombinedOutput()
		if (err == nil) != (action == "auto") || !strings.Contains(string(out), want) {
			t.Errorf("%s without loop devices: %v: %s", action, err, out)
		}
		if _, err := os.Lstat(filepath.Join(root, "pool.img")); err == nil {
			t.Error("a pool file was left behind")
		}
	}
	// What was begun by copying stays so, also when loop devices come back.
	must(t, os.Mkdir(filepath.Join(root, "pool/volumes"), 0o755))
	cfg := config(root)
	cfg.Method, cfg.PoolSize = "", 0
	if s := status(t, open(t, cfg)); s.Method != clonefs.MethodCopy && s.Method != clonefs.MethodReflink {
		t.Errorf("status: %+v", s)
	}
}
