package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"slipway/internal/testutil"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plainRoot makes a container's directory with files, and a file beside it that nothing may reach.
func plainRoot(t *testing.T, files map[string]string, mounts ...Mount) (r *plain, dir, secret string) {
	t.Helper()
	top := t.TempDir()
	dir, secret = filepath.Join(top, "root"), filepath.Join(top, "secret")
	ok(t, os.Mkdir(dir, 0o755))
	ok(t, os.WriteFile(secret, []byte("secret"), 0o600))
	for name, content := range files {
		full := filepath.Join(dir, filepath.FromSlash(name))
		ok(t, os.MkdirAll(filepath.Dir(full), 0o755))
		ok(t, os.WriteFile(full, []byte(content), 0o600))
	}
	r, err := openPlain(dir, mounts)
	ok(t, err)
	t.Cleanup(func() { ok(t, r.Close()) })
	return r, dir, secret
}

func needsLinks(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		testutil.NeedsRealWindows(t, testutil.WineNoLinks)
	}
}

func archiveOf(t *testing.T, entries ...*tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range entries {
		content := h.Linkname
		if h.Typeflag == tar.TypeReg {
			h.Linkname, h.Size = "", int64(len(content))
		}
		ok(t, tw.WriteHeader(h))
		if h.Typeflag == tar.TypeReg {
			_, err := io.WriteString(tw, content)
			ok(t, err)
		}
	}
	ok(t, tw.Close())
	return &b
}

// file is an entry; its content is where a link's target would be, see archiveOf.
func file(name, content string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content, Mode: 0o644, ModTime: time.Unix(1_500_000_000, 0)}
}

func names(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	all := map[string]string{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		ok(t, err)
		b, err := io.ReadAll(tr)
		ok(t, err)
		all[h.Name] = string(b)
		if h.Mode != plainMode || h.Uid != 0 {
			t.Errorf("%s: mode %o, owner %d", h.Name, h.Mode, h.Uid)
		}
	}
}

