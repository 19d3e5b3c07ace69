package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"slipway/clonefs"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

const mib = 1 << 20

// smallEngine is an engine in a small pool, which it asks for space.
func smallEngine(t *testing.T) (*engine, *clonefs.Pool) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a pool")
	}
	root := t.TempDir()
	pool, err := clonefs.Open(t.Context(), clonefs.Config{
		DataRoot: root, Method: clonefs.MethodPool, PoolSize: 512 * mib, Reserve: 256 * mib, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clonefs.Unmount(context.WithoutCancel(t.Context()), root); err != nil {
			t.Error(err)
		}
	})
	return openEngine(t, pool.Root(), func(c *Config) { c.Space = pool }), pool
}

// alive runs do beside something that needs a little space again and again, as a
// running database does, and fails the test if that does not get it.
func alive(t *testing.T, pool *clonefs.Pool, do func()) {
	t.Helper()
	done := make(chan struct{})
	var database sync.WaitGroup
	database.Go(func() {
		segment, log := filepath.Join(pool.Root(), "segment"), bytes.Repeat([]byte("log"), mib)
		for {
			if err := errors.Join(os.WriteFile(segment, log, 0o600), os.Remove(segment)); err != nil {
				t.Errorf("what runs got no space: %v", err)
				return
			}
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	do()
	close(done)
	database.Wait()
}

// zeros returns a gzipped tar archive of files with so many MiB of zeros each.
func zeros(t *testing.T, sizes ...int) []byte {
	t.Helper()
	var out, plain bytes.Buffer
	packed := gzip.NewWriter(&out)
	// As members of their own, so that each MiB is packed once and not a thousand
	// times.
	pack := func(b []byte) []byte {
		out.Reset()
		packed.Reset(&out)
		if _, err := packed.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := packed.Close(); err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(out.Bytes())
	}
	empty := pack(make([]byte, mib))
	var archive []byte
	for i, size := range sizes {
		plain.Reset()
		header := &tar.Header{Name: strconv.Itoa(i), Typeflag: tar.TypeReg, Size: int64(size) * mib, Mode: 0o644}
		if err := tar.NewWriter(&plain).WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		archive = append(append(archive, pack(plain.Bytes())...), bytes.Repeat(empty, size)...)
	}
	return append(archive, pack(make([]byte, 1024))...)
}

// smallLayer is an archive with one layer that is small as long as it is packed.
func smallLayer(t *testing.T) []byte {
	t.Helper()
	layer := zeros(t, 300)
	plain, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	id, err := digest.FromReader(plain)
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{id.String()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t, entry{name: "layer", content: string(layer)}, entry{name: "config", content: string(config)},
		entry{name: "manifest.json", content: `[{"Config":"config","RepoTags":["big:latest"],"Layers":["layer"]}]`})
}

// What comes in, however small it looks, does not take the space that is kept for
// running containers, and leaves nothing when it does not fit.
func TestSpaceIsKept(t *testing.T) {
	e, pool := smallEngine(t)
	load := func(archive []byte) func() error {
		return func() error { return e.Load(e.ctx, bytes.NewReader(archive), LoadOptions{}) }
	}
	packed := zeros(t, 300)
	for name, do := range map[string]func() error{
		"load of a large file":       load(packed),
		"load of many files":         load(zeros(t, 50, 51, 52, 53, 54, 55)),
		"load of a large layer":      load(smallLayer(t)),
		"import":                     func() error { return imported(e, packed) },
		"import of what fits packed": func() error { return imported(e, zeros(t, 120)) },
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			alive(t, pool, func() { err = do() })
			if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "kept for running containers") {
				t.Errorf("got %v", err)
			}
			if n, _ := e.blobs(t); n != 0 || len(e.snapshotDirs(t)) != 0 || len(e.ingests(t)) != 0 {
				t.Errorf("%d blobs, snapshots %q, ingests %q are left", n, e.snapshotDirs(t), e.ingests(t))
			}
			e.noLeaks(t)
		})
	}
}

func imported(e *engine, archive []byte) error {
	_, err := e.Import(e.ctx, ImportRequest{Layer: bytes.NewReader(archive), Source: "-"})
	return err
}

// refusing is a pool that has room so often and no more.
type refusing struct{ left atomic.Int64 }

func (r *refusing) CheckSpace(context.Context) error {
	if r.left.Add(-1) < 0 {
		return errdefs.ErrResourceExhausted.WithMessage("no room")
	}
	return nil
}

func TestPullKeepsSpace(t *testing.T) {
	host := newRegistry(t, "")
	e := newEngine(t)
	layer := tarOf(t, entry{name: "big", content: rand.Text()})
	if _, err := e.Import(e.ctx, ImportRequest{Layer: bytes.NewReader(layer), Source: "-", Ref: host + "/big"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Push(e.ctx, host+"/big", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	// Refused at once, while the layer comes, and before it is unpacked.
	for _, times := range []int64{0, 1, 2} {
		space := &refusing{}
		space.left.Store(times)
		other := newEngine(t, func(c *Config) { c.Space = space })
		other.room.bytes.Store(spaceStep - int64(len(layer))) // as if it were large
		var got messages
		if err := other.Pull(other.ctx, host+"/big", PullOptions{Progress: got.add}); !errdefs.IsResourceExhausted(err) {
			t.Errorf("after %d looks: %v", times, err)
		}
		if complete := strings.Contains(strings.Join(got.lines(), "\n"), "Download complete"); complete != (times == 2) {
			t.Errorf("after %d looks: messages %q", times, got.lines())
		}
		if n, _ := other.blobs(t); n != 0 || len(other.snapshotDirs(t)) != 0 || len(other.ingests(t)) != 0 {
			t.Errorf("after %d looks: %d blobs, snapshots %q, ingests %q are left", times, n, other.snapshotDirs(t), other.ingests(t))
		}
		other.noLeaks(t)
	}
}

// A disk that is full is not the archive's fault.
func TestStoreTellsWritingFromReading(t *testing.T) {
	e := newEngine(t)
	_, err := e.store(e.ctx, failingWriter{syscall.ENOSPC}, strings.NewReader("x"))
	if errdefs.IsInvalidArgument(err) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing: %v", err)
	}
	_, err = e.store(e.ctx, io.Discard, readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }))
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("reading: %v", err)
	}
}

func TestLoadRefusesSparseFiles(t *testing.T) {
	e := newEngine(t)
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "hole"), []byte("x"), 0o600), os.Truncate(filepath.Join(dir, "hole"), 1<<40)); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "posix"} {
		archive, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "--sparse", "--format="+format, "-c", "hole").Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Load(e.ctx, bytes.NewReader(archive), LoadOptions{}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("%s: %v", format, err)
		}
	}
}
