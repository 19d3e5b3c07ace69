package fromdir

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestWriteTo(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{"./": "", "./Files/": "", "./Files/a": "a", "./bin/": "", "./bin/x.exe": strings.Repeat("x", 3<<20), "./empty": "", "./Ünï": "u"}
	for name, content := range want {
		if !strings.HasSuffix(name, "/") {
			put(t, dir, name, content)
		}
	}
	links := int64(0)
	if runtime.GOOS != "windows" {
		if err := os.Symlink("bin/x.exe", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", filepath.Join(dir, "sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		want["./link"], links = "-> bin/x.exe", 1
	}
	f, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if f.Files != 4 || f.Directories != 3 || f.Links != links || f.Size != 3<<20+2 || links > 0 && !slices.Equal(f.LeftOut, []string{"sock"}) {
		t.Errorf("found %+v", f)
	}
	var archive bytes.Buffer
	var last, total int64
	if err := f.WriteTo(t.Context(), &archive, func(done, of int64) {
		if done < last {
			t.Error("progress goes back")
		}
		last, total = done, of
	}); err != nil {
		t.Fatal(err)
	}
	if last != f.Size || total != f.Size {
		t.Errorf("progress ended with %d of %d", last, total)
	}
	got := map[string]string{}
	first := ""
	for in := tar.NewReader(&archive); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = header.Name
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = string(content)
		if header.Linkname != "" {
			got[header.Name] = "-> " + header.Linkname
		}
	}
	if first != "./" || !maps.Equal(got, want) {
		t.Errorf("the archive begins with %q and has %q", first, slices.Sorted(maps.Keys(got)))
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "file", "x")
	if _, err := Open(t.Context(), filepath.Join(dir, "nothing")); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "file")); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	f, err := Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	cancel(stop)
	if err := f.WriteTo(ctx, io.Discard, nil); !errors.Is(err, stop) {
		t.Error(err)
	}
}

// A file that shrinks while it is read is named.
func TestChange(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", strings.Repeat("x", 4<<20))
	f, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	shrink := writerFunc(func(p []byte) (int, error) {
		if len(p) > 1<<10 {
			_ = os.Truncate(filepath.Join(dir, "a"), 1<<20)
		}
		return len(p), nil
	})
	if err := f.WriteTo(t.Context(), shrink, nil); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "a changed while") {
		t.Error(err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