func TestPlainPaths(t *testing.T) {
	r, _, _ := plainRoot(t, map[string]string{"data/a.txt": "A"})
	for _, p := range []string{`C:\data\a.txt`, `c:/data/a.txt`, "/data/a.txt", `\data\a.txt`, "data/a.txt", `data\.\x\..\a.txt`, `C:\..\..\data\a.txt`} {
		if b, err := r.ReadFile(p, 10); string(b) != "A" {
			t.Errorf("%s: %q, %v", p, b, err)
		}
		if st, err := r.Stat(p); err != nil || st.Name != "a.txt" || st.Size != 1 || !st.Mode.IsRegular() {
			t.Errorf("%s: %+v, %v", p, st, err)
		}
	}
	if st, err := r.Stat(`C:\`); err != nil || st.Name != `\` || !st.Mode.IsDir() {
		t.Errorf("the root: %+v, %v", st, err)
	}
	for _, p := range []string{`D:\data`, `\\server\share\x`, `C:\data\a.txt:stream`, `C:\data\NUL`, `C:\con.txt`, `C:\data\trailing.`, `C:\data\trailing `, `C:\a?b`} {
		_, statErr := r.Stat(p)
		for what, err := range map[string]error{
			"stat": statErr, "write": r.WriteFile(p, nil, 0o600), "append": r.AppendFile(p, nil, 0o600), "remove": r.Remove(p),
			"archive": r.Archive(t.Context(), p, io.Discard), "extract": r.Extract(t.Context(), p, archiveOf(t), ExtractOptions{}),
		} {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s %s: %v", what, p, err)
			}
		}
	}
	if _, err := r.Stat(`C:\none`); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := r.ReadFile(`C:\data`, 10); !errdefs.IsInvalidArgument(err) {
		t.Errorf("reading a folder: %v", err)
	}
	if _, err := r.ReadFile(`C:\data\a.txt`, 0); !errdefs.IsOutOfRange(err) {
		t.Errorf("a file that is too large: %v", err)
	}
	if runtime.GOOS == "windows" {
		if b, err := r.ReadFile(`C:\DATA\A.TXT`, 10); string(b) != "A" {
			t.Errorf("in another case: %q, %v", b, err)
		}
	}
}

func TestPlainFiles(t *testing.T) {
	r, dir, _ := plainRoot(t, nil)
	ok(t, r.WriteFile(`C:\f`, []byte("long content"), 0o600))
	ok(t, r.WriteFile(`C:\f`, []byte("one"), 0o600))
	ok(t, r.AppendFile(`C:\f`, []byte(", two"), 0o600))
	if b, err := os.ReadFile(filepath.Join(dir, "f")); string(b) != "one, two" {
		t.Errorf("%q, %v", b, err)
	}
	ok(t, r.Remove(`C:\f`))
	ok(t, r.Remove(`C:\f`))
	if err := r.Remove(`C:\`); !errdefs.IsInvalidArgument(err) {
		t.Errorf("removing the root: %v", err)
	}
}

func TestPlainCopyBothWays(t *testing.T) {
	// A path of more than the 260 characters that Windows' older functions take.
	long := strings.Repeat("a-name-of-thirty-characters-00/", 12) + "end"
	r, _, _ := plainRoot(t, map[string]string{"d/a": "A", "d/sub/b": "B", "d/" + long: "L"})
	var b bytes.Buffer
	ok(t, r.Archive(t.Context(), `C:\d`, &b))
	into, dir, _ := plainRoot(t, nil)
	ok(t, into.Extract(t.Context(), `C:\`, bytes.NewReader(b.Bytes()), ExtractOptions{}))
	want := map[string]string{"d/": "", "d/a": "A", "d/sub/": "", "d/sub/b": "B", "d/" + long: "L"}
	got := names(t, &b)
	for name, content := range want {
		if c, there := got[name]; !there || c != content {
			t.Errorf("%.40s: %q, %v", name, c, there)
		}
	}
	for _, name := range []string{"d/a", "d/sub/b", "d/" + long} {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if string(data) != want[name] {
			t.Errorf("extracted %.40s: %q, %v", name, data, err)
		}
	}
	ok(t, into.Extract(t.Context(), `C:\d`, archiveOf(t, file("a", "new")), ExtractOptions{}))
	data, _ := os.ReadFile(filepath.Join(dir, "d", "a"))
	info, err := os.Stat(filepath.Join(dir, "d", "a"))
	ok(t, err)
	if string(data) != "new" || !info.ModTime().Equal(time.Unix(1_500_000_000, 0)) {
		t.Errorf("replaced: %q of %s", data, info.ModTime())
	}
	if err := into.Extract(t.Context(), `C:\d\a`, archiveOf(t), ExtractOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("into a file: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrNoProgress)
	if err := r.Archive(ctx, `C:\d`, io.Discard); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPlainExport(t *testing.T) {
	r, _, _ := plainRoot(t, map[string]string{"d/a": "A", "z": "Z"})
	var b bytes.Buffer
	if err := r.Export(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	var names []string
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "d/ d/a z" {
		t.Errorf("names %q", got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrNoProgress)
	if err := r.Export(ctx, io.Discard); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPlainExtractRefuses(t *testing.T) {
	r, dir, secret := plainRoot(t, map[string]string{"folder/x": "x", "plain": "p"})
	for name, entry := range map[string]*tar.Header{
		"up":             file("../secret", "bad"),
		"up, backslash":  file(`..\secret`, "bad"),
		"stream":         file("plain:hidden", "bad"),
		"device":         file("aux", "bad"),
		"trailing dot":   file("plain.", "bad"),
		"control":        file("a\x01b", "bad"),
		"hard link up":   {Typeflag: tar.TypeLink, Name: "l", Linkname: "../secret"},
		"fifo":           {Typeflag: tar.TypeFifo, Name: "fifo"},
		"device node":    {Typeflag: tar.TypeChar, Name: "node"},
		"not a tar type": {Typeflag: 'Q', Name: "q"},
	} {
		if err := r.Extract(t.Context(), `C:\`, archiveOf(t, entry), ExtractOptions{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, entry := range []*tar.Header{file("folder", "bad"), {Typeflag: tar.TypeDir, Name: "plain"}} {
		if err := r.Extract(t.Context(), `C:\`, archiveOf(t, entry), ExtractOptions{NoOverwriteDirNonDir: true}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s of another kind: %v", entry.Name, err)
		}
	}
	entries, err := os.ReadDir(dir)
	ok(t, err)
	if b, _ := os.ReadFile(secret); string(b) != "secret" || len(entries) != 2 {
		t.Errorf("secret %q, and %v", b, entries)
	}
	// An absolute name is one beneath the folder, and one kind replaces the other unless told not to.
	ok(t, r.Extract(t.Context(), `C:\`, archiveOf(t, file("/folder", "now a file"), file("\\new\\f", "n")), ExtractOptions{}))
	if b, err := r.ReadFile(`C:\folder`, 100); string(b) != "now a file" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := r.ReadFile(`C:\new\f`, 100); string(b) != "n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestPlainLinks(t *testing.T) {
	needsLinks(t)
	r, dir, secret := plainRoot(t, map[string]string{"d/f": "content"})
	ok(t, r.Extract(t.Context(), `C:\`, archiveOf(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "d"}), ExtractOptions{}))
	if st, err := r.Stat(`C:\l`); err != nil || st.LinkTarget != `C:\d` || st.Mode&fs.ModeSymlink == 0 {
		t.Errorf("a link: %+v, %v", st, err)
	}
	if st, err := r.Stat(`C:\l\`); err != nil || !st.Mode.IsDir() {
		t.Errorf("what it leads to: %+v, %v", st, err)
	}
	if b, err := r.ReadFile(`C:\l\f`, 100); string(b) != "content" {
		t.Errorf("through it: %q, %v", b, err)
	}
	for name, target := range map[string]string{"abs": secret, "up": "../secret"} {
		ok(t, os.Symlink(target, filepath.Join(dir, name)))
		if b, err := r.ReadFile(`C:\`+name, 100); err == nil {
			t.Errorf("%s: read %q", name, b)
		}
		if err := r.WriteFile(`C:\`+name, []byte("bad"), 0o600); err == nil {
			t.Errorf("%s: was written", name)
		}
	}
	ok(t, os.Symlink(filepath.Dir(secret), filepath.Join(dir, "out")))
	if err := r.Extract(t.Context(), `C:\`, archiveOf(t, file("out/secret", "bad")), ExtractOptions{}); err == nil {
		t.Error("extracted through a link that leads out")
	}
	if b, _ := os.ReadFile(secret); string(b) != "secret" {
		t.Errorf("secret %q", b)
	}
}

// TestPlainRace: a folder that is a link to the outside at one moment and a folder at the next.
func TestPlainRace(t *testing.T) {
	needsLinks(t)
	r, dir, secret := plainRoot(t, map[string]string{"d/f": "inside", "real/f": "inside", "real/secret": "inside"})
	link := filepath.Join(dir, "flip")
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			_ = os.Symlink(filepath.Dir(secret), link)
			_ = os.Remove(link)
			_ = os.Rename(filepath.Join(dir, "real"), link)
			_ = os.Rename(link, filepath.Join(dir, "real"))
		}
	}()
	read := 0
	for range 3000 {
		if b, err := r.ReadFile(`C:\flip\secret`, 100); err == nil {
			if read++; string(b) != "inside" {
				t.Fatalf("read %q", b)
			}
		}
		_ = r.Extract(t.Context(), `C:\`, archiveOf(t, file("flip/secret", "inside")), ExtractOptions{})
		_ = r.WriteFile(`C:\flip\secret`, []byte("inside"), 0o600)
	}
	stop.Store(true)
	<-done
	if b, _ := os.ReadFile(secret); string(b) != "secret" {
		t.Fatalf("secret %q", b)
	}
	if read == 0 {
		t.Error("nothing was ever read")
	}
}

func TestPlainMounts(t *testing.T) {
	volume := t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(volume, "sub"), 0o755))
	ok(t, os.WriteFile(filepath.Join(volume, "sub", "v"), []byte("V"), 0o600))
	sealed := t.TempDir()
	r, dir, _ := plainRoot(t, map[string]string{"app/data/hidden": "H", "app/x": "X", "sealed/y": "Y"},
		Mount{Path: `C:\App\Data`, Source: volume}, Mount{Path: `C:\sealed`, Source: sealed, ReadOnly: true})
	place := `C:\App\Data`
	if runtime.GOOS != "windows" {
		place = `C:\app\data` // the folder above has but one name there
	}
	if b, err := r.ReadFile(place+`\sub\v`, 10); string(b) != "V" {
		t.Errorf("%q, %v", b, err)
	}
	ok(t, r.WriteFile(place+`\new`, []byte("N"), 0o600))
	if b, err := os.ReadFile(filepath.Join(volume, "new")); string(b) != "N" {
		t.Errorf("%q, %v", b, err)
	}
	var b bytes.Buffer
	ok(t, r.Archive(t.Context(), `C:\app`, &b))
	want := map[string]string{"app/": "", "app/data/": "", "app/data/new": "N", "app/data/sub/": "", "app/data/sub/v": "V", "app/x": "X"}
	if diff := cmp.Diff(want, names(t, &b)); diff != "" {
		t.Error(diff)
	}
	ok(t, r.Extract(t.Context(), `C:\app`, archiveOf(t, file("data/e", "E")), ExtractOptions{}))
	if b, err := os.ReadFile(filepath.Join(volume, "e")); string(b) != "E" {
		t.Errorf("%q, %v", b, err)
	}
	if err := r.Extract(t.Context(), `C:\app`, archiveOf(t, file("data", "E")), ExtractOptions{}); !errdefs.IsConflict(err) {
		t.Errorf("replacing the volume: %v", err)
	}
	if err := r.Writable(`C:\sealed`); !errdefs.IsPermissionDenied(err) {
		t.Errorf("writing to a volume that is read-only: %v", err)
	}
	ok(t, r.Writable(place))
	if _, err := os.Stat(filepath.Join(dir, "app", "data", "hidden")); err != nil {
		t.Error(err)
	}
}

func TestPlainChanges(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	old := time.Unix(1_500_000_000, 0)
	for _, top := range []string{lower, upper} {
		for _, name := range []string{"same", "d/changed", "d/gone", "e/f/same", "vol/hidden"} {
			full := filepath.Join(top, filepath.FromSlash(name))
			ok(t, os.MkdirAll(filepath.Dir(full), 0o755))
			ok(t, os.WriteFile(full, []byte("x"), 0o600))
			ok(t, os.Chtimes(full, old, old))
		}
	}
	ok(t, os.WriteFile(filepath.Join(upper, "d", "changed"), []byte("y"), 0o600))
	ok(t, os.Remove(filepath.Join(upper, "d", "gone")))
	ok(t, os.MkdirAll(filepath.Join(upper, "n", "deep"), 0o755))
	ok(t, os.WriteFile(filepath.Join(upper, "n", "deep", "new"), nil, 0o600))
	ok(t, os.WriteFile(filepath.Join(upper, "vol", "not shown"), nil, 0o600))
	ok(t, os.MkdirAll(filepath.Join(upper, "made", "for", "volume", "in it"), 0o755))
	ok(t, os.MkdirAll(filepath.Join(upper, "Users", "c", "Temp"), 0o755))
	ok(t, os.MkdirAll(filepath.Join(upper, "Users", "c", "Roaming"), 0o755))
	ok(t, os.WriteFile(filepath.Join(upper, "Users", "c", "Temp", "t"), nil, 0o600))
	changes, err := plainChanges(t.Context(), lower, upper, []string{`C:\vol`, `C:\made\for\volume`}, []string{`C:\Users\c\Temp`, `C:\Users\c\Roaming`})
	ok(t, err)
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprintf("%s %s", c.Kind, c.Path))
	}
	want := []string{`C C:\d`, `A C:\n`, `A C:\n\deep`, `A C:\n\deep\new`, `A C:\Users`, `A C:\Users\c`, `A C:\Users\c\Temp`, `A C:\Users\c\Temp\t`, `C C:\d\changed`, `D C:\d\gone`}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := plainChanges(t.Context(), lower, lower, nil, nil); err != nil {
		t.Error(err)
	}
}
